"""Whatever stands in a file of settings is refused in one line, or accepted and then true: thousands of inputs."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from curriculum_ray.config import Spec, apply_overrides, flatten, load_json, load_yaml, parse
from curriculum_ray.config.plain_yaml import TextFault, read_yaml, write_yaml
from curriculum_ray.curriculum import Changing, CurriculumSchedule, DifficultyCurve, TimestepSampler
from curriculum_ray.data.latent_cache import CacheSpec
from curriculum_ray.diffusion.levels import DiscreteTimesteps, FlowTimes, NoiseLevels, Sigmas
from curriculum_ray.distributed.resources import ResourceSpec
from curriculum_ray.evaluation import EvaluationSpec
from curriculum_ray.evaluation.counting import ReferenceSpec
from curriculum_ray.runs.config import RunConfig
from tests.grammar import LAUGHS, TOKENS, Grammar, accepted
from tuning.difficulty import DifficultyConfig
from tuning.study.config import StudyConfig

BATCH, IMAGES = 64, 64 * 120
LEVELS: list[NoiseLevels] = [DiscreteTimesteps(torch.linspace(0.99, 0.01, 200)), Sigmas(), FlowTimes()]


def _sampler(schedule: CurriculumSchedule, levels: NoiseLevels) -> TimestepSampler:
    return TimestepSampler(schedule, levels=levels, total_images=IMAGES, rank=0, world_size=1, seed=3)


def _step(sampler: TimestepSampler) -> torch.Tensor:
    level, u = sampler.sample(BATCH), sampler.last_u
    assert bool(((u >= 0) & (u < 1)).all()), "draws lie in [0, 1)"
    assert bool(level.double().isfinite().all())
    if sampler.levels.count is not None:
        assert 0 <= int(level.min()) <= int(level.max()) < sampler.levels.count
    losses = torch.full((BATCH,), 0.5, dtype=torch.float64)
    weights = sampler.weights
    assert weights is None or bool((weights.isfinite() & (weights >= 0)).all())
    sampler.update(losses)
    return u


def _conserves_probability(sampler: TimestepSampler) -> None:
    """Of evenly spaced positions, each interval gets its density's share of the draws, to a draw at each end."""
    many = 2001
    if sampler._weighs:
        return  # what is drawn more often counts less, and is not the active set's density
    places = (torch.arange(many, dtype=torch.float64) + 0.5) / many
    u = sampler._draws.draw(places, sampler.images).u
    low, high, density = torch.tensor(sampler.snapshot()["active"], dtype=torch.float64).T.contiguous()
    mass = density * (high - low)
    place = torch.searchsorted(low, u, right=True) - 1
    assert bool(((u >= low[place]) & (u < high[place])).all())
    if isinstance(sampler.schedule.base, Changing):
        return  # after the change, u of the first distribution is spread within a cluster as the second has it
    found = torch.bincount(place, minlength=len(low)) / many
    assert bool(((found - mass / mass.sum()).abs() <= 2 / many).all()), (found, mass)


def _is_true(schedule: CurriculumSchedule, folder: Path) -> bool:
    """Check all that an accepted schedule promises; whether some process takes it and its ladder can be walked."""
    path = folder / "again.yaml"
    schedule.to_file(path)
    again = CurriculumSchedule.from_file(path)
    assert (again, again.schedule_id) == (schedule, schedule.schedule_id)
    assert schedule.describe().isprintable()
    if accepted(lambda: schedule.check_ladder(BATCH, IMAGES) or True) is None:
        return False
    if schedule.clusters.by == "log_snr_dp" and schedule.clusters.count > 4:
        return False  # true or not, it takes seconds
    samplers = (accepted(lambda at=levels: _sampler(schedule, at)) for levels in LEVELS)
    sampler = next(filter(None, samplers), None)
    if sampler is not None:
        edges = sampler.edges
        assert (edges[0], edges[-1]) == (0.0, 1.0)
        assert all(a < b for a, b in itertools.pairwise(edges))
        middle, stages = 0, set()
        for step in range(IMAGES // BATCH):
            if sampler.stage not in stages and len(stages) < 4:
                _conserves_probability(sampler)
            stages.add(sampler.stage)
            _step(sampler)
            if step == 5:
                state = json.loads(json.dumps(sampler.state_dict(), allow_nan=False))
                resumed = _sampler(schedule, sampler.levels)
                resumed.load_state_dict(state)
                middle = sampler.stage
            if 5 < step < 12:
                assert torch.equal(_step(resumed), sampler.last_u), (step, middle)
                assert resumed.stage == sampler.stage
        assert sampler.stage == sampler.num_stages - 1, (schedule, sampler.stage)
    return sampler is not None


def _note(text: str) -> str:
    return f"\n--- the input ---\n{text[:3000]}"


def _try(text: str, act: Callable[[], Any]) -> Any:
    """`accepted(act)`, with the text beside whatever goes wrong."""
    try:
        return accepted(act)
    except Exception as error:
        error.add_note(_note(text))
        raise


def _walked(grammar: Grammar) -> dict[str, Any]:
    """Clusters, an order, a pacing with a length, and an active set, mostly such that they can be walked."""
    draw = grammar.random
    count = draw.choice((1, 2, 3, 5, 8, 20))
    rule, lengths = draw.choice(
        (
            *(("plateau", ("patience", "patience_images", "patience_share", "patience_stage_share")),) * 3,
            *(("fixed", ("stage_images", "stage_share", "finish_by")),) * 2,
            *(
                (rule, ("full_images", "full_share"))
                for rule in ("root", "linear", "quad", "exp", "log", "step")
            ),
            *((rule, ("step_images", "step_share")) for rule in ("fixed_exponential", "single_step")),
        )
    )
    unit = draw.choice(lengths)
    share = draw.choice((0.02, 0.05, 0.3, 0.8, draw.random() + 1e-9))
    pacing = {
        "rule": rule,
        unit: share if unit.endswith(("share", "by")) else draw.choice((1, 2, 64, 640, 5000)),
    }
    if rule == "plateau":
        pacing |= {"finish_by": draw.choice((0.4, 0.9, 1.0)), "normalize": draw.random() < 0.2}
        pacing |= {
            "min_delta": draw.choice((0.0, 1e-300, 1e300)),
            "smoothing": draw.choice((0.0, 0.9, 1 - 2**-53)),
        }
    elif rule != "fixed":
        pacing["start_fraction"] = draw.choice((0.1, 0.5, 1.0, 1e-9, 5e-324))
    order = draw.choice(
        (
            {"direction": "easy_to_hard"},
            {"direction": "hard_to_easy"},
            {"direction": "random", "seed": draw.choice((0, 7, 2**62))},
            {"direction": "explicit", "ranking": draw.sample(range(count), count)},
        )
    )
    floor = draw.choice((0.0, 0.0, 1.0, 0.3, 1e-9, 1e-300, 5e-324))
    active = draw.choice(
        (
            {"set": "cumulative", "floor": floor},
            {"set": "window", "width": draw.choice((1, 2, 30)), "floor": floor},
            {"set": "newest_weighted", "newest_weight": draw.choice((1.0, 2.0, 1000.0)), "floor": floor},
        )
    )
    edges = [0.0, *sorted(draw.random() ** draw.choice((1, 30)) for _ in range(count - 1)), 1.0]
    clusters = draw.choice(
        (
            {"by": "uniform", "count": count},
            {"by": "log_snr", "count": count},
            {"by": "explicit", "edges": edges},
        )
    )
    return {"clusters": clusters, "order": order, "pacing": pacing, "active": active}


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 8))])
def test_a_schedule_is_refused_in_one_line_or_true(seed: int, tmp_path: Path) -> None:
    grammar, true = Grammar(seed), 0
    path = tmp_path / "schedule.yaml"
    for number in range(200):
        data = {"version": 1, **grammar.settings(CurriculumSchedule, strange=0.01)}
        if number % 4:
            data |= _walked(grammar)
        text = grammar.text(data, changes=number % 3 == 0)
        path.write_text(text)
        schedule = _try(text, lambda: CurriculumSchedule.from_file(path))
        if schedule is not None:
            true += _try(text, lambda found=schedule: _is_true(found, tmp_path)) is True
    assert true > 30


_SPECS: list[type[Spec]] = [
    *(RunConfig, EvaluationSpec, ResourceSpec, CacheSpec, ReferenceSpec, StudyConfig, DifficultyConfig)
]


@pytest.mark.parametrize("cls", _SPECS, ids=lambda cls: cls.__name__)
def test_settings_of_a_command_are_refused_in_one_line_or_survive_their_file(
    cls: type[Spec], tmp_path: Path
) -> None:
    grammar, survived = Grammar(len(cls.model_fields)), 0
    path = tmp_path / "settings.yaml"
    for number in range(150):
        text = grammar.text(grammar.settings(cls, strange=0.01 * (number % 2)), changes=number % 4 == 0)
        path.write_text(text)
        found = _try(text, lambda: parse(cls, load_yaml(path), "settings.yaml"))
        if found is not None:
            path.write_text(write_yaml(found.model_dump(mode="json")))
            assert parse(cls, load_yaml(path), "again") == found, text
            survived += 1
    assert survived >= 5


def test_an_override_is_refused_in_one_line_or_means_what_it_says() -> None:
    grammar = Grammar(11)
    keys = list(flatten(RunConfig().model_dump(mode="json")))
    for number in range(400):
        key = grammar.random.choice(
            [*keys, "a.b", ".", "a.", "=", "x" * 300, "a." * 200 + "b", "schedule.pacing.rule"]
        )
        override = f"{key}={grammar.random.choice(TOKENS)}"
        data = _try(
            override, lambda text=override: apply_overrides(RunConfig().model_dump(mode="json"), [text])
        )
        if data is not None and number % 2:
            _try(override, lambda given=data, text=override: parse(RunConfig, given, f"--set {text}"))


def test_a_measured_curve_is_refused_in_one_line_or_survives_its_file(tmp_path: Path) -> None:
    grammar, survived = Grammar(5), 0
    path = tmp_path / "curve.json"
    for number in range(200):
        data = grammar.settings(DifficultyCurve, strange=0.02)
        if number % 2:
            data |= {
                "u": [0, 0.5, 1],
                "difficulty": [1.0, grammar.random.random()],
                "stderr": None,
                "similarity": None,
            }
        text = json.dumps(data)
        if number % 3 == 0:
            text = text.replace("1", grammar.random.choice(TOKENS), 1)
        path.write_text(text)
        curve = _try(text, lambda: DifficultyCurve.from_file(path))
        if curve is not None:
            curve.to_file(path)
            assert DifficultyCurve.from_file(path) == curve
            survived += 1
    assert survived > 20


@pytest.mark.parametrize("suffix", ["yaml", "json"])
def test_any_text_is_refused_in_one_line_or_read(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"f.{suffix}"
    for token in (*TOKENS, LAUGHS, "", "a: 1\na: 2", "\ufeffa: 1"):
        for text in (token, f"a: {token}", f"{token}: 1", f"- {token}", f'{{"a": {token}}}'):
            path.write_text(text, encoding="utf-8", errors="surrogatepass")
            data = _try(text, lambda: load_json(path) if suffix == "json" else load_yaml(path))
            if suffix == "yaml" and data is not None:
                assert read_yaml(write_yaml(data)) == data, text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(
            (word, word)
            for word in ("yes", "no", "on", "off", "y", "010", "1:30", "1_000", "2001-01-01", "0x_", "=")
        ),
        *(
            ("true", True),
            ("False", False),
            ("null", None),
            ("~", None),
            ("", None),
            ("'1'", "1"),
            ("!!str 1", "1"),
        ),
        *(
            ("1", 1),
            ("-7", -7),
            ("0o17", 15),
            ("0x1F", 31),
            ("1e-3", 0.001),
            ("-2E5", -2e5),
            (".5", 0.5),
            ("3.", 3.0),
        ),
        *(
            ('"\\ud83d\\ude00"', "\U0001f600"),
            ("[1, [a, {b: c}]]", [1, ["a", {"b": "c"}]]),
            ("{1: 2}", {"1": 2}),
        ),
    ],
)
def test_scalars_are_read_by_the_core_schema(text: str, value: Any) -> None:
    found = read_yaml(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("images: {{ images }}", "an unfilled template, {{ … }}?"),
        (LAUGHS, "more than 100,000 values"),
        ("a: &a [*a]", "is inside its own anchor"),
        ("a: *b", "has no anchor"),
        ("a: " + "9" * 5000, "smaller than 2^63"),
        ("a: 1e999", "smaller than 1e308"),
        ("a: .nan", "finite"),
        ("a: " + "[" * 70 + "]" * 70, "more than 64 deep"),
        ("? [1]\n: 2", "a key must be a string, but is a list"),
        ("a: !!python/object:os.system {}", "the tag"),
        ("a: 1\na: 2", "the key 'a' is repeated in line 2"),
        ("a: {<<: {b: 1}}", "merge keys"),
        ("--- 1\n--- 2", "more than one document"),
        ('a: "x\\ny"', "on one line"),
        ("x" * 300_000, "characters"),
    ],
)
def test_what_is_wrong_with_a_text_is_said(text: str, says: str) -> None:
    with pytest.raises(TextFault) as caught:
        read_yaml(text)
    assert says in str(caught.value)
