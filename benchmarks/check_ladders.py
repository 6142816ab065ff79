"""Plays schedules of the shipped search spaces on a noisy loss, and counts those that did not walk their ladder.

    make check-ladders

Each schedule is drawn at random from a space, at the default budget and at a quarter of it, and played to its end by
the sampler that training uses, on the default process's noise levels, with losses that fall and are noisy. A
schedule is cut if a stage that it asks for was not sampled, if its stages did not rise one by one, or if it was
refused. The last line is JSON: {"schedules": how many were played, "cut": how many of them were cut}.
"""

from __future__ import annotations

import argparse
import json
import math
import sys

import torch

from curriculum_ray.config import ConfigError, parse
from curriculum_ray.curriculum import TimestepSampler
from curriculum_ray.diffusion import build_process
from curriculum_ray.runs.config import RunConfig
from tuning.study.space import SearchSpace, SpaceFunction

SPACES = ("default", "paper", "wide")
NOISE = 0.1
"""Standard deviation of the loss of a step relative to its mean, as seen on the digits."""


def play(run: RunConfig, seed: int) -> tuple[list[int], list[int]]:
    """The stages that a schedule asks for, and those that were sampled in the order in which they came."""
    process = build_process(run.process, run.weighting)
    sampler = TimestepSampler(
        run.schedule, levels=process.levels, total_images=run.total_images, seed=seed, rank=0, world_size=1
    )
    noise = torch.Generator().manual_seed(seed)
    sampled: list[int] = []
    per_cluster = run.schedule.pacing is not None and getattr(run.schedule.pacing, "normalize", False)
    for _ in range(run.total_steps):
        sampler.sample(run.batch_size)
        if not sampled or sampled[-1] != sampler.stage:
            sampled.append(sampler.stage)
        # Cleaner levels are harder: the mean rises as they join, and falls with training.
        level = 0.2 + 0.8 * (1 - float(sampler.last_u.mean()))
        loss = (
            level
            * math.exp(-2 * sampler.images / run.total_images)
            * (1 + NOISE * torch.randn((), generator=noise))
        )
        sampler.update(loss.expand(run.batch_size) if per_cluster else loss)
    return sampler.ladder, sampled


def draw(space: SearchSpace, images: int, seed: int) -> RunConfig:
    """Settings of a random point of the space at a budget of `images`."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)).ask()
    SpaceFunction(space)(trial)
    base = RunConfig().model_dump(mode="json")
    settings = {**space.apply(base, trial.params), "images": images, "seed": seed}
    return parse(RunConfig, settings, f"space {space.name}, point {seed}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--each", type=int, default=90, help="schedules of each space at each budget")
    each = parser.parse_args().each
    torch.set_num_threads(1)
    images = RunConfig().images
    played = cut = 0
    for name in SPACES:
        space = SearchSpace.load(name)
        for budget in (images, images // 4):
            longest, faults = 0, 0
            for seed in range(each):
                played += 1
                try:
                    asked, sampled = play(draw(space, budget, seed), seed)
                except ConfigError as error:
                    print(f"refused: {error}")
                    faults += 1
                    continue
                longest = max(longest, len(asked))
                if sampled != asked:
                    print(f"cut: {name}, point {seed}, {budget} images: {asked} was asked, {sampled} sampled")
                    faults += 1
            cut += faults
            print(
                f"{name:8} {budget:6,} images: {each} schedules of up to {longest} stages, {faults} cut",
                flush=True,
            )
    print(json.dumps({"schedules": played, "cut": cut}))
    sys.exit(cut > 0)


if __name__ == "__main__":
    main()
