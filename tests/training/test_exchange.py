"""Ranks hand each other bytes without a collective, wait as long as anyone works, and no longer."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch.distributed

from curriculum_ray.training.exchange import Alone, StoreExchange


def ranks(size: int, work: Callable[[StoreExchange, int], Any], patience_s: float = 60.0) -> list[Any]:
    """What `work` returns on each of `size` ranks, which share a store in this process."""
    store = torch.distributed.HashStore()
    with ThreadPoolExecutor(size) as pool:
        started = [
            pool.submit(work, StoreExchange(store, rank, size, patience_s), rank) for rank in range(size)
        ]
        return [each.result() for each in started]


def test_rank_0_gathers_in_order_and_tells_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curriculum_ray.training.exchange._PIECE", 1000)

    def work(exchange: StoreExchange, rank: int) -> Any:
        values = [os.urandom(2500) if rank else b"", bytes([rank])]
        gathered = [exchange.gather(value) for value in values]
        return values, gathered, exchange.tell(f"from {rank}".encode()), exchange.tell(b"")

    found = ranks(3, work)
    for number in (0, 1):
        assert found[0][1][number] == [values[number] for values, *_ in found]
    assert all(gathered == [None, None] for _, gathered, *_ in found[1:])
    assert {(told, nothing) for *_, told, nothing in found} == {(b"from 0", b"")}


def test_what_was_read_is_removed() -> None:
    store = torch.distributed.HashStore()
    first, second = (StoreExchange(store, rank, 2) for rank in (0, 1))
    second.gather(b"x" * 10)
    keys = store.num_keys()
    assert first.gather(b"") == [b"", b"x" * 10]
    assert store.num_keys() < keys


def test_a_rank_waits_for_one_that_works_and_not_for_one_that_hangs() -> None:
    released = threading.Event()

    def slow(exchange: StoreExchange, rank: int) -> Any:
        if rank:
            for _ in range(20):
                time.sleep(0.02)
                exchange.work()
        return exchange.gather(b"done")

    assert ranks(2, slow, patience_s=0.2)[0] == [b"done", b"done"]

    def hangs(exchange: StoreExchange, rank: int) -> Any:
        if rank:
            released.wait(30)
            return None
        try:
            return exchange.gather(b"")
        except RuntimeError as error:
            return str(error)
        finally:
            released.set()

    assert ranks(2, hangs, patience_s=0.1)[0] == "no worker has made progress for 0.1 s"


def test_alone_there_is_nobody_to_wait_for() -> None:
    assert Alone().gather(b"a") == [b"a"]
    assert Alone().tell(b"a") == b"a"
