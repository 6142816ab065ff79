"""The display of a search: plain lines without a terminal, a live picture in one, a fair time left."""

import io
import threading

import pytest
from rich.console import Console

from tests.tuning.studies import record, schedule
from tuning.evidence.keys import TrialKey
from tuning.study.config import StudyConfig
from tuning.study.plan import StudyPlan
from tuning.terminal import display as module
from tuning.terminal.display import Display
from tuning.terminal.drawing import draw
from tuning.terminal.tables import final_table

TOTAL = 76800


def terminal(width=100):
    return Console(force_terminal=True, width=width, file=io.StringIO(), _environ={})


def plain():
    return Console(file=io.StringIO(), width=40, _environ={})


def text_of(console):
    return console.file.getvalue()


def picture(progress, width=100):
    console = Console(width=width, file=io.StringIO(), _environ={})
    console.print(draw(progress.snapshot()))
    return text_of(console)


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test turns."""

    class Clock:
        now = 0.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def test_without_a_terminal_each_event_is_one_plain_line():
    console = plain()
    with Display(2, TOTAL, console) as progress:
        progress.started(record(trial=0, name="[bold]a long name[/bold] that is wider than the console"))
        progress.update(0, 100, 0, 2, 0.5)
        progress.update(0, 200, 0, 2, 0.4)
        progress.update(0, 40000, 1, 2, 0.3)
        progress.finished(record(7.5, trial=0))
        progress.started(record(trial=1))
        progress.failed(record(None, trial=1, reason="worker died:\n  out of memory"))
        progress.note("going on")
    lines = text_of(console).splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "trial 0 started",
        "trial 0 stage 2/2 at 40k of 77k images, loss 0.300",
        "trial 0 (1/2)",
        "trial 1 started",
        "trial 1 (2/2)",
        "going on",
    ]
    assert "[bold]a long name[/bold]" in lines[0]
    assert "FID 7.50" in lines[2]
    assert "failed · worker died: out of memory" in lines[4]
    assert "\x1b" not in text_of(console)


def test_a_trial_that_waits_for_workers_has_not_started():
    console = plain()
    with Display(2, TOTAL, console) as progress:
        progress.queued(record(trial=0))
        assert text_of(console) == ""
        assert "0 running, 1 waiting" in picture(progress)
        for _ in range(2):  # again, after its workers were lost
            progress.started(record(trial=0))
    assert text_of(console).startswith("trial 0 started: ")
    assert text_of(console).count("started") == 1
    assert "1 running" in picture(progress)


def test_in_a_terminal_stages_are_shown_and_not_printed():
    console = terminal()
    with Display(2, TOTAL, console) as progress:
        progress.started(record(trial=0, name="a schedule"))
        progress.update(0, 100, 0, 20, 0.5)
        progress.update(0, 40000, 2, 20, 0.3)
        shown = picture(progress)
    assert "3/20" in shown
    assert "40k/77k" in shown
    assert "trial 0 stage" not in text_of(console)


def test_the_best_so_far_stands_beside_uniform_sampling_and_fresh_seeds_do_not_count():
    progress = Display(9, TOTAL, plain())
    for values in (
        record(8.0, control="uniform", role="control"),
        record(7.0, name="good"),
        record(6.0, name="lucky", role="confirmation"),
        record(7.5, name="fair"),
    ):
        progress.started(values)
        progress.finished(values)
    shown = picture(progress)
    assert "FID so far: uniform 8.00 · best 7.00 good" in shown


def test_a_larger_value_is_better_where_the_metric_says_so():
    progress = Display(9, TOTAL, plain(), metric="precision")
    for name, value in (("worse", 0.2), ("better", 0.4)):
        progress.finished(record(1.0, name=name, metrics={"precision": value}))
    assert "precision so far: best 0.400 better" in picture(progress)


def test_ended_trials_are_counted_by_how_they_ended():
    progress = Display(9, TOTAL, plain())
    progress.earlier([record(7.0), record(None)])
    progress.finished(record(7.0, status="pruned"))
    progress.started(record(trial=5))
    shown = picture(progress)
    assert "1/9 trials done" in shown
    assert "1 running, 1 pruned, 1 failed" in shown


def test_the_time_left_follows_the_images_seen(clock):
    progress = Display(4, 1000, plain())
    progress.started(record(trial=0, total_images=1000))
    assert progress.seconds_left is None
    for images in (100, 300, 600):
        clock.now += 10
        progress.update(0, images, 0, 1, 0.1)
    # 600 images in 30 s, 3,400 to go.
    assert progress.seconds_left == pytest.approx(3400 * 30 / 600)
    assert "2:50 left" in picture(progress)


def test_images_of_an_earlier_start_do_not_count_as_speed(clock):
    progress = Display(4, 1000, plain())
    progress.earlier([record(7.0, total_images=1000), record(7.0, total_images=1000)])
    progress.queued(record(trial=2, total_images=1000), seen=700)
    assert progress.snapshot().images == 2700
    progress.started(record(trial=2, total_images=1000))
    for images in (800, 900):
        clock.now += 10
        progress.update(2, images, 0, 1, 0.1)
    assert progress.images_per_second == 200 / 20
    assert progress.seconds_left == pytest.approx(1100 * 20 / 200)


@pytest.mark.parametrize(("logged", "images"), [(700, (600, 700, 800)), (0, (300, 200, 300))])
def test_images_that_are_trained_again_bring_the_study_no_further(clock, logged, images):
    progress = Display(1, 1000, plain())
    progress.queued(record(total_images=1000), logged)
    progress.started(record(total_images=1000))
    for seen in images:
        clock.now += 10
        progress.update(0, seen, 0, 1, 0.1)
    assert progress.images_per_second == pytest.approx((800 - 600 if logged else 300) / 30)
    assert progress.snapshot().images == images[-1]


SPEED = 1000


def played(clock, progress, budgets, every):
    """Train these budgets one after the other at `SPEED`, a report each `every` images; a snapshot after each trial."""
    for trial, budget in enumerate(budgets):
        values = record(7.0, trial=trial, total_images=budget, images=budget)
        progress.queued(values)
        progress.started(values)
        for seen in range(every, budget + every, every):
            clock.now += (min(seen, budget) - (seen - every)) / SPEED
            progress.update(trial, min(seen, budget), 0, 1, 0.1)
        progress.finished(values)
        yield progress.snapshot()


@pytest.mark.parametrize("budget", [44_800, 12_800, 6400])
def test_the_speed_is_that_of_all_images_however_few_reports_a_trial_makes(clock, budget):
    progress = Display(10, budget, plain())
    for trial, shown in enumerate(played(clock, progress, [budget] * 10, 6400), start=1):
        assert shown.images_per_second == pytest.approx(SPEED)
        assert shown.seconds_left == pytest.approx((10 - trial) * budget / SPEED)


def test_a_trial_at_a_smaller_budget_counts_with_that(clock):
    config = StudyConfig.model_validate(
        {"trials": 8, "confirm_top": 0, "halving": {"rule": "compressed", "reduction": 4}}
    )
    full = config.run.total_images
    plan = StudyPlan(config)
    # Uniform sampling, two brackets of four schedules of which one each is promoted, two twins.
    assert (plan.total, plan.total_images) == (13, 8 * full // 4 + 5 * full)
    progress = Display(plan.total, full, plain())
    progress.expect(plan.total, plan.total_images)
    budgets = [full, *([full // 4] * 4 + [full]) * 2, full, full]
    for trial, shown in enumerate(played(clock, progress, budgets, 6400), start=1):
        assert shown.images == sum(budgets[:trial])
        assert shown.total_images == sum(budgets)
        assert shown.images_per_second == pytest.approx(SPEED)
        assert shown.seconds_left == pytest.approx(sum(budgets[trial:]) / SPEED)


def test_a_study_that_stops_shows_no_trial_as_running(clock):
    progress = long_study(clock)
    progress.queued(record(trial=3))
    progress.stopped()
    shown = progress.snapshot()
    assert (shown.running, shown.waiting, shown.seconds_left) == ((), 0, None)
    assert [(trial.trial, trial.images) for trial in shown.interrupted] == [(1, 40000), (2, 40000)]
    head, *_ = picture(progress).splitlines()
    assert head.split()[-3:] == ["stopped", "2", "interrupted"]
    assert "1u h2e" not in picture(progress)


def long_study(clock):
    """Three running trials with long names, a best schedule and uniform sampling."""
    progress = Display(4, TOTAL, plain())
    for trial in range(3):
        words = {"arm_name": f"{trial}u h2e p.003", "name": f"random: {trial}u h2e p.003"}
        progress.started(record(trial=trial, **words))
        for report in range(1, 5):
            progress.update(trial, 10000 * report, trial, 20, 0.1)
            clock.now += 2
    progress.finished(record(7.0, trial=0, name="the best " * 30, arm_name="the best"))
    return progress


@pytest.mark.parametrize("width", [30, 50, 80, 200])
def test_the_picture_fits_any_width_and_cuts_no_word(width, clock):
    progress = long_study(clock)
    lines = picture(progress, width).splitlines()
    assert all(len(line.rstrip()) <= width for line in lines)
    whole = set(picture(progress, 1000).split())
    words = {word for line in lines[1:] for word in line.split()} - {"…"}
    assert {word for word in words - whole if "━" not in word} == set() or width == 30


def test_80_columns_show_a_bar_images_the_score_the_loss_speed_and_the_time_left(clock):
    head, best, columns, *trials = picture(long_study(clock), 80).splitlines()
    assert "━" in head
    assert "/307k images" in head
    assert "/s " in head
    assert "left" in head
    assert best.startswith("FID so far: best 7.00 the best the")
    assert columns.split() == ["trial", "schedule", "stage", "images", "loss", "img/s", "left"]
    assert trials[0].startswith("    1 random: 1u h2e p.003 ━")
    assert trials[0].split()[-5:] == ["2/20", "40k/77k", "0.100", "5k", "0:07"]
    assert trials[2].startswith("1u h2e p.003  20 uniform clusters, easy_to_hard")


def test_drawing_and_events_may_come_from_different_threads():
    progress = Display(500, TOTAL, plain())
    stop = threading.Event()
    errors = []

    def draw():
        while not stop.is_set():
            try:
                picture(progress)
            except Exception as error:
                errors.append(error)

    thread = threading.Thread(target=draw)
    thread.start()
    for trial in range(100):
        progress.started(record(trial=trial))
        progress.update(trial, 10, 0, 1, 0.1)
        if trial > 3:
            progress.finished(record(7.0, trial=trial - 3))
    stop.set()
    thread.join()
    assert not errors


def table_text(records, width=200, **options):
    console = Console(width=width, file=io.StringIO(), _environ={})
    console.print(final_table(records, **options))
    return text_of(console)


def test_the_final_table_puts_the_best_beside_all_controls():
    records = [record(fid, schedule=schedule(int(fid))) for fid in (3.0, 4.0, 5.0, 6.0)]
    records += [
        record(8.0, role="control", control="uniform"),
        record(9.0, role="control", control="reversed", schedule_id="r", arm_name="turned"),
        record(None),
    ]
    text = table_text(records, best=2)
    assert "3 uniform clusters" in text
    assert "4 uniform clusters" in text
    assert "5 uniform clusters" not in text
    assert "2 more schedules in the report" in " ".join(text.split())
    assert "in the report" not in table_text(records, best=4)
    assert "reversed: turned" in text
    assert "turned  20 uniform clusters" in text
    assert "\n uniform " in text
    assert "+62.5%" in text
    assert "-12.5%" in text
    assert "fresh" not in text


def test_the_final_table_tells_the_search_from_fresh_seeds():
    walked = {"stages_asked": 8, "stages_walked": 7}
    fresh = [
        record(fid, role="confirmation", seed=seed, control=control, schedule=schedule(4), **walked)
        for seed in (1000, 1001)
        for control, fid in ((None, 9.0), ("uniform", 10.0))
    ]
    records = [record(4.0, schedule=schedule(4)), record(12.0, control="uniform", role="control"), *fresh]
    rows = [line.split() for line in table_text(records).splitlines() if "77k" in line]
    assert rows[0][-7:] == ["+10.0%", "0.900", "0.500", "0.250", "7/8", "77k", "2"]
    assert rows[1][:3] == ["uniform", "12.00", "10.00"]


def test_the_final_table_has_every_arm_with_fresh_seeds():
    arms = {f"mine_{place}": 3.0 + place for place in range(9)}
    records = [
        record(
            fid, key=TrialKey.arm(name).confirmation(1000), role="confirmation", arm_id=name, arm_name=name
        )
        for name, fid in arms.items()
    ]
    text = table_text(records)
    assert [name for name in arms if f" {name} " in text] == list(arms)
    assert "in the report" not in text


@pytest.mark.parametrize("width", [50, 70, 80, 119])
def test_the_final_table_fits_a_narrow_terminal(width):
    records = [record(fid, schedule=schedule(int(fid))) for fid in (3.0, 4.0)]
    text = table_text([*records, record(9.0, role="confirmation", schedule=schedule(3))], width=width)
    assert all(len(line.rstrip()) <= width for line in text.splitlines())
    assert "…" not in text


@pytest.mark.parametrize("width", [60, 80, 100, 120])
def test_columns_that_do_not_fit_are_left_out_whole(width):
    scores = {"fid_at_2": 112.5, "fid_at_4": 113.5, "kid": 0.0123, "inception_score": 5.0, "clip_score": 31.0}
    arms = [(3, None, 103.0), (4, None, 104.0), (1, "uniform", 109.0)]
    records = [
        record(fid, schedule=schedule(count), control=control, metrics={"fid": fid, **scores}, **how)
        for count, control, fid in arms
        for how in ({"role": "control" if control else "searched"}, {"role": "confirmation", "seed": 1000})
    ]
    whole = [line.split() for line in table_text(records, width=200).splitlines()]
    lines = [line.split() for line in table_text(records, width=width).splitlines()]
    head = next(place for place, words in enumerate(lines) if words[-1:] and "search" in words)
    assert "…" not in table_text(records, width=width)
    known = {word for words in whole for word in words}
    assert set(lines[head]) | set(lines[head - 1]) <= known
    rows = [words for words in lines if "103.0" in words or "104.0" in words or "109.0" in words]
    assert len(rows) == 3
    assert all(set(words) <= known for words in rows)


def test_a_final_table_of_nothing_is_empty_and_no_error():
    assert "schedule" in table_text([record(None)])
