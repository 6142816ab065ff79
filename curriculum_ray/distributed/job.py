"""One training run inside a Ray Train worker: resume, train, evaluate, and leave its results in its folder."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from curriculum_ray.config import ConfigError, parse
from curriculum_ray.data import DataInfo, Dataset
from curriculum_ray.distributed.config import RunConfig
from curriculum_ray.distributed.ingest import open_batches
from curriculum_ray.distributed.prepared import cached_data, cached_evaluator
from curriculum_ray.distributed.preview import Preview, Previews
from curriculum_ray.evaluation import Evaluator, save_grid
from curriculum_ray.training import checkpoint as checkpoints
from curriculum_ray.training.ema_posthoc import SNAPSHOTS, write_snapshot
from curriculum_ray.training.loop import Progress, Trainer, World
from curriculum_ray.training.parallel import full
from curriculum_ray.training.prefetch import Prefetched

__all__ = ["run_job", "write_files"]

CORRUPT_IMAGES = "corrupt_images.txt"
"""In a run's folder: images of a stream that could not be read and were skipped, one a line."""
Report = Callable[[dict[str, Any]], bool]
"""Tells the board about progress; returns whether the run should stop."""
Announce = Callable[[Path | None, dict[str, Any]], None]
"""Tells Ray Train, on every rank, that a checkpoint stands at a path, or that none could be written."""
Warned = Callable[[], bool]
"""Asked on every rank at each log line, the same answer on all: whether a checkpoint is due because a node will go."""


def run_job(
    job: dict[str, Any],
    world: World,
    report: Report,
    announce: Announce,
    warned: Warned = lambda: False,
) -> dict[str, Any] | None:
    """Run `job` to its end on this rank; returns its result on rank 0, None on others and when it was stopped.

    `job` holds "key", "config" (a RunConfig as JSON), "folder" (where results go), "checkpoints" (where checkpoints
    are written on the way; the last one goes to "folder") and "resume_from" (more folders that may hold some).
    """
    start = time.perf_counter()
    config = parse(RunConfig, job["config"], f"run {job['key']}")
    data: Dataset | DataInfo
    ahead: Prefetched | None = None
    if config.data.streamed:
        data, stream = open_batches(
            config.data,
            config.seed,
            config.model.conditional is not False,
            lambda names: _note_corrupt(Path(job["folder"]), names),
        )
        ahead = Prefetched(stream, config.total_images)
    else:
        data = cached_data(config.data)
    evaluator = cached_evaluator(config)
    trainer = Trainer(config.train, data, world, ahead)
    resumed_at = _resume(trainer, job)
    folder = Path(job["folder"])
    lead = world.rank == 0
    log = folder / "metrics.jsonl"
    if lead:
        folder.mkdir(parents=True, exist_ok=True)
        _cut_log(log, resumed_at)
        write_files(folder, config)
    last: dict[str, Any] = {}
    shown: dict[str, Any] = {}
    saved: dict[str, int] = {}
    previews = Previews(config, data, folder, job["key"], lead)

    def on_log(progress: Progress) -> bool:
        last.update(
            images=progress.images,
            loss=progress.loss,
            stage=progress.stage,
            num_stages=progress.num_stages,
            images_per_second=progress.images_per_second,
        )
        if progress.skipped_updates:
            last["skipped_updates"] = progress.skipped_updates
        stop = False
        if lead:
            _append(log, last)
            shown.update(last, total_images=config.total_images, snapshot=dict(progress.snapshot))
            stop = report(dict(shown))
            stop = tell(previews.collect(wait=False)) or stop
        if warned():
            on_checkpoint(trainer)
        return stop

    def tell(made: list[Preview]) -> bool:
        stop = False
        for line, metrics in made:
            _append(log, {**line, "preview": metrics})
            stop = report({**shown, "preview": metrics, "preview_images": line["images"]}) or stop
        return stop

    def on_preview(trainer: Trainer) -> bool:
        return tell(previews.make(trainer, last))

    def on_snapshot(trainer: Trainer) -> None:
        assert trainer.power is not None
        tensors = full(trainer.power.tensors())
        if lead:
            write_snapshot(folder / SNAPSHOTS, trainer.power.spec, tensors, trainer.images)

    def on_checkpoint(trainer: Trainer) -> None:
        if saved.get("images") == trainer.images:
            return
        saved["images"] = trainer.images
        # What a resumed run will not draw again must be in the log before it.
        tell(previews.collect(wait=True))
        path = Path(job["checkpoints"]) / checkpoints.checkpoint_name(job["key"], trainer.images)
        state = trainer.checkpoint()
        written: Path | None = path
        if lead:
            try:
                checkpoints.write(path, state)
            except checkpoints.CheckpointNotWritten as error:
                # The next interval tries again: a full disk may have room by then.
                print(error, flush=True)
                written = None
        announce(written, dict(last))
        if lead and written:
            checkpoints.prune(job["checkpoints"], job["key"], config.checkpoint.keep)

    try:
        ended = trainer.run(on_log, on_checkpoint, on_preview, on_snapshot)
    finally:
        if ahead is not None:
            ahead.close()
    if not ended:
        on_checkpoint(trainer)
        return None
    final = folder / checkpoints.checkpoint_name(job["key"], trainer.images)
    state = trainer.checkpoint()
    result = None
    model = trainer.whole_model(evaluator is None or evaluator.spec.ema)
    if lead:
        tell(previews.collect(wait=True))
        checkpoints.write(final, state)
        result = _results(trainer, model, evaluator, folder)
        if config.preview is not None:
            result["history"] = previews.history
        result.update(
            images=trainer.images,
            resumed_at=resumed_at,
            checkpoint=str(final),
            loss=trainer.loss,
            seconds=time.perf_counter() - start,
        )
        if skipped := _corrupt(folder):
            result["corrupt_images"] = sorted(set(skipped))
        (folder / "result.json").write_text(json.dumps(result, indent=1))
    if folder == Path(job["checkpoints"]):
        announce(final, dict(last))
    if lead:
        for root in _roots(job):
            checkpoints.prune(root, job["key"], config.checkpoint.keep if root == folder else 0)
    return result


def _roots(job: dict[str, Any]) -> list[Path]:
    """Every folder that may hold checkpoints of the job."""
    return list(
        dict.fromkeys(Path(root) for root in (job["folder"], job["checkpoints"], *job["resume_from"]))
    )


def _resume(trainer: Trainer, job: dict[str, Any]) -> int:
    """Restore the newest checkpoint that can be read; returns its image count, 0 when there is none."""
    found = [path for root in _roots(job) for path in checkpoints.find_checkpoints(root, job["key"])]
    for path in sorted(found, key=lambda path: path.name, reverse=True):
        try:
            state = checkpoints.read(path)
        except ConfigError as error:
            print(f"skipped: {error}", flush=True)
            continue
        trainer.restore(state)
        return trainer.images
    return 0


def _cut_log(log: Path, images: int) -> None:
    """Drop the lines that an interrupted attempt wrote after the checkpoint it resumes from."""
    if log.exists():
        lines = [line for line in log.read_text().splitlines() if line.endswith("}")]
        kept = [line for line in lines if json.loads(line)["images"] <= images]
        log.write_text("".join(line + "\n" for line in kept))


def write_files(folder: Path, config: RunConfig) -> None:
    """Write config.yaml and schedule.yaml, which reproduce the run."""
    import yaml

    folder.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    (folder / "config.yaml").write_text(text)
    config.schedule.to_file(folder / "schedule.yaml")


def _note_corrupt(folder: Path, names: list[str]) -> None:
    """Add corrupt images that were skipped to the run's list of them, each once over all ranks and resumes."""
    folder.mkdir(parents=True, exist_ok=True)
    known = _corrupt(folder)
    with open(folder / CORRUPT_IMAGES, "a") as file:
        file.write("".join(f"{name}\n" for name in names if name not in known))


def _corrupt(folder: Path) -> list[str]:
    path = folder / CORRUPT_IMAGES
    return path.read_text().splitlines() if path.exists() else []


def _append(log: Path, line: dict[str, Any]) -> None:
    with open(log, "a") as file:
        file.write(json.dumps(line) + "\n")


def _results(
    trainer: Trainer, model: torch.nn.Module, evaluator: Evaluator | None, folder: Path
) -> dict[str, Any]:
    """Evaluate `model`, the average of the weights, and write the sample grid and what was really sampled."""
    result: dict[str, Any] = {"stage_starts": trainer.stage_starts, "num_stages": trainer.sampler.num_stages}
    (folder / "sampled_timesteps.json").write_text(json.dumps({**trainer.histogram.as_json(), **result}))
    result["metrics"] = {}
    if evaluator is not None:
        metrics, samples = evaluator.evaluate(
            trainer.process, model, trainer.conditioning, device=trainer.world.device
        )
        save_grid(samples[:64], folder / "samples.png")
        result.update(metrics=metrics, fingerprint=evaluator.fingerprint, protocol=evaluator.protocol)
    return result


def clear_process_state() -> None:
    """Leave nothing of one run for the next in the same process: memory, default dtype, autograd mode."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(True)
