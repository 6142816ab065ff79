"""The command line: one clear line and exit code 2 for bad input, before anything is started."""

from __future__ import annotations

import importlib
import json
import math
import shlex
from pathlib import Path

import click
import pytest
import yaml

from clusters.cli import cli as clusters
from curriculum_ray.buckets.store import BucketError
from curriculum_ray.data.spec import EMBEDDED
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.training.checkpoint import Checkpoint, write
from tuning.cli import cli, main
from tuning.cli.options import read_settings
from tuning.cli.output import json_text
from tuning.study.config import StudyConfig

_SHARED = [
    *("--output", "--data", "--schedule", "--checkpoint", "--num-samples", "--num-workers", "--use-gpu"),
    *("--seed", "--mlflow-uri", "--config", "--set", "--json"),
]


def _exit(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    out, err = capsys.readouterr()
    return int(caught.value.code or 0), out, err


def _file(path: Path, content: object) -> str:
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return str(path)


SCHEDULE = {"version": 1, "clusters": {"by": "uniform", "count": 4}, "order": {"direction": "none"}}


def test_a_bucket_that_does_not_answer_a_command_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(**_: object) -> None:
        raise BucketError("s3://bucket/runs/a was not read: its server does not answer", "")

    monkeypatch.setattr(cli, "main", fails)
    line = "error: s3://bucket/runs/a was not read: its server does not answer\n"
    assert _exit(capsys, "train") == (2, "", line)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["trian"], "No such command 'trian'"),
        (["train", "--nonsense"], "--nonsense"),
        (["train", "--images", "many"], "--images"),
        (["train", "--set", "images"], "key.path=value"),
        (["train", "--set", "images=0"], "--set images=0: images must be greater than or equal to 1"),
        (
            ["train", "--set", "optimizer.lr=1"],
            "optimizer.lr is not a known key (its value is 1); did you mean optimizer.learning_rate?",
        ),
        (["search", "--set", "optimizer.lr=1"], "--set optimizer.lr=1: run.optimizer.lr is not a known key"),
        (["search", "--set", "modle=unet"], "did you mean run.model?"),
        (
            ["train", "--set", "optimizer.learning_rate=fast"],
            "optimizer.learning_rate must be a valid number",
        ),
        *(
            (["claims", "--list", *words], f"error: {words[0]} is for running studies, but --list runs none")
            for words in (["--confirm-seeds", "3"], ["--concurrent", "2"], ["--use-gpu"])
        ),
        (
            ["plan", "--set", "schedule.active.floor=0.1"],
            "error: --set schedule.active.floor=0.1: run.schedule.active.set is required but missing",
        ),
        (
            ["train", "--set", "model=dit-Z/9"],
            "size must be S, B, L or XL, with a patch of 1 to 99 as in S/2 or none",
        ),
        (
            ["train", "--set", "schedule.clusters=8"],
            "schedule.clusters must be a mapping of keys to values, but got 8",
        ),
        (
            ["train", "--set", "evaluation.sha256=x"],
            "evaluation.sha256 must be a SHA-256, 64 hexadecimal digits",
        ),
        (
            ["train", "--set", "optimizer.kind=sgd", "--set", "optimizer.options.momentum=nan"],
            "optimizer.options.momentum must be a finite number, true or false for sgd, but got 'nan'",
        ),
        (["train", "--set", "batch_size=10", "--num-workers", "4"], "batch_size must be a multiple"),
        (["train", "--num-workers", "128"], "128 CPUs are needed"),
        (["train", "--use-gpu", "--num-workers", "64"], "are needed (64 workers x 1)"),
        (["train", "--set", "process.num_timesteps=0"], "process.num_timesteps must be greater"),
        (["train", "--set", "weighting.gamma=5"], "weighting.gamma is not a known key"),
        (["train", "--config", "missing.yaml"], "missing.yaml does not exist"),
        (["train", "--schedule", "missing.yaml"], "missing.yaml does not exist"),
        (["train", "--data", "missing-folder"], "missing-folder"),
        (["search", "--space", "missing.yaml"], "missing.yaml does not exist"),
        (["search", "--space", "nonsense"], "--space must be one of default"),
        (["search", "--trials", "0"], "--trials"),
        (["search", "--set", "run.evaluation=null"], "run.evaluation must be set"),
        (["search", "--pack", "0"], "--pack"),
        (["search", "--pack", "2", "--num-workers", "2"], "resources.num_workers must be 1, but is 2"),
        (["search", "--isolate", "--set", "resources.leak_gib=1"], "isolate is on and leak_gib 1"),
        (["search", "--pack", "2", "--isolate"], "but resources.isolate gives each its own"),
        (
            ["search", "--pack", "2", "--set", "run.compile=true"],
            "compile must be false where runs are packed",
        ),
        (
            ["search", "--pack", "2", "--set", "run.model=diffusers:UNet2DModel"],
            "model.kind must be unet, dit or mlp where runs are packed, but got diffusers",
        ),
        (
            ["search", "--pack", "2", "--concurrent", "3"],
            "--concurrent must be a multiple of --pack 2, but got 3",
        ),
        (
            ["search", "--concurrent", "3", "--num-workers", "64"],
            "192 CPUs are needed (3 at a time x 64 workers x 1)",
        ),
        (
            ["plan", "--set", "model.nosuch=1", "--set", "model=dit-S/2"],
            "--set model=dit-S/2 would overwrite --set model.nosuch=1: leave one of them out",
        ),
        (
            ["plan", "--set", "optimizer={kind: sgd, nosuch: 1}", "--set", "run.optimizer={kind: sgd}"],
            "--set run.optimizer={kind: sgd} would overwrite --set optimizer={kind: sgd, nosuch: 1}",
        ),
        (
            ["train", "--set", "images=5000", "--images", "44800"],
            "--images would overwrite --set images=5000: leave one of them out",
        ),
        (
            ["search", "--set", "run={images: 5000}", "--images", "44800"],
            "--images would overwrite --set run={images: 5000}: leave one of them out",
        ),
        (
            ["search", "--set", "schedule.base.kind=logit_normal"],
            "--set schedule.base.kind=logit_normal: run.schedule must be left out of a study",
        ),
        (
            ["plan", "--set", "run.schedule={version: 1, base: {kind: logit_normal}}"],
            "run.schedule.base.kind is 'logit_normal': name it in arms, rivals or the space",
        ),
        (
            [
                "plan",
                "--set",
                "arms={a: {weighting.kind: p2}}",
                "--set",
                "schedule.importance.rule=gradient_norm",
            ],
            "run.schedule must be left out of a study",
        ),
        (
            ["search", "--set", "run.seed=5"],
            "--set run.seed=5: run.seed must be left out of a study, whose trials get theirs from seed, but is 5",
        ),
        (
            ["plan", "--set", "rivals={uniform: {weighting.kind: p2}}"],
            "a rival's name must not be uniform, which is that of uniform sampling",
        ),
        (
            ["plan", "--set", "confirm_top=0", "--confirm-seeds", "5"],
            "confirm_seeds is for confirmations, of which confirm_top 0 has none, but got 5",
        ),
        (["plan", "--set", "confirm_top=5", "--trials", "2"], "confirm_top must be at most 4"),
        (["sample", "--checkpoint", "missing"], "--checkpoint missing does not exist"),
        (["evaluate", "--checkpoint", "missing"], "--checkpoint missing does not exist"),
        (["best", "--output", "missing"], "no MLflow store"),
        (["best", "--metric", "is"], "--metric"),
    ],
)
def test_bad_input_ends_with_one_line_and_code_2(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    code, out, err = _exit(capsys, *arguments)
    assert code == 2, err
    assert err.startswith("error: ")
    assert says in err
    assert err.count("\n") == 1
    # What is in the data is said before what does not fit it.
    assert all(line.startswith(("data ", "  ")) for line in out.splitlines())


@pytest.mark.parametrize("module", ["tuning.cli", "clusters.cli"])
def test_without_a_command_the_whole_help_is_shown(capsys: pytest.CaptureFixture[str], module: str) -> None:
    start = importlib.import_module(module).main
    shown = {}
    for arguments in ([], ["--help"]):
        with pytest.raises(SystemExit) as caught:
            start(arguments)
        out, err = capsys.readouterr()
        shown[caught.value.code] = (out, err)
    helped = shown[0][0]
    assert helped.startswith("Usage: python -m ")
    assert [
        line
        for line in helped.partition("Commands:\n")[2].splitlines()
        if not line.endswith(".") or line.endswith("...")
    ] == []
    assert shown == {0: (helped, ""), 2: ("", helped)}


def test_json_has_null_for_numbers_that_are_not_finite() -> None:
    values = {"gain": math.nan, "all": [1.5, -math.inf, {"deep": (math.inf, "NaN")}]}
    assert json.loads(json_text(values), parse_constant=pytest.fail) == {
        "gain": None,
        "all": [1.5, None, {"deep": [None, "NaN"]}],
    }


def test_a_schedule_file_does_not_replace_what_was_set_of_the_schedule(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    _file(tmp_path / "schedule.yaml", SCHEDULE)
    code, _, err = _exit(capsys, "train", "--schedule", "schedule.yaml", "--set", "schedule.nosuch=3")
    assert code == 2
    assert (
        err
        == "error: --schedule schedule.yaml would overwrite --set schedule.nosuch=3: leave one of them out\n"
    )


def test_what_is_set_lies_over_the_file_and_a_group_and_options_over_both(tmp_path: Path) -> None:
    content = {"images": 640, "batch_size": 64, "seed": 1, "model": "dit-S/2", "optimizer": {"kind": "sgd"}}
    file = Path(_file(tmp_path / "settings.yaml", content))
    overrides = ("optimizer={}", "optimizer.kind=adamw", "model=unet", "seed=2")
    settings = read_settings(RunConfig, file, overrides, {"images": ("--images", 1280)})
    assert (settings.images, settings.batch_size, settings.seed) == (1280, 64, 2)
    assert (settings.model.kind, settings.optimizer.kind) == ("unet", "adamw")


def test_of_the_same_key_given_twice_the_later_value_holds() -> None:
    overrides = ("run.batch_size=16", "batch_size=32")
    assert read_settings(StudyConfig, None, overrides, {}, within="run").run.batch_size == 32


def test_a_setting_of_the_run_means_the_same_in_search_and_train() -> None:
    overrides = ("model=dit-S/2", "optimizer.learning_rate=0.1", "run.images=640", "seed=3")
    study = read_settings(StudyConfig, None, overrides, {}, within="run")
    run = read_settings(RunConfig, None, (*overrides[:2], "images=640"), {})
    assert study.run == run
    assert (study.seed, study.run.seed) == (3, 0), "a key that both have is the study's"
    assert set(StudyConfig.model_fields) & set(RunConfig.model_fields) == {"seed"}, (
        "docs/howto/search.md says so"
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"version": 99}, "version"),
        ({"clusters": {"by": "uniform", "count": 0}}, "clusters"),
        ({"clusters": {"by": "uniform", "count": 2000}, "order": {"direction": "easy_to_hard"}}, "clusters"),
        (
            {"order": {"direction": "easy_to_hard"}, "pacing": {"rule": "plateau", "patience": 0}},
            "patience",
        ),
        ({"clustres": {}}, "clustres"),
        ({"order": {"direction": "easy_to_hard", "seed": 3}}, "seed"),
    ],
)
def test_a_faulty_schedule_is_refused_before_training(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    change: dict[str, object],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    path = _file(tmp_path / "schedule.yaml", {**SCHEDULE, **change})
    code, _, err = _exit(capsys, "train", "--schedule", path)
    assert code == 2, err
    assert says in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "says"),
    [
        *((text, "must hold a mapping of keys to values, but is empty") for text in ("", "# none\n", "null")),
        ("[]", "must hold a mapping of keys to values, but holds list"),
        ("a: [", ""),
        ("a: 1\na: 2", ""),
        ("\x00\x01", ""),
    ],
)
def test_a_file_that_is_no_settings_file_is_refused(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    content: str,
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    path = _file(tmp_path / "settings.yaml", content)
    code, _, err = _exit(capsys, "train", "--config", path)
    assert code == 2
    assert f"{path} {says}".strip() in err
    assert err.count("\n") == 1


def test_a_data_folder_without_images_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    code, _, err = _exit(capsys, "search", "--data", "pictures")
    assert code == 2
    assert "pictures" in err


def test_an_output_that_cannot_be_written_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    code, _, err = _exit(capsys, "train", "--output", "file/runs")
    assert code == 2
    assert "file/runs cannot be written" in err


def test_a_folder_that_is_not_there_is_named_by_the_option_that_gave_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    nope, into = str(tmp_path / "nope"), str(tmp_path / "into")
    code, _, err = _exit(capsys, "ema", "--run", nope, "--sigma-rel", "0.1", "--into", into)
    assert (code, err) == (2, f"error: --run {nope} does not exist\n")


@pytest.mark.parametrize("shape", [[3, 10**9, 10**9], [3, 0, 8], []])
def test_a_checkpoint_of_absurd_items_is_refused_before_its_network_is_built(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, shape: list[int]
) -> None:
    none = {"kind": "none"}
    state = {"config": {}, "shape": shape, "conditioning": none, "images": 1}
    path = write(tmp_path / "checkpoint", Checkpoint(tensors={"ema": {}}, state=state))
    code, _, err = _exit(capsys, "sample", "--checkpoint", str(path))
    assert code == 2
    assert "its items must have 1 to 268,435,456 numbers" in err
    assert f"shape in its state.json is {shape}" in err


def test_a_corrupt_checkpoint_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text(json.dumps({"version": 1, "sha256": {"ema.safetensors": "0" * 64}}))
    (tmp_path / "ema.safetensors").write_bytes(b"nonsense")
    code, _, err = _exit(capsys, "sample", "--checkpoint", str(tmp_path))
    assert code == 2
    assert "does not match its SHA-256" in err


@pytest.mark.parametrize(
    "command", ["search", "best", "status", "compare", "train", "sample", "evaluate", "difficulty"]
)
def test_help_shows_an_example(capsys: pytest.CaptureFixture[str], command: str) -> None:
    code, out, _ = _exit(capsys, command, "--help")
    assert code == 0
    assert f"python -m tune {command}" in out


def _commands(group: click.Group, name: str) -> dict[str, click.Command]:
    context = click.Context(group, info_name=name)
    found: dict[str, click.Command] = {name: group}
    for each in group.list_commands(context):
        command = group.get_command(context, each)
        assert command is not None
        full = f"{name} {each}"
        found.update(_commands(command, full) if isinstance(command, click.Group) else {full: command})
    return found


@pytest.mark.parametrize(
    ("name", "command"), [*_commands(cli, "tune").items(), *_commands(clusters, "clusters").items()]
)
def test_no_help_shows_a_value_that_is_not_there(name: str, command: click.Command) -> None:
    text = command.get_help(click.Context(command, info_name=name))
    assert "None" not in text


@pytest.mark.parametrize(
    ("name", "command"), [*_commands(cli, "tune").items(), *_commands(clusters, "clusters").items()]
)
def test_the_examples_of_a_help_are_accepted(name: str, command: click.Command) -> None:
    lines = [line for line in (command.epilog or "").splitlines() if "python -m" in line]
    assert lines or isinstance(command, click.Group), f"{name} has no example"
    for line in lines:
        words = shlex.split(line)
        module, word, *arguments = words[words.index("-m") + 1 :]
        group = {"tune": cli, "clusters": clusters}[module]
        context = click.Context(group, info_name=module)
        found = group.get_command(context, word)
        assert found is not None, line
        found.make_context(word, arguments, parent=context)


def test_the_help_of_data_names_all_that_is_embedded(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = _exit(capsys, "train", "--help")
    assert not [name for name in EMBEDDED if f"`{name}`" not in out]


def test_shared_options_mean_the_same_everywhere() -> None:
    context = click.Context(cli)
    seen: dict[str, set[tuple[str, str]]] = {}
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        for option in command.params:
            if not isinstance(option, click.Option):
                continue
            seen.setdefault(option.opts[0], set()).add((str(option.help), str(option.type)))
    for name in _SHARED:
        # Results may lie in a bucket, too, where a command says so; and latents are no results. `best` asks by data.
        assert len(seen[name]) == {"--output": 3, "--data": 2}.get(name, 1), (name, seen[name])
