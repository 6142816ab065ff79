"""`python -m tune difficulty`: its files, its page, and bad input refused in one line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from curriculum_ray.config import ConfigError
from curriculum_ray.curriculum import CurriculumSchedule, DifficultyCurve
from curriculum_ray.diffusion import DDPMSpec
from curriculum_ray.models import UNetSpec
from curriculum_ray.training.difficulty import ProbeRun, ProbeSpec, train_probe
from tests.data.folders import draw
from tests.tuning.figures.pages import Checker
from tuning.cli.difficulty import difficulty
from tuning.difficulty import DifficultyConfig, measure, write_report
from tuning.difficulty.measurements import _place


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Torch's threads wait for each other in every small operation, minutes where other programs run too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


SIZES = ("batch_size", "watched", "gradient_batches", "gradient_batch_size", "gradient_points")
QUICK = ["--num-timesteps", "12"]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(difficulty, list(arguments), catch_exceptions=False)


def test_closed_forms_write_curves_that_a_schedule_can_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(
        "--output", str(tmp_path), "--measure", "relative_entropy,gaussian,snr", *QUICK, "--samples", "256"
    )
    assert result.exit_code == 0
    folder = tmp_path / "difficulty" / "digits"
    assert {path.name for path in folder.iterdir()} == {
        *(f"{name}.json" for name in ("relative_entropy", "gaussian", "snr")),
        "difficulty.png",
        "difficulty.html",
    }
    assert "yes by relative entropy (Spearman −1.00" in result.stdout
    curve = DifficultyCurve.from_file(folder / "relative_entropy.json")
    assert len(curve.difficulty) == 12
    assert list(curve.difficulty) == sorted(curve.difficulty, reverse=True)
    (shown,) = re.findall(r"<pre>(.*?)</pre>", (folder / "difficulty.html").read_text(), re.DOTALL)
    Path("schedule.yaml").write_text(shown)
    schedule = CurriculumSchedule.from_file("schedule.yaml").to_dict()
    named = "difficulty/digits/relative_entropy.json"
    assert schedule["clusters"] == {"by": "relative_entropy", "count": 12, "difficulty": named}
    assert schedule["order"] == {"direction": "easy_to_hard", "by": named}


@pytest.mark.slow
def test_data_of_one_name_in_two_places_do_not_overwrite_each_other(tmp_path: Path) -> None:
    for place in ("one", "two"):
        draw(tmp_path / place / "set", "1.png", "2.png")
    options = ["--output", str(tmp_path), "--measure", "snr", *QUICK]
    for _ in range(2):
        run("--data", str(tmp_path / "one" / "set"), *options)
    with pytest.raises(ConfigError, match=f"snr.json is of the data in {tmp_path / 'one' / 'set'}, not of "):
        run("--data", str(tmp_path / "two" / "set"), *options)
    assert run("--data", str(tmp_path / "two" / "set"), *options, "--force").exit_code == 0


def test_a_folder_does_not_overwrite_the_curve_of_an_embedded_set_of_its_name(tmp_path: Path) -> None:
    draw(tmp_path / "digits", "1.png", "2.png")
    theirs, output = tmp_path / "digits", tmp_path / "output"
    output.mkdir()

    def snr_of(name: str, force: bool = False) -> bytes:
        probe = {"data": {"name": name}, "process": {"num_timesteps": 12}}
        measure(DifficultyConfig.model_validate({"measure": ["snr"], "probe": probe}), output, force=force)
        return (output / "snr.json").read_bytes()

    before = snr_of("digits")
    assert snr_of("digits") == before
    with pytest.raises(ConfigError, match=f"snr.json is of an embedded set, not of the data in {theirs}: "):
        snr_of(str(theirs))
    assert (output / "snr.json").read_bytes() == before
    assert snr_of(str(theirs), force=True) != before
    with pytest.raises(ConfigError, match=f"snr.json is of the data in {theirs}, not of an embedded set: "):
        snr_of("digits")


def test_an_address_is_a_place_that_does_not_depend_on_the_working_folder() -> None:
    assert _place("s3://bucket/set") == "s3://bucket/set"
    assert _place("set") == str(Path("set").absolute())
    assert _place("digits") is None


def test_json_is_one_object_with_the_claim_and_the_files(tmp_path: Path) -> None:
    result = run("--output", str(tmp_path), "--measure", "gaussian,snr", "--json", *QUICK)
    answer = json.loads(result.stdout)
    assert answer["claim"].startswith(
        "Low-noise timesteps are harder: yes by relative entropy of one Gaussian ("
    )
    assert list(answer["verdicts"]) == ["gaussian"]
    assert answer["verdicts"]["gaussian"]["yes"] is True
    assert set(answer["files"]) == {"gaussian", "snr", "picture", "page"}
    assert Path(answer["files"]["page"]).is_file()


def test_log_snr_alone_answers_nothing(tmp_path: Path) -> None:
    result = run("--output", str(tmp_path), "--measure", "snr", *QUICK)
    assert (
        "Low-noise timesteps are harder:\n  not measured: log-SNR depends on the process alone"
        in result.stdout
    )
    page = (tmp_path / "difficulty" / "digits" / "difficulty.html").read_text()
    assert "Low-noise timesteps are harder: not measured: log-SNR depends on the process alone" in page


@pytest.fixture
def probes_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train probe models in this process instead of in Ray's."""
    import contextlib

    from curriculum_ray.data import load_data

    def run_here(spec: ProbeSpec, tasks: list, **more: object) -> list[ProbeRun]:  # type: ignore[type-arg]
        data = load_data(spec.data)
        return [train_probe(spec, data, task.seed, task.interval, gradients=task.gradients) for task in tasks]

    monkeypatch.setattr("tuning.difficulty.measurements.connected", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr("tuning.difficulty.measurements.run_probes", run_here)


TINY = ProbeSpec(
    process=DDPMSpec(num_timesteps=12),
    model=UNetSpec(base_channels=4, channel_mult=(1,), attention=False),
    intervals=3,
    steps=20,
    batch_size=4,
    watched=2,
    gradient_batches=2,
    gradient_batch_size=2,
    gradient_points=1,
)


@pytest.mark.slow
@pytest.mark.usefixtures("probes_here")
def test_everything_is_measured_drawn_and_explained_on_one_page_without_a_network(tmp_path: Path) -> None:
    config = DifficultyConfig(
        measure=("relative_entropy", "convergence", "convergence-paper", "gradient"),
        probe=TINY,
        samples=16,
        seed=5,
    )
    curves = measure(config, tmp_path)
    assert list(curves) == ["relative_entropy", "convergence", "loss", "convergence-paper", "gradient"]
    assert curves["convergence"].meta["seeds"] == [5, 6]
    assert curves["convergence"].meta["loss_start"] == curves["convergence-paper"].meta["loss_start"]
    picture, page = write_report(curves, tmp_path)
    assert picture.read_bytes().startswith(b"\x89PNG")
    text = page.read_text()
    assert not re.search(r"https?://|@import|url\(", text)
    checked = Checker(text)
    assert all(address.startswith("data:") for address in checked.loads)
    assert "script" not in checked.names
    assert "default-src 'none'" in text
    assert text.count("data:image/png;base64,") == 4, "light and dark, for wide and for narrow screens"
    assert "prefers-color-scheme: dark" in text
    for words in ("by relative entropy", "by convergence", "by gradient noise scale", "By interval"):
        assert words in text


def test_names_from_outside_are_escaped_on_the_page(tmp_path: Path) -> None:
    curve = DifficultyCurve(
        kind="snr", data="<b>x</b>", process="<i>", u=(0, 0.5, 1), difficulty=(2, 1), meta={"unit": "<u>"}
    )
    _, page = write_report({"snr": curve}, tmp_path)
    assert not re.search(r"<b>x|<i>|<u>", page.read_text())


@pytest.mark.usefixtures("probes_here")
@pytest.mark.parametrize("kind", ["edm", "flow"])
def test_continuous_processes_are_measured_over_their_base_distribution(kind: str, tmp_path: Path) -> None:
    unread = {"gradient_batches", "gradient_batch_size", "gradient_points"}
    probe = TINY.model_dump(mode="json", exclude=unread) | {"process": {"kind": kind}, "base": None}
    config = DifficultyConfig.model_validate(
        {
            "measure": ["gaussian", "convergence"],
            "probe": probe,
            "seeds": 1,
        }
    )
    curves = measure(config, tmp_path)
    assert {curve.base.kind for curve in curves.values()} == {
        "log_normal_sigma" if kind == "edm" else "uniform"
    }
    assert len(curves["gaussian"].difficulty) == 1000


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        (["--measure", "entropy"], "--measure must name relative_entropy, .* or all, but got 'entropy'"),
        (["--data", "nowhere"], "data.name must be .*'digits' or a folder of images, but '.*nowhere'"),
        (["--intervals", "200"], "intervals"),
        (["--set", "probe.process.kind=edm", "--set", "probe.base.kind=uniform"], "probe.base: "),
        (["--set", "probe.speed=1"], "speed is not a known key"),
        *(
            (["--set", f"{key}=1000000000000"], f"{key} must be less than or equal to ")
            for key in ("samples", *(f"probe.{name}" for name in SIZES))
        ),
        (
            ["--measure", "snr", "--steps", "50"],
            "^--measure snr and --steps: probe.steps is read by convergence, ",
        ),
        *(
            (["--measure", measure, option, value], f"{key} is read by .* alone, but measure is {measure}$")
            for measure, option, value, key in (
                ("snr", "--seeds", "3", "seeds"),
                ("gaussian", "--intervals", "4", "probe.intervals"),
                ("gaussian", "--samples", "64", "samples"),
                ("convergence", "--samples", "64", "samples"),
                ("snr", "--prediction", "v", "probe.process.prediction"),
                ("snr", "--seed", "1", "seed"),
                ("relative_entropy", "--steps", "50", "probe.steps"),
                ("convergence-paper", "--set", "probe.gradient_points=1", "probe.gradient_points"),
            )
        ),
        (["--samples", "1" + "0" * 1000], "--samples: samples must be less than or equal to 100000000"),
        (["--set", f"probe.watched=1{'0' * 30}"], r"an integer must be smaller than 2\^63"),
    ],
)
def test_bad_input_is_refused_in_one_line(arguments: list[str], rule: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rule) as caught:
        run("--output", str(tmp_path), *arguments)
    assert "\n" not in str(caught.value)


def test_more_intervals_than_timesteps_are_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"probe\.intervals must be at most the 4 timesteps, but got 10$"):
        run("--output", str(tmp_path), "--num-timesteps", "4")
    assert not list(tmp_path.iterdir())


def test_closed_forms_need_no_timestep_for_each_interval(tmp_path: Path) -> None:
    assert run("--output", str(tmp_path), "--measure", "snr", "--num-timesteps", "5").exit_code == 0
    curve = DifficultyCurve.from_file(tmp_path / "difficulty" / "digits" / "snr.json")
    assert len(curve.difficulty) == 5


def test_help_shows_an_example() -> None:
    assert "python -m tune difficulty --data digits" in run("--help").output
