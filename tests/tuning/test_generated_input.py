"""Every flag of every command, and every space, by thousands of inputs: one line and exit code 2, or accepted."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import click
import optuna
import pytest

from curriculum_ray.config import load_yaml, parse
from curriculum_ray.config.plain_yaml import write_yaml
from curriculum_ray.runs.config import RunConfig
from tests.grammar import TOKENS, Grammar, accepted
from tuning.cli import cli, main
from tuning.search.preflight import study_rivals
from tuning.study.comparable import check_comparable
from tuning.study.config import StudyConfig
from tuning.study.space import SearchSpace, SpaceFunction

_ARGUMENTS = [token for token in TOKENS if "\x00" not in token] + [
    "nan",
    "1-1000000",
    "1-",
    "-1",
    "\udcff",
    "a\nb",
    "",
]
_FIXED = {
    "schedule": {
        "clusters": {"by": "uniform", "count": 4},
        "order": {"direction": "easy_to_hard"},
        "pacing": {"rule": "fixed", "stage_share": 0.1},
    }
}
# Keys and ranges that fit them.
_RANGES: dict[str, Any] = {
    "schedule.clusters.count": {"type": "int", "low": 3, "high": 8},
    "schedule.order.direction": {"type": "categorical", "choices": ["easy_to_hard", "hard_to_easy"]},
    "optimizer.learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
    "weighting.kind": {"type": "categorical", "choices": ["none", "min_snr"]},
    "images": {"type": "int", "low": 640, "high": 6400},
    "seed": {"type": "int", "low": 0, "high": 5},
    "nonsense": {"type": "int", "low": 0, "high": 5},
}


class _Started(Exception):
    """A command got beyond its input."""


@functools.cache
def _commands() -> dict[str, click.Command]:
    context = click.Context(cli)
    return {
        name: command for name in cli.list_commands(context) if (command := cli.get_command(context, name))
    }


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Commands go no further than their input, and nobody's store is asked."""

    def start(*_: Any, **__: Any) -> Any:
        raise _Started

    monkeypatch.chdir(tmp_path)
    for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    for target in (
        "tuning.study.single.check_run",
        "tuning.search.preflight.check_run",
        "tuning.difficulty.measure",
        "tuning.tracking.best.best",
        "tuning.tracking.compare.find_run",
        "clusters.doctor.examine",
        "curriculum_ray.evaluation.trained.load_trained",
        "curriculum_ray.data.autoencoder.load_autoencoder",
    ):
        monkeypatch.setattr(target, start)


def _arguments(grammar: Grammar, name: str, command: click.Command) -> list[str]:
    """What a command needs, and one or two options with anything."""
    words = [name]
    options = [param for param in command.params if isinstance(param, click.Option) and not param.is_eager]
    needed = [param for param in options if param.required]
    for param in {*needed, *grammar.random.sample(options, 2)}:
        words.append(param.opts[0])
        if not param.is_flag:
            value = grammar.random.choice(_ARGUMENTS)
            words.append(
                f"{grammar.random.choice(('images', 'run.images', 'seed'))}={value}"
                if param.name == "overrides"
                else value
            )
    words += [
        grammar.random.choice(_ARGUMENTS) for param in command.params if isinstance(param, click.Argument)
    ]
    return words


@pytest.mark.usefixtures("stopped")
@pytest.mark.parametrize(
    "seed", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)]
)
def test_any_flag_ends_in_one_line_and_code_2_or_is_accepted(
    seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    grammar, started = Grammar(seed), 0
    for number in range(250):
        name, command = list(_commands().items())[number % len(_commands())]
        words = _arguments(grammar, name, command)
        try:
            with pytest.raises(SystemExit) as caught:
                main(words)
        except _Started:
            started += 1
            capsys.readouterr()
            continue
        except Exception as error:
            error.add_note(f"{words!r}"[:2000])
            raise
        out, err = capsys.readouterr()
        if caught.value.code == 0:
            continue  # --help and --version among the arguments
        assert (caught.value.code, err.count("\n"), out) == (2, 1, ""), (words, err)
        assert err.rstrip("\n").isprintable(), words
        assert len(err) < 720, words
    assert started > 5


def test_a_space_is_refused_in_one_line_or_true(tmp_path: Path) -> None:
    grammar, true = Grammar(2), 0
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path, config = tmp_path / "space.yaml", StudyConfig()
    base = config.run.model_dump(mode="json")
    for number in range(300):
        data = grammar.settings(SearchSpace, strange=0.01 * (number % 2))
        drawn = data["search"] or {"weighting.kind": {}}
        data["search"] = {}
        for key in grammar.random.sample(list(_RANGES), grammar.random.randrange(1, 4)):
            fits = grammar.random.random() < 0.8
            data["search"][key] = _RANGES[key] if fits else next(iter(drawn.values()))
        if number % 3:
            data = {"version": 1, "fixed": _FIXED, "search": data["search"]}
        text = grammar.text(data, changes=number % 5 == 0)
        path.write_text(text)
        try:
            space = accepted(lambda: SearchSpace.load(str(path)))
            if space is None:
                continue
            path.write_text(write_yaml(space.model_dump(mode="json")))
            assert parse(SearchSpace, load_yaml(path), "again") == space
            fair = accepted(
                lambda found=space: check_comparable(config, found, study_rivals(config, found)) or True
            )
            if fair is None:
                continue
            study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
            for point in [*space.probes(), *(_suggested(study, space) for _ in range(3))]:
                assert all(space.search[key].holds(value) for key, value in point.items())
                run = accepted(lambda at=point, found=space: parse(RunConfig, found.apply(base, at), "space"))
                if run is not None:
                    assert (run.total_images, run.seed, run.data, run.evaluation) == (
                        config.run.total_images,
                        config.run.seed,
                        config.run.data,
                        config.run.evaluation,
                    )
                    true += 1
        except Exception as error:
            error.add_note(text[:2000])
            raise
    assert true > 20


def _suggested(study: optuna.Study, space: SearchSpace) -> dict[str, Any]:
    trial = optuna.create_study(sampler=study.sampler).ask()
    SpaceFunction(space)(trial)
    return trial.params
