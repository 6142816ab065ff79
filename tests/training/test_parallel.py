"""Sharded training (FSDP2) equals replicated training, and its checkpoints resume at any world size."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from curriculum_ray.training import checkpoint as checkpoints

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("shard_ranks.py")
SETTINGS: dict[str, Any] = {
    "batch_size": 16,
    "images": 16 * 8,
    "model": {"base_channels": 8},
    "accumulate": 2,
    "optimizer": {"clip_grad_norm": 0.5, "warmup_images": 16},
    "ema": {"power": {"sigma_rels": [0.1]}},
    "stability": {"spike_factor": 100.0},
    "heldout": {"levels": 3, "items": 5},
    "schedule": {"version": 1, "clusters": {"by": "uniform", "count": 3}},
}
SHARDED = {**SETTINGS, "parallel": "fsdp"}
DIT = {"model": {"kind": "dit", "depth": 3, "width": 32, "heads": 2}}
BLOCKS = {"compile": "blocks", "gradient_checkpointing": True}


LEARNED = ("edm2_uncertainty", "ant_uncertainty")


def adapters(folder: Path) -> dict[str, Any]:
    """Of what the job "ddp" has trained."""
    return {"init_from": str(folder / "ddp"), "lora": {"rank": 2, "targets": ["qkv", "conv1"]}}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    jobs = [
        {"name": "ddp", "settings": SETTINGS, "steps": 6},
        {"name": "fsdp", "settings": SHARDED, "steps": 6},
        {"name": "half", "settings": SHARDED, "steps": 3},
        {"name": "half-ddp", "settings": SETTINGS, "steps": 3},
        {"name": "resumed-fsdp", "settings": SHARDED, "steps": 3, "resume": "half"},
        {"name": "resumed-ddp", "settings": SETTINGS, "steps": 3, "resume": "half"},
        {"name": "sharded-later", "settings": SHARDED, "steps": 3, "resume": "half-ddp"},
        {"name": "alone", "settings": SHARDED, "steps": 3, "resume": "half", "world": 1},
        {"name": "lora-ddp", "settings": {**SETTINGS, **adapters(folder)}, "steps": 3},
        {"name": "lora-fsdp", "settings": {**SHARDED, **adapters(folder)}, "steps": 3},
        {"name": "dit-ddp", "settings": {**SETTINGS, **DIT}, "steps": 4},
        {"name": "dit-fsdp", "settings": {**SHARDED, **DIT, **BLOCKS}, "steps": 4},
        *(
            {"name": f"{kind}-{name}", "settings": {**settings, "weighting": {"kind": kind}}, "steps": 3}
            for kind in LEARNED
            for name, settings in (("ddp", SETTINGS), ("fsdp", SHARDED))
        ),
        {"name": "alone-ddp", "settings": SETTINGS, "steps": 3, "resume": "half-ddp", "world": 1},
    ]
    processes = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(rank), "2", str(folder), json.dumps(jobs)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        errors = [process.communicate(timeout=150)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], errors
    return folder


def _compare(place: Path, name: str, other: str) -> None:
    """Equal but for the rounding of sums over ranks."""
    ours, theirs = checkpoints.read(place / name), checkpoints.read(place / other)
    assert set(ours.tensors) == set(theirs.tensors)
    for group in ours.tensors:
        assert set(ours.tensors[group]) == set(theirs.tensors[group])
        for key, value in ours.tensors[group].items():
            rival = theirs.tensors[group][key]
            if "qkv.bias" in key and value.ndim:
                # A key's bias shifts all scores of a query alike, so that its gradient is rounding (seen: 1e-13, a
                # query's 2e-7), of which AdamW makes whole steps.
                value, rival = (torch.cat([x.chunk(3)[0], x.chunk(3)[2]]) for x in (value, rival))
            torch.testing.assert_close(value, rival, rtol=2e-3, atol=5e-4, msg=f"{group}/{key}")


def test_shards_train_as_replicas_do(place: Path) -> None:
    _compare(place, "fsdp", "ddp")


def test_shards_of_compiled_and_recomputed_blocks_train_as_plain_replicas_do(place: Path) -> None:
    _compare(place, "dit-fsdp", "dit-ddp")


@pytest.mark.parametrize("kind", LEARNED)
def test_a_learned_weighting_on_shards_trains_and_measures_as_on_replicas(place: Path, kind: str) -> None:
    _compare(place, f"{kind}-fsdp", f"{kind}-ddp")
    measured = [_measured(place, f"{kind}-{name}") for name in ("fsdp", "ddp")]
    torch.testing.assert_close(*measured, rtol=1e-3, atol=1e-4)


def test_adapters_on_shards_train_as_on_replicas(place: Path) -> None:
    _compare(place, "lora-fsdp", "lora-ddp")


def _measured(place: Path, name: str, rank: int = 0) -> torch.Tensor:
    return torch.tensor(json.loads((place / f"{name}-heldout-{rank}.json").read_text()))


@pytest.mark.parametrize("name", ["ddp", "fsdp"])
def test_every_rank_knows_the_same_held_out_losses_whether_replicas_or_shards_measure(
    place: Path, name: str
) -> None:
    measured = _measured(place, name)
    assert measured.shape == (6, 3)
    assert torch.equal(measured, _measured(place, name, rank=1))
    torch.testing.assert_close(measured, _measured(place, "ddp"), rtol=1e-3, atol=1e-4)
    assert (measured.diff(dim=0) != 0).all(), "shards must be gathered anew for each measurement"


def test_one_worker_measures_what_two_do(place: Path) -> None:
    """After the first step their averages differ by that step's noise, which is drawn by rank."""
    torch.testing.assert_close(
        _measured(place, "alone-ddp")[0], _measured(place, "sharded-later")[0], rtol=0.02, atol=0.01
    )


def test_a_sharded_run_resumed_in_shards_repeats_the_uninterrupted_one_to_the_bit(place: Path) -> None:
    ours, theirs = checkpoints.read(place / "resumed-fsdp"), checkpoints.read(place / "fsdp")
    for group, tensors in theirs.tensors.items():
        assert set(ours.tensors[group]) == set(tensors)
        for key, value in tensors.items():
            assert torch.equal(ours.tensors[group][key], value), f"{group}/{key}"


@pytest.mark.parametrize("name", ["resumed-ddp", "sharded-later"])
def test_a_run_may_go_on_in_shards_or_in_replicas_whatever_it_began_in(place: Path, name: str) -> None:
    _compare(place, name, "fsdp")


def test_a_sharded_checkpoint_resumes_on_one_worker_as_that_of_replicas_does(place: Path) -> None:
    """Not as on two workers: noise is drawn by rank."""
    _compare(place, "alone", "alone-ddp")
