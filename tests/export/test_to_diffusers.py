"""An exported folder loads in diffusers, and gives the samples that we give for the same noise."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from curriculum_ray.config import ConfigError, parse
from curriculum_ray.data import NO_CONDITIONING, Conditioning, Dataset, DataSpec, autoencoder, is_image
from curriculum_ray.data.autoencoder import load_autoencoder, load_decoder
from curriculum_ray.data.dataset import to_uint8
from curriculum_ray.data.latent_cache import cache_latents
from curriculum_ray.diffusion import build_process
from curriculum_ray.diffusion.ddpm import trailing_timesteps
from curriculum_ray.evaluation.trained import Trained
from curriculum_ray.export import export_diffusers
from curriculum_ray.models import PythonSpec, build_model
from curriculum_ray.training.config import TrainConfig
from curriculum_ray.training.initial_weights import InitSpec, load_initial
from curriculum_ray.training.network import start_network
from tests.data.stand_ins import make_autoencoder
from tuning.cli import main

diffusers = pytest.importorskip("diffusers")

CLASSES = Conditioning("class", 3)
UNET2D = {
    "kind": "diffusers",
    "class_name": "UNet2DModel",
    "config": {
        "block_out_channels": [8, 8],
        "norm_num_groups": 4,
        "layers_per_block": 1,
        "down_block_types": ["DownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "UpBlock2D"],
    },
}
DIT = {"kind": "dit", "size": "S/2", "depth": 1, "width": 16, "heads": 2}
DIT2D = {
    "kind": "diffusers",
    "class_name": "DiTTransformer2DModel",
    "config": {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 1},
}
CONDITION2D = {
    "kind": "diffusers",
    "class_name": "UNet2DConditionModel",
    "config": {
        **UNET2D["config"],
        "attention_head_dim": 4,
        "cross_attention_dim": 8,
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    },
}
UNET1D = {
    "kind": "diffusers",
    "class_name": "UNet1DModel",
    "config": {"block_out_channels": [32, 32, 64], "layers_per_block": 1},
}
MODELS: dict[str, tuple[dict[str, Any], tuple[int, ...], Conditioning]] = {
    "unet": ({"kind": "unet", "base_channels": 8}, (1, 8, 8), CLASSES),
    "dit": (DIT, (1, 8, 8), NO_CONDITIONING),
    "dit-signal": (DIT, (1, 8), CLASSES),
    "dit-latents": (DIT, (4, 8, 8), NO_CONDITIONING),
    "mlp": ({"kind": "mlp", "width": 16, "depth": 1}, (2,), NO_CONDITIONING),
    "diffusers-unet": (UNET2D, (1, 8, 8), NO_CONDITIONING),
    "diffusers-unet-conditional": (UNET2D, (1, 8, 8), CLASSES),
    "diffusers-dit": (DIT2D, (1, 8, 8), NO_CONDITIONING),
    "diffusers-dit-conditional": (DIT2D, (1, 8, 8), CLASSES),
    "diffusers-captions": (CONDITION2D, (1, 8, 8), NO_CONDITIONING),
    "diffusers-captions-conditional": (CONDITION2D, (1, 8, 8), CLASSES),
    "diffusers-signal": (UNET1D, (1, 32), NO_CONDITIONING),
}
PROCESSES = {
    "ddpm": {"kind": "ddpm"},
    "ddpm-linear": {"kind": "ddpm", "betas": "linear"},
    "ddpm-linear-x0": {"kind": "ddpm", "betas": "linear", "prediction": "x0"},
    "ddpm-zero": {"kind": "ddpm", "prediction": "v", "zero_terminal_snr": True},
    "edm": {"kind": "edm"},
    "flow": {"kind": "flow"},
}


def trained(model: str, process: str) -> Trained:
    """A network with random weights in every layer, as a checkpoint would give it."""
    return trained_network(*MODELS[model], process)


def trained_network(
    spec: dict[str, Any], shape: tuple[int, ...], conditioning: Conditioning, process: str
) -> Trained:
    config = parse(TrainConfig, {"model": spec, "process": PROCESSES[process]}, "settings")
    torch.manual_seed(0)
    network = build_model(config.model, shape, conditioning).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return Trained(
        config=config,
        process=build_process(config.process),
        model=network,
        shape=shape,
        conditioning=network.conditioning,
        images=1280,
        path=Path("checkpoint-1280"),
    )


@pytest.mark.parametrize("model", ["unet", "diffusers-unet-conditional", "diffusers-dit"])
def test_a_run_can_start_from_an_exported_folder(model: str, tmp_path: Path) -> None:
    exported = trained(model, "ddpm")
    export_diffusers(exported, tmp_path / "out")
    fresh = build_model(exported.config.model, exported.shape, exported.conditioning)
    load_initial(fresh, InitSpec(path=str(tmp_path / "out")))
    for name, value in exported.model.state_dict().items():
        assert torch.equal(value, fresh.state_dict()[name])


@pytest.mark.parametrize("spec", [CONDITION2D, MODELS["unet"][0]], ids=["diffusers", "ours"])
def test_adapters_are_exported_merged_and_by_themselves(spec: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("peft")
    base = trained_network(spec, (1, 8, 8), NO_CONDITIONING, "flow")
    export_diffusers(base, tmp_path / "base")
    config = parse(
        TrainConfig,
        {"model": spec, "process": {"kind": "flow"}, "init_from": str(tmp_path / "base"), "lora": 2},
        "test",
    )
    adapted = start_network(config, base.shape, NO_CONDITIONING).eval()
    with torch.no_grad():
        for name, value in adapted.named_parameters():
            if ".lora_" in name:
                value.add_(0.2 * torch.randn_like(value))
    export_diffusers(dataclasses.replace(base, config=config, model=adapted), tmp_path / "out")
    x, level = torch.randn(2, 1, 8, 8), torch.tensor([10.0, 700.0])
    with torch.no_grad():
        expected, before = adapted(x, level), base.model(x, level)
    assert (expected - before).abs().max() > 1e-3

    fresh = build_model(config.model, base.shape, NO_CONDITIONING).eval()
    load_initial(fresh, InitSpec(path=str(tmp_path / "out")))
    with torch.no_grad():
        torch.testing.assert_close(fresh(x, level), expected, atol=1e-5, rtol=1e-4)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "the weights of base with its adapters merged" in card
    assert str(tmp_path) not in card
    alone = tmp_path / "out" / "pytorch_lora_weights.safetensors"
    assert alone.exists() == (spec is CONDITION2D) == ("load_lora_adapter" in card)
    if alone.exists():
        network = diffusers.UNet2DConditionModel.from_pretrained(str(tmp_path / "base"), subfolder="denoiser")
        network.load_lora_adapter(str(tmp_path / "out"), prefix=None, weight_name=alone.name)
        fresh.network = network.eval()
        with torch.no_grad():
            torch.testing.assert_close(fresh(x, level), expected, atol=1e-6, rtol=1e-5)


def load(folder: Path) -> Any:
    pipeline = diffusers.DiffusionPipeline.from_pretrained(str(folder), trust_remote_code=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder's code is copied where diffusers keeps modules: not into the user's home."""
    from diffusers.utils import dynamic_modules_utils

    monkeypatch.setattr(dynamic_modules_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))


CASES = [
    *((model, process) for model in ("unet", "dit", "diffusers-unet") for process in PROCESSES),
    ("dit-signal", "flow"),
    *(("dit-latents", process) for process in ("ddpm-zero", "edm", "flow")),
    *(("mlp", process) for process in PROCESSES if process != "ddpm-linear-x0"),
    ("diffusers-unet-conditional", "edm"),
    ("diffusers-dit", "ddpm-zero"),
    ("diffusers-dit-conditional", "flow"),
    ("diffusers-captions", "ddpm"),
    ("diffusers-captions-conditional", "flow"),
    ("diffusers-signal", "edm"),
]


def test_latents_are_decoded_by_the_autoencoder_in_the_folder(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    vae = make_autoencoder(tmp_path / "vae")
    images = Dataset("images", torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
    cache_latents(images, load_autoencoder(vae), tmp_path / "latents")
    ours = trained("dit-latents", "flow")
    data = DataSpec(name=str(tmp_path / "latents"), format="latents", vae=str(vae))
    ours = dataclasses.replace(ours, config=ours.config.model_copy(update={"data": data}))
    export_diffusers(ours, tmp_path / "out")
    vae.rename(tmp_path / "gone")
    pipeline, noise = load(tmp_path / "out"), torch.randn(3, 4, 8, 8)
    latents = pipeline(batch_size=3, noise=noise, num_inference_steps=3, output_type="latent")
    decoded = pipeline(batch_size=3, noise=noise, num_inference_steps=3)
    assert latents.shape == (3, 4, 8, 8)
    assert torch.equal(to_uint8(decoded), load_decoder(data)(latents))
    assert pipeline(batch_size=1, num_inference_steps=1, output_type="pil")[0].size == (16, 16)
    assert "latent" in (tmp_path / "out" / "README.md").read_text()
    # Elsewhere, without the autoencoder.
    autoencoder._decoder.cache_clear()
    export_diffusers(ours, tmp_path / "bare")
    assert "the export is without the autoencoder: the autoencoder" in caplog.text
    alone = load(tmp_path / "bare")(batch_size=3, noise=noise, num_inference_steps=3)
    assert torch.equal(alone, latents)


@pytest.mark.parametrize(("model", "process"), CASES)
def test_samples_equal_ours(model: str, process: str, tmp_path: Path) -> None:
    ours = trained(model, process)
    export_diffusers(ours, tmp_path / "out")
    noise = torch.randn(3, *ours.shape, generator=torch.Generator().manual_seed(1))
    labels = [0, 2, 1] if ours.conditioning else None
    guidance = 1.5 if labels else 1.0
    ddpm, bounded = process.startswith("ddpm"), is_image(ours.shape)
    steps = 5
    expected = ours.process.generate(
        ours.model,
        noise,
        sampler="ddim" if ddpm else "euler",
        steps=steps,
        condition=None if labels is None else torch.tensor(labels),
        guidance=guidance,
        clip=ddpm and bounded,
    )
    expected = expected.clamp(-1, 1) if bounded else expected
    got = load(tmp_path / "out")(
        batch_size=3, noise=noise, class_labels=labels, guidance_scale=guidance, num_inference_steps=steps
    )
    assert expected.std() > 0.05
    # Points are not clipped, and an untrained network sends them far away.
    scale = max(1.0, float(expected.abs().max())) if model == "mlp" else 1.0
    torch.testing.assert_close(got / scale, expected / scale, atol=1e-4, rtol=0)


@pytest.mark.parametrize("process", ["ddpm", "ddpm-linear-x0", "ddpm-zero", "edm"])
def test_one_step_of_what_nothing_bounds_equals_ours(process: str, tmp_path: Path) -> None:
    ours = trained("mlp", process)
    export_diffusers(ours, tmp_path / "out")
    noise = torch.randn(3, *ours.shape, generator=torch.Generator().manual_seed(1))
    sampler = "euler" if process == "edm" else "ddim"
    expected = ours.process.generate(ours.model, noise, sampler=sampler, steps=1, clip=False)
    got = load(tmp_path / "out")(batch_size=3, noise=noise, num_inference_steps=1)
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(got / scale, expected / scale, atol=1e-4, rtol=0)


@pytest.mark.parametrize("steps", [48, 61, 96, 103, 1000])
def test_trailing_timesteps_equal_ours_where_diffusers_rounds_otherwise(steps: int, tmp_path: Path) -> None:
    ours = trained("mlp", "ddpm-zero")
    export_diffusers(ours, tmp_path / "out")
    pipeline, noise = load(tmp_path / "out"), torch.randn(3, 2, generator=torch.Generator().manual_seed(1))
    got = pipeline(batch_size=3, noise=noise, num_inference_steps=steps)
    assert pipeline.scheduler.timesteps.tolist() == trailing_timesteps(1000, steps)
    expected = ours.process.generate(ours.model, noise, sampler="ddim", steps=steps, clip=False)
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(got / scale, expected / scale, atol=1e-4, rtol=0)


@pytest.mark.parametrize("steps", [1, 5])
def test_flow_by_heun_equals_ours(steps: int, tmp_path: Path) -> None:
    ours = trained("dit-latents", "flow")
    export_diffusers(ours, tmp_path / "out")
    noise = torch.randn(3, *ours.shape, generator=torch.Generator().manual_seed(1))
    expected = ours.process.generate(ours.model, noise, sampler="heun", steps=steps, clip=False)
    pipeline = load(tmp_path / "out")
    pipeline.scheduler = diffusers.FlowMatchHeunDiscreteScheduler()
    got = pipeline(batch_size=3, noise=noise, num_inference_steps=steps)
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)
    euler = ours.process.generate(ours.model, noise, sampler="euler", steps=steps, clip=False)
    assert steps == 1 or not torch.allclose(euler, expected, atol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"output_type": "np"}, "output_type must be one of pt, pil, latent, but got 'np'"),
        ({"class_labels": [0, 1], "batch_size": 3}, "one for each of 3 samples, but got 2"),
        ({"class_labels": [3]}, "class_labels must be from 0 to 2, but got 3"),
        ({"class_labels": [-1]}, "class_labels must be from 0 to 2, but got -1"),
        ({"noise": torch.zeros(2, 1, 8, 8)}, "noise must have the shape"),
    ],
)
def test_arguments_that_do_not_fit_together_are_refused(
    arguments: dict[str, Any], says: str, tmp_path: Path
) -> None:
    ours = trained("unet", "ddpm")
    assert ours.conditioning.size == 3
    export_diffusers(ours, tmp_path / "out")
    with pytest.raises(ValueError, match=says):
        load(tmp_path / "out")(num_inference_steps=1, **arguments)


def test_a_scheduler_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    export_diffusers(trained("dit", "edm"), tmp_path / "out")
    pipeline = load(tmp_path / "out")
    pipeline.scheduler = diffusers.HeunDiscreteScheduler()
    with pytest.raises(ValueError, match="does not know the scheduler HeunDiscreteScheduler"):
        pipeline(batch_size=1)


@pytest.mark.parametrize("steps", [1, 7])
@pytest.mark.parametrize("process", ["ddpm", "ddpm-linear-x0", "ddpm-zero"])
def test_steps_that_do_not_divide_the_timesteps_and_a_generator(
    process: str, steps: int, tmp_path: Path
) -> None:
    ours = trained("unet", process)
    export_diffusers(ours, tmp_path / "out")
    got = load(tmp_path / "out")(
        batch_size=2, generator=torch.Generator().manual_seed(4), num_inference_steps=steps
    )
    noise = torch.randn(2, *ours.shape, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(got, ours.process.generate(ours.model, noise, steps=steps), atol=1e-4, rtol=0)


def test_the_card_says_how_it_was_trained_and_is_loaded(tmp_path: Path) -> None:
    export_diffusers(trained("unet", "ddpm"), tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    for expected in (
        "1,280 images",
        "from_pretrained",
        "clusters:",
        "tune export --checkpoint checkpoint-1280",
    ):
        assert expected in card
    index = json.loads((tmp_path / "out" / "model_index.json").read_text())
    assert index["scheduler"] == ["diffusers", "DDIMScheduler"]


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kept").touch()
    with pytest.raises(ConfigError, match="new or empty"):
        export_diffusers(trained("unet", "ddpm"), tmp_path)


@pytest.mark.parametrize("into", [".", "link"])
def test_an_empty_folder_is_filled_and_stays(
    into: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (tmp_path / "link").symlink_to(here)
    monkeypatch.chdir(here if into == "." else tmp_path)
    export_diffusers(trained("mlp", "flow"), Path(into))
    assert {path.name for path in Path(into).iterdir()} == {
        *("README.md", "denoiser", "model_index.json", "pipeline.py", "scheduler")
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "link"]
    assert (tmp_path / "link").resolve() == here
    assert load(here)(num_inference_steps=2).shape == (1, 2)


def test_no_file_of_an_export_says_where_things_lay(tmp_path: Path) -> None:
    place = tmp_path / "of-somebody"
    vae = make_autoencoder(place / "vae")
    images = Dataset("images", torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
    cache_latents(images, load_autoencoder(vae), place / "latents")
    ours = trained("dit-latents", "flow")
    settings = {
        "model": ours.config.model,
        "process": {"kind": "flow"},
        "data": {"name": str(place / "latents"), "format": "latents", "vae": str(vae)},
        "init_from": str(place / "base"),
        "schedule": {
            "version": 1,
            "clusters": {"by": "loss", "count": 4, "difficulty": str(place / "loss.json")},
            "order": {"direction": "easy_to_hard", "by": str(place / "snr.json")},
            "pacing": {"rule": "fixed", "finish_by": 0.5},
        },
    }
    config = parse(TrainConfig, settings, "test")
    ours = dataclasses.replace(ours, config=config, path=place / "checkpoint-1280")
    export_diffusers(ours, tmp_path / "out")
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert [path.name for path in files if b"of-somebody" in path.read_bytes()] == []
    assert json.loads((tmp_path / "out" / "vae" / "config.json").read_text())["_name_or_path"] == "vae"
    card = (tmp_path / "out" / "README.md").read_text()
    for name, times in (("loss.json", 2), ("snr.json", 2), ("checkpoint-1280", 1), ('"path": "base"', 1)):
        assert card.count(name) == times


def test_a_folder_that_cannot_be_written_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"--into .*file/out cannot be written: Not a directory"):
        export_diffusers(trained("unet", "ddpm"), tmp_path / "file" / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_diffusers_cannot_express_is_refused_with_one_line(tmp_path: Path) -> None:
    ours = trained("unet", "ddpm")
    captioned = dataclasses.replace(ours, conditioning=Conditioning("tokens", 9, 4))
    own = ours.config.model_copy(update={"model": PythonSpec(path="my.networks.Net")})
    for model, reason in (
        (captioned, "captions"),
        (dataclasses.replace(ours, config=own), "my.networks.Net"),
    ):
        with pytest.raises(ConfigError, match=reason) as error:
            export_diffusers(model, tmp_path / "out")
        assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_the_command_exports_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = trained("unet", "flow")
    monkeypatch.setattr("curriculum_ray.evaluation.trained.load_trained", lambda path, ema, trust_code: ours)
    with pytest.raises(SystemExit) as exit_:
        main(
            [
                "export",
                "--checkpoint",
                "runs/x",
                "--to",
                "diffusers",
                "--into",
                str(tmp_path / "out"),
                "--json",
            ]
        )
    assert exit_.value.code == 0
    assert json.loads(capsys.readouterr().out)["images"] == 1280
    assert (tmp_path / "out" / "pipeline.py").exists()


HALF = [
    ("unet", "ddpm"),
    ("dit", "edm"),
    ("dit-signal", "flow"),
    ("mlp", "flow"),
    ("diffusers-unet-conditional", "ddpm"),
    ("diffusers-dit", "ddpm-zero"),
    ("diffusers-captions", "flow"),
]


def _draw(pipeline: Any, model: str) -> torch.Tensor:
    shape, conditioning = MODELS[model][1:]
    noise = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))
    return pipeline(2, noise=noise, num_inference_steps=3, class_labels=[0, 1] if conditioning else None)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("model", "process"), HALF)
def test_an_export_runs_in_half_precision(
    model: str, process: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    export_diffusers(trained(model, process), tmp_path / "out")
    whole = _draw(load(tmp_path / "out"), model)
    pipeline = diffusers.DiffusionPipeline.from_pretrained(
        str(tmp_path / "out"), trust_remote_code=True, torch_dtype=dtype
    )
    half = _draw(pipeline, model)
    assert pipeline.denoiser.dtype == dtype
    assert half.dtype == torch.float32
    assert (half - whole).abs().mean() < 0.05 * whole.abs().mean() + 0.02


@pytest.mark.parametrize(("model", "process"), HALF)
def test_an_export_that_diffusers_saved_again_is_the_same(model: str, process: str, tmp_path: Path) -> None:
    export_diffusers(trained(model, process), tmp_path / "out")
    first = load(tmp_path / "out")
    first.save_pretrained(tmp_path / "again")
    second = load(tmp_path / "again")
    second.save_pretrained(tmp_path / "once more")
    for pipeline in (second, load(tmp_path / "once more")):
        assert torch.equal(_draw(pipeline, model), _draw(first, model))


def test_an_export_is_not_uploaded_without_its_code(tmp_path: Path) -> None:
    export_diffusers(trained("mlp", "flow"), tmp_path / "out")
    with pytest.raises(ValueError, match="would omit the code"):
        load(tmp_path / "out").save_pretrained(tmp_path / "again", push_to_hub=True)
