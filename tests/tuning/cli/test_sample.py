"""`tune sample` and `tune evaluate` on a checkpoint of every kind of data that they may meet."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image

from curriculum_ray.data import DataSpec, load_data
from curriculum_ray.data.autoencoder import load_autoencoder
from curriculum_ray.data.latent_cache import cache_latents
from curriculum_ray.training import checkpoint as checkpoints
from curriculum_ray.training.config import TrainConfig
from curriculum_ray.training.loop import train
from curriculum_ray.training.trainer import Trainer
from tuning.cli import main
from tuning.cli.sample import _source

SMALL = {"base_channels": 8}


def _images(folder: Path) -> str:
    """Two classes of ten noise images of 40×32 pixels."""
    generator = numpy.random.default_rng(0)
    for number in range(20):
        place = folder / f"class-{number % 2}"
        place.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (32, 40, 3), dtype=numpy.uint8)
        Image.fromarray(pixels).save(place / f"{number}.png")
    return str(folder)


def _run(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--json"])
    printed = capsys.readouterr()
    assert ended.value.code == 0, printed.err
    return json.loads(printed.out)


def _trained(folder: Path, **settings: Any) -> Path:
    config = TrainConfig.model_validate({"batch_size": 4, "images": 8, **settings})
    trainer = Trainer(config, load_data(config.data))
    train(trainer)
    return checkpoints.write(folder / "checkpoint-run-000000000008", trainer.checkpoint())


@pytest.mark.parametrize(
    "kind",
    ["captions", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("mixture2d", "tones")), "folder"],
)
def test_whatever_was_trained_on_is_drawn_and_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    data: dict[str, Any] = {"name": kind}
    prompt: list[str] = []
    if kind == "captions":
        data = {"name": "shapes", "conditioning": "text"}
        prompt = ["--caption", "a small red circle on blue", "--guidance", "2"]
    if kind == "folder":
        data = {"name": _images(tmp_path / "images"), "image_size": 16}
    model = {"model": SMALL} if kind in ("captions", "folder") else {}
    checkpoint = str(_trained(tmp_path, data=data, **model))
    few = ["--checkpoint", checkpoint, "--num-samples", "16", "--steps", "2"]
    drawn = _run(capsys, "sample", *few, *prompt, "--output", str(tmp_path))
    assert drawn["num_samples"] == 16
    with Image.open(drawn["path"]) as picture:
        assert min(picture.size) >= 32
    settings = ["--checkpoint", checkpoint, "--num-samples", "64", "--set", "steps=2"]
    if kind == "folder":
        # Eight images are too few for a covariance of Inception's features, and its weights are not shipped.
        settings += ["--set", "extractor=random-cnn"]
    scored = _run(capsys, "evaluate", *settings)
    assert scored["metrics"]["fid"] > 0


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--sampler", "heun"], "--sampler must be one of ddim, ancestral for ddpm-epsilon, but got heun"),
        (["--steps", "1001"], "--steps must be at most 1000, the number of timesteps, but got 1001"),
        (["--guidance", "nan"], "Invalid value for '--guidance': nan is not a finite number"),
        (["--guidance", "2"], "--guidance needs a model trained with label_dropout"),
    ],
)
def test_what_a_model_cannot_do_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], line: str
) -> None:
    data = {"name": "digits", "conditioning": "class"}
    checkpoint = str(_trained(tmp_path, data=data, model={**SMALL, "label_dropout": 0.0}))
    with pytest.raises(SystemExit) as ended:
        main(["sample", "--checkpoint", checkpoint, "--output", str(tmp_path), *options])
    assert ended.value.code == 2
    assert line in capsys.readouterr().err


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ("", "--data: name String should have at least 1 character, but got ''"),
        ("x" * 300, "names in a path must have at most 255 bytes"),
        ("a\nb", "a path must have only printable characters"),
        ("digits", "data.image_size must be 8 or left out for the digits, but got 16"),
        ("tones", "data.image_size must be left out for tones, but got 16"),
        ("missing", "data.name must be"),
        ("grey", "--data must have items of the model's shape, but those of grey are 1x16x16 and "),
    ],
)
def test_data_to_compare_with_are_settings_like_others(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    data: str,
    line: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    own = {"name": _images(tmp_path / "images"), "image_size": 16, "conditioning": "none"}
    Path("grey").mkdir()
    Image.new("L", (16, 16)).save("grey/1.png")
    checkpoint = str(_trained(tmp_path, data=own, model=SMALL))
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", "--checkpoint", checkpoint, "--data", data, "--set", "extractor=random-cnn"])
    err = capsys.readouterr().err
    assert (ended.value.code, err.count("\n")) == (2, 1), err
    assert line in err


def test_captions_of_other_words_than_those_of_the_training_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def captioned(name: str, words: str) -> str:
        folder = tmp_path / name
        folder.mkdir()
        lines = []
        for number in range(20):
            Image.new("RGB", (16, 16), (number, 0, 0)).save(folder / f"{number}.png")
            lines.append({"file_name": f"{number}.png", "text": words})
        (folder / "metadata.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        return str(folder)

    own = {"name": captioned("own", "a blue disc"), "image_size": 16, "conditioning": "text"}
    checkpoint = str(_trained(tmp_path, data=own, model=SMALL))
    few = ["--num-samples", "16", "--set", "steps=2", "--set", "extractor=random-cnn"]
    assert _run(capsys, "evaluate", "--checkpoint", checkpoint, *few)["metrics"]
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", "--checkpoint", checkpoint, *few, "--data", captioned("other", "a disc green")])
    assert ended.value.code == 2
    assert "must have captions of the words that the model was trained on, but those of other differ" in (
        capsys.readouterr().err
    )


def test_data_beside_a_file_of_statistics_are_for_conditions_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(tmp_path / "digits.npz")
    _run(capsys, "reference", "--data", "digits", "--into", file)
    both = ["--data", "digits", "--num-samples", "64", "--set", "steps=2", "--set", f"reference={file}"]
    plain, classes = (
        str(_trained(tmp_path / kind, data={"name": "digits", "conditioning": kind}, model=SMALL))
        for kind in ("none", "class")
    )
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", "--checkpoint", plain, *both])
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        f"error: --data 'digits' and reference '{file}' both say what samples are compared with: leave one out\n"
    )
    assert _run(capsys, "evaluate", "--checkpoint", plain, *both[2:])["metrics"]
    assert _run(capsys, "evaluate", "--checkpoint", classes, *both)["metrics"]


def test_what_is_left_out_of_the_data_is_said_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = _images(tmp_path / "images")
    (tmp_path / "images/class-0/broken.png").write_bytes(b"?")
    (tmp_path / "images/class-1/1.png.part").touch()
    data = {"name": images, "image_size": 16, "corrupt": "skip"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        checkpoint = str(_trained(tmp_path, data=data, model=SMALL))
    few = ["--num-samples", "16", "--set", "steps=2", "--set", "extractor=random-cnn", "--json"]
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with pytest.raises(SystemExit) as ended:
            main(["evaluate", "--checkpoint", checkpoint, *few])
    out, err = capsys.readouterr()
    assert ended.value.code == 0, err
    assert json.loads(out)["metrics"]
    said = [line for line in err.splitlines() if "images" in line]
    assert said[0].startswith(f"warning: images of {images} were skipped: 1 of 21 cannot be read")
    assert said[1] == f"warning: {images}: left out: 1 half-transferred, e.g. class-1/1.png.part"
    assert not [line for line in err.splitlines() if not line.startswith("warning: ")]


def test_edms_stochastic_sampler_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = str(_trained(tmp_path, data={"name": "digits"}, model=SMALL, process={"kind": "edm"}))
    few = ["--checkpoint", checkpoint, "--num-samples", "4", "--steps", "3"]
    assert _run(capsys, "sample", *few, "--sampler", "stochastic", "--output", str(tmp_path))


def test_captions_take_turns_as_classes_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = {"name": "shapes", "conditioning": "text"}
    checkpoint = str(_trained(tmp_path, data=data, model=SMALL))
    captions = ["a small red circle on blue", "a large green square on white"]

    def draw(place: str, *captions: str) -> numpy.ndarray[Any, Any]:
        options = [part for caption in captions for part in ("--caption", caption)]
        few = ["--checkpoint", checkpoint, "--num-samples", "2", "--steps", "2", "--guidance", "1"]
        drawn = _run(capsys, "sample", *few, *options, "--output", str(tmp_path / place))
        assert drawn["captions"] == list(captions)
        with Image.open(drawn["path"]) as picture:
            return numpy.asarray(picture.convert("RGB"))

    both, first, second = draw("both", *captions), draw("first", captions[0]), draw("second", captions[1])
    middle = both.shape[1] // 2
    assert (both[:, :middle] == first[:, :middle]).all()
    assert (both[:, middle:] == second[:, middle:]).all()


def test_no_caption_is_left_out_for_want_of_samples(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = {"name": "shapes", "conditioning": "text"}
    checkpoint = str(_trained(tmp_path, data=data, model=SMALL))
    words = ["--caption", "a small red circle on blue", "--caption", "a large green square on white"]
    with pytest.raises(SystemExit) as ended:
        main(["sample", "--checkpoint", checkpoint, "--num-samples", "1", *words, "--output", str(tmp_path)])
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "error: --num-samples must be at least 2, the number of captions that take turns, but got 1\n"
    )
    assert not list(tmp_path.glob("*.png"))


def test_latents_are_decoded_by_their_autoencoder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    diffusers.AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        norm_num_groups=4,
        latent_channels=4,
    ).save_pretrained(tmp_path / "vae")
    images = load_data(DataSpec(name=_images(tmp_path / "images"), image_size=32))
    cache_latents(images, load_autoencoder(tmp_path / "vae"), tmp_path / "latents", shard_size=8)
    data = {"name": str(tmp_path / "latents"), "format": "latents", "vae": str(tmp_path / "vae")}
    checkpoint = _trained(tmp_path, data=data, model=SMALL)
    few = ["--checkpoint", str(checkpoint), "--num-samples", "4", "--steps", "2"]
    drawn = _run(capsys, "sample", *few, "--output", str(tmp_path))
    with Image.open(drawn["path"]) as picture:
        # Four images of 32×32 pixels, where a latent has 16×16.
        assert picture.size[0] * picture.size[1] >= 4 * 32 * 32
        assert picture.mode == "RGB"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("runs/mine/checkpoint-run-000000000640", "mine"),
        ("runs/mine/best/checkpoint-run-000000000640", "mine"),
        ("runs/study/trials/search-000/checkpoint-trial-000000000640", "study-search-000"),
        ("runs/ema-0.1", "ema-0.1"),
    ],
)
def test_a_grid_is_named_by_the_run_that_it_is_of(path: str, name: str) -> None:
    assert _source(Path(path)) == name
