"""The board hands every job to one slot, the same to all its ranks, and again when workers restart."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from curriculum_ray.distributed import board as boards
from curriculum_ray.distributed.board import Board
from curriculum_ray.distributed.entry import Entry
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.runs.jobs import Dropped, Failed, Finished, Job, Started, Stopped
from tests.distributed.jobs import as_job, progress
from tests.tuning.studies import result


def _run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 10))


def _job(key: str, pack: str | None = None) -> Job:
    return as_job(Path("nowhere"), key, RunConfig(), pack)


FINISHED = Finished(result=result())


async def _attempts(board: Board, key: str) -> int:
    return (await board.status())[key].attempts


async def _take(board: Board, slot: int, generation: int, index: int) -> Job:
    """The one job that a slot without packs takes."""
    jobs = await board.take(slot, generation, index)
    assert jobs is not None
    (job,) = jobs
    return job


async def _keys(board: Board, generation: int, index: int, most: int = 3) -> list[str]:
    """The keys of what a slot with packs takes."""
    jobs = await board.take(0, generation, index, most)
    assert jobs is not None
    return [job.key for job in jobs]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("BucketError: 503", "; the last time they said BucketError: 503"),
        (None, " (killed, out of memory, or a crash in native code)"),
    ],
)
def test_a_job_that_is_given_up_says_why_its_workers_died_or_what_they_may_have_died_of(
    said: str | None, why: str
) -> None:
    entry = Entry(job=_job("a"), said=said)
    assert entry.die(2) is None
    assert entry.die(2) == f"its workers died 2 times without making further progress{why}"


def test_a_change_of_the_number_of_workers_is_no_death_however_often() -> None:
    async def work() -> None:
        board = Board(max_attempts=2)
        await board.submit(_job("a"))
        for generation in range(5):
            assert (await _take(board, 0, generation, 0)).key == "a"
            await board.note_resize(0)
        started = [event for event in await board.events("a", 0, 1.0) if isinstance(event, Started)]
        assert [event.resized for event in started] == [False, True, True, True, True]
        assert (await _take(board, 0, 5, 0)).key == "a"
        assert (await _take(board, 0, 6, 0)).key == "a", "the first death"
        assert await board.events("a", 5, 1.0) == [
            Started(attempt=6, resized=True),
            Started(attempt=7),
        ]

    _run(work())


def test_all_ranks_of_a_slot_get_the_same_job_and_slots_get_different_ones() -> None:
    async def work() -> None:
        board = Board()
        await board.submit(_job("a"))
        await board.submit(_job("b"))
        first = [await _take(board, 0, 7, 0) for _ in range(2)]
        second = await _take(board, 1, 8, 0)
        assert [job.key for job in first] == ["a", "a"]
        assert second.key == "b"

    _run(work())


def test_the_next_job_waits_until_the_one_before_has_ended() -> None:
    async def work() -> None:
        board = Board()
        await board.submit(_job("a"))
        await board.submit(_job("b"))
        await board.take(0, 7, 0)
        early = asyncio.create_task(_take(board, 0, 7, 1))
        await asyncio.sleep(0.05)
        assert not early.done()
        await board.end("a", FINISHED)
        assert (await early).key == "b"

    _run(work())


def test_restarted_workers_get_the_interrupted_job_again_until_it_has_had_its_attempts() -> None:
    async def work() -> None:
        board = Board(max_attempts=2)
        await board.submit(_job("a"))
        await board.submit(_job("b"))
        await _take(board, 0, 1, 0)
        assert await _attempts(board, "a") == 1
        assert (await _take(board, 0, 2, 0)).key == "a"
        assert await _attempts(board, "a") == 2
        assert (await _take(board, 0, 3, 0)).key == "b"
        status = await board.status()
        assert status["a"].state == "failed"
        assert "died 2 times" in status["a"].reason

    _run(work())


def test_a_job_that_fails_by_its_workers_deaths_says_what_they_said_the_last_time() -> None:
    async def work() -> None:
        board = Board(max_attempts=2)
        await board.submit(_job("a"))
        await _take(board, 0, 1, 0)
        await board.record_death("a", "RuntimeError: of the first attempt")
        await _take(board, 0, 2, 0)
        await board.record_death("a", "RuntimeError: no memory")
        await board.record_death("a", "RuntimeError: the peer is gone")
        await board.close()
        await board.take(0, 3, 0)
        assert (await board.status())["a"].reason.endswith("said RuntimeError: no memory")

    _run(work())


def test_a_job_that_gets_further_each_time_is_served_again_without_end() -> None:
    async def work() -> None:
        board = Board(max_attempts=2)
        await board.submit(_job("a"))
        for attempt in range(1, 8):
            assert (await _take(board, 0, attempt, 0)).key == "a"
            assert await _attempts(board, "a") == attempt
            await board.report("a", progress(100 * attempt))
        assert (await _take(board, 0, 8, 0)).key == "a"
        assert await _attempts(board, "a") == 8
        await board.report("a", progress(650))
        waiting = asyncio.create_task(board.take(0, 9, 0))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        assert (await board.status())["a"].state == "failed"
        await board.close()
        await waiting

    _run(work())


def test_a_cancelled_run_is_told_so_at_its_next_report_and_a_queued_one_never_starts() -> None:
    async def work() -> None:
        board = Board()
        await board.submit(_job("a"))
        await board.submit(_job("b"))
        await board.take(0, 1, 0)
        assert await board.report("a", progress(1)) is False
        await board.cancel("a")
        await board.cancel("b")
        assert await board.report("a", progress(2)) is True
        await board.end("a", Stopped())
        waiting = asyncio.create_task(board.take(0, 1, 1))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        assert (await board.status())["b"].state == "stopped"
        await board.close()
        assert await waiting is None

    _run(work())


def test_events_wait_for_news_and_come_in_order() -> None:
    async def work() -> None:
        board = Board()
        await board.submit(_job("a"))
        waiting = asyncio.create_task(board.events("a", 0, 5.0))
        await board.take(0, 1, 0)
        assert await waiting == [Started(attempt=1)]
        await board.report("a", progress(5))
        await board.end("a", FINISHED)
        assert await board.events("a", 1, 5.0) == [progress(5), FINISHED]
        assert await board.events("a", 3, 0.01) == []

    _run(work())


def test_a_report_wakes_neither_the_listener_of_another_run_nor_an_idle_slot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: Counter[str] = Counter()
    count: Any = Entry.count
    following = Board._next

    def looked(entry: Entry) -> int:
        looks[entry.job.key] += 1
        return int(count.fget(entry))

    def idle(self: Board, *arguments: Any) -> list[str]:
        looks["the idle slot"] += 1
        return following(self, *arguments)

    async def work() -> None:
        board = Board()
        for slot, key in enumerate("ab"):
            await board.submit(_job(key))
            await board.take(slot, 1, 0)
        waiting = [
            asyncio.create_task(board.events("a", 1, 5.0)),
            asyncio.create_task(board.events("b", 1, 5.0)),
            asyncio.create_task(board.take(2, 1, 0)),
        ]
        await asyncio.sleep(0.05)
        before = Counter(looks)
        await board.report("a", progress(5))
        assert await waiting[0] == [progress(5)]
        await asyncio.sleep(0.05)
        assert set(looks - before) == {"a"}
        await board.report("b", progress(7))
        assert await waiting[1] == [progress(7)]
        await board.close()
        assert await waiting[2] is None

    monkeypatch.setattr(Entry, "count", property(looked))
    monkeypatch.setattr(Board, "_next", idle)
    _run(work())


def test_each_of_two_who_wait_for_a_run_hears_of_it() -> None:
    """An actor that was lost may still wait when its successor does."""

    async def work() -> None:
        board = Board()
        await board.submit(_job("a"))
        waiting = [asyncio.create_task(board.events("a", 0, 5.0)) for _ in range(2)]
        await asyncio.sleep(0.05)
        await board.take(0, 1, 0)
        assert [await each for each in waiting] == [[Started(attempt=1)]] * 2

    _run(work())


def test_a_pack_that_one_rank_takes_is_there_for_another_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        board = Board()
        await board.submit(_job("a", "x"))
        monkeypatch.setattr(boards, "_LINGER_S", 0.2)
        first = asyncio.create_task(_keys(board, 1, 0))
        await asyncio.sleep(0.05)
        monkeypatch.setattr(boards, "_LINGER_S", 60.0)
        second = asyncio.create_task(_keys(board, 1, 0))
        assert [await first, await second] == [["a"], ["a"]]

    _run(work())


def test_workers_that_have_been_replaced_wait_no_longer() -> None:
    async def work() -> None:
        board = Board()
        old = asyncio.create_task(board.take(0, 1, 0))
        await asyncio.sleep(0.05)
        new = asyncio.create_task(board.take(0, 2, 0))
        assert await old is None
        await board.close()
        assert await new is None

    _run(work())


def test_more_who_wait_than_calls_that_are_served_at_a_time_keep_no_other_call_from_its_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(boards, "_WAIT_S", 0.02)

    async def work() -> None:
        board, turns = Board(), asyncio.Semaphore(2)  # as the actor's max_concurrency

        async def call(wanted: Any, *arguments: Any) -> Any:
            async with turns:
                return await wanted(*arguments)

        async def jobs(slot: int) -> list[Job] | None:
            taken: list[Job] | None = []
            while taken == []:
                taken = await call(board.take, slot, 1, 0)
            return taken

        async def opened(slot: int) -> bool | None:
            there: bool | None = False
            while there is False:
                there = await call(board.wait_for_job, slot)
            return there

        taking = [asyncio.create_task(jobs(slot)) for slot in range(3)]
        waiting = [asyncio.create_task(opened(slot)) for slot in range(3, 6)]
        await asyncio.sleep(0.05)
        await call(board.submit, _job("a"))
        first, _ = await asyncio.wait(taking, return_when=asyncio.FIRST_COMPLETED)
        assert [job.key for task in first for job in task.result() or ()] == ["a"]
        await call(board.end, "a", FINISHED)
        assert (await board.status())["a"].state == "finished"
        await call(board.close)
        assert [await task for task in taking if task not in first] == [None, None]
        assert {await task for task in waiting} <= {True, None}

    _run(work())


@pytest.mark.parametrize("last", [FINISHED, Failed(reason="out of memory")])
def test_a_trial_that_submits_a_job_that_has_ended_again_hears_how(last: Any) -> None:
    async def work() -> None:
        board = Board()
        await board.submit(_job("a"))
        await board.take(0, 1, 0)
        await board.end("a", last)
        await board.submit(_job("a"))
        assert await board.events("a", 0, 5.0) == [Started(attempt=1), last]
        assert (await board.status())["a"].attempts == 1
        await board.submit(_job("b"))
        assert (await _take(board, 0, 1, 1)).key == "b"

    _run(work())


def test_a_run_that_the_judge_stopped_is_not_begun_again_and_one_that_was_cancelled_is() -> None:
    async def work() -> None:
        board = Board(judge=lambda key, progress: "below the median" if key == "a" else None)
        for slot, key in enumerate("ab"):
            await board.submit(_job(key))
            await board.take(slot, 1, 0)
        assert await board.report("a", progress(5))
        await board.cancel("b")
        for key in "ab":
            await board.end(key, Stopped())
            await board.submit(_job(key))
        states = {key: (entry.state, entry.reason) for key, entry in (await board.status()).items()}
        assert states == {"a": ("stopped", "below the median"), "b": ("queued", None)}
        assert (await _take(board, 0, 1, 1)).key == "b"

    _run(work())


def test_the_first_end_counts() -> None:
    async def work() -> None:
        board = Board()
        await board.submit(_job("a"))
        await board.take(0, 1, 0)
        await board.end("a", Failed(reason="first"))
        await board.end("a", FINISHED)
        assert (await board.status())["a"].reason == "first"

    _run(work())


def test_when_no_slot_is_left_every_unfinished_job_fails_with_the_reason() -> None:
    async def work() -> None:
        board = Board()
        for key in "abc":
            await board.submit(_job(key))
        await board.take(0, 1, 0)
        await board.end("a", FINISHED)
        await board.fail_all("no GPU answers")
        states = {key: entry.state for key, entry in (await board.status()).items()}
        assert states == {"a": "finished", "b": "failed", "c": "failed"}
        await board.submit(_job("d"))
        assert await board.events("d", 0, 5.0) == [Failed(reason="no GPU answers")], "a later one, too"

    _run(work())


def test_the_jobs_of_a_slot_that_has_ended_go_to_another_before_those_that_wait() -> None:
    async def work() -> None:
        board = Board(max_attempts=2)
        for key in "abc":
            await board.submit(_job(key))
        await _take(board, 0, 1, 0)
        assert (await _take(board, 1, 1, 0)).key == "b"
        await board.end("b", FINISHED)
        assert [await board.taken([slot]) for slot in (0, 1)] == [1, 1]
        await board.leave([0])
        assert (await _take(board, 1, 1, 1)).key == "a"
        assert await _attempts(board, "a") == 2
        await board.leave([1])
        assert "died 2 times" in str((await board.status())["a"].reason)
        assert (await _take(board, 2, 1, 0)).key == "c"

    _run(work())


def test_stopping_all_waits_for_the_running_and_leaves_the_queued_unstarted() -> None:
    async def work() -> None:
        board = Board()
        await board.submit(_job("a"))
        await board.submit(_job("b"))
        await board.take(0, 1, 0)
        for seconds in (0.01, 0.0):
            assert [job.key for job in await board.stop_all(seconds)] == ["a"]
        waiting = asyncio.create_task(board.stop_all(5.0))
        assert await board.report("a", progress(1)) is True
        await board.end("a", Stopped())
        assert await waiting == []
        assert await board.stop_all(0.0) == []

    _run(work())


def test_events_that_were_read_are_forgotten_and_the_count_goes_on() -> None:
    async def work() -> None:
        board = Board()
        await board.submit(_job("a"))
        await board.take(0, 1, 0)
        seen = 0
        for images in range(5000):
            await board.report("a", progress(images))
            events = await board.events("a", seen, 5.0)
            seen += len(events)
            assert events[-1] == progress(images)
        assert len(board._entries["a"].events) <= 2
        await board.end("a", FINISHED)
        assert await board.events("a", seen, 5.0) == [FINISHED]

    _run(work())


def test_events_that_nobody_reads_are_bounded_and_counted() -> None:
    async def work() -> None:
        board = Board()
        await board.submit(_job("a"))
        await board.take(0, 1, 0)
        for images in range(3000):
            await board.report("a", progress(images))
        assert len(board._entries["a"].events) == 1000
        events = await board.events("a", 0, 5.0)
        assert len(events) == 3001
        assert events[0] == Dropped()
        assert events[-1] == progress(2999)
        assert await board.events("a", len(events), 0.01) == []

    _run(work())


def test_retired_workers_take_no_more_and_their_successors_go_on() -> None:
    async def work() -> None:
        board = Board()
        await board.submit(_job("a"))
        await _take(board, 0, 1, 0)
        await board.end("a", FINISHED)
        waiting = [asyncio.create_task(board.take(0, 1, 1)) for _ in range(2)]
        await asyncio.sleep(0.05)
        await board.retire(0, 1)
        await board.submit(_job("b"))
        assert [await each for each in waiting] == [None, None]
        assert (await _take(board, 0, 2, 0)).key == "b"
        await board.retire(0, 1)
        await board.end("b", FINISHED)
        await board.submit(_job("c"))
        assert (await _take(board, 0, 2, 1)).key == "c"

    _run(work())


def test_a_slot_waits_for_a_job_unless_one_is_queued_or_its_own_are_to_be_taken_again() -> None:
    async def work() -> None:
        board = Board()
        for key in "ab":
            await board.submit(_job(key, "x"))
        assert await board.wait_for_job(0)
        assert await _keys(board, 1, 0, most=2) == ["a", "b"]
        waiting = [asyncio.create_task(board.wait_for_job(slot)) for slot in (0, 1)]
        await asyncio.sleep(0.05)
        assert not any(each.done() for each in waiting)
        await board.separate(["a", "b"])
        assert await waiting[0]
        await board.close()
        assert not await waiting[1]

    _run(work())


def test_a_slot_that_packs_takes_queued_jobs_of_one_kind_together_and_others_by_themselves() -> None:
    async def work() -> None:
        board = Board()
        for key, pack in (("a", "x"), ("b", "y"), ("c", "x"), ("d", None), ("e", "x"), ("f", "x")):
            await board.submit(_job(key, pack))
        taken = []
        for index in range(4):
            taken.append(await _keys(board, 1, index))
            for key in taken[-1]:
                await board.end(key, FINISHED)
        assert taken == [["a", "c", "e"], ["b"], ["d"], ["f"]]

    _run(work())


def test_a_pack_that_is_not_full_waits_a_moment_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        board = Board()
        await board.submit(_job("a", "x"))
        waiting = asyncio.create_task(_keys(board, 1, 0))
        await asyncio.sleep(0.05)
        await board.submit(_job("b", "x"))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await board.submit(_job("c", "x"))
        assert await waiting == ["a", "b", "c"]
        for key in "abc":
            await board.end(key, FINISHED)
        monkeypatch.setattr(boards, "_LINGER_S", 0.05)
        await board.submit(_job("d", "x"))
        assert await _keys(board, 1, 1) == ["d"]

    _run(work())


def test_the_next_pack_waits_for_the_last_of_the_one_before() -> None:
    async def work() -> None:
        board = Board()
        for key in "abcd":
            await board.submit(_job(key, "x"))
        assert await _keys(board, 1, 0, most=2) == ["a", "b"]
        early = asyncio.create_task(_keys(board, 1, 1, most=2))
        await board.end("a", Failed(reason="its own fault"))
        await asyncio.sleep(0.05)
        assert not early.done()
        await board.end("b", FINISHED)
        assert await early == ["c", "d"]

    _run(work())


def test_a_pack_whose_workers_die_again_is_taken_apart_and_only_the_guilty_one_fails() -> None:
    async def work() -> None:
        board = Board()
        for key in "abc":
            await board.submit(_job(key, "x"))
        assert await _keys(board, 1, 0) == ["a", "b", "c"]
        assert await _keys(board, 2, 0) == ["a", "b", "c"]
        assert await _keys(board, 3, 0) == ["a"]
        await board.end("a", FINISHED)
        assert await _keys(board, 3, 1) == ["b"]
        assert await _keys(board, 4, 0) == ["c"]
        await board.end("c", FINISHED)
        states = {key: entry.state for key, entry in (await board.status()).items()}
        assert states == {"a": "finished", "b": "failed", "c": "finished"}

    _run(work())


def test_jobs_that_failed_together_are_served_one_by_one_before_any_other() -> None:
    async def work() -> None:
        board = Board()
        for key in "abcd":
            await board.submit(_job(key, "x"))
        assert await _keys(board, 1, 0) == ["a", "b", "c"]
        await board.end("b", FINISHED)
        await board.separate(["a", "c"])
        assert await _keys(board, 1, 1) == ["a"]
        await board.end("a", Failed(reason="its own fault"))
        assert await _keys(board, 1, 2) == ["c"]
        await board.cancel("c")
        await board.end("c", Stopped())
        assert await _keys(board, 1, 3, most=1) == ["d"]

    _run(work())


def test_a_cancelled_job_takes_no_place_in_a_pack() -> None:
    async def work() -> None:
        board = Board()
        for key in "abcd":
            await board.submit(_job(key, "x"))
        await board.cancel("a")
        await board.cancel("c")
        assert await _keys(board, 1, 0, most=2) == ["b", "d"]
        assert (await board.status())["a"].state == "stopped"

    _run(work())
