"""Export a trained model as a folder that diffusers loads, with diffusers' own schedulers."""

from __future__ import annotations

import json
import logging
import os
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from curriculum_ray.config import ConfigError
from curriculum_ray.data import DataSpec, is_image
from curriculum_ray.data.autoencoder import Decoder, load_decoder
from curriculum_ray.diffusion import DDPM, DDPMSpec, EDMSpec, FlowSpec, Process, ProcessSpec
from curriculum_ray.diffusion.betas import BETAS
from curriculum_ray.evaluation.trained import Trained
from curriculum_ray.export.card import model_card
from curriculum_ray.extras import install_command
from curriculum_ray.files import check_new_folder
from curriculum_ray.models import DiffusersModel, PythonSpec
from curriculum_ray.models.lora import adapted_part, merged

__all__ = ["export_diffusers"]

_LOG = logging.getLogger(__name__)


def export_diffusers(trained: Trained, folder: Path, *, raw_weights: bool = False) -> None:
    """Write `trained` into the new or empty `folder`. raw_weights: noted in the README as not averaged.

    `DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)` loads it: the pipeline's code is in
    the folder. Diffusers' networks are stored as such; ours need the package curriculum-ray to be loaded. The
    autoencoder of latents goes with them, if the run names it. Adapters are merged into the weights that they stand on;
    where diffusers' class of the network loads adapters (`load_lora_adapter`), they are in the folder by themselves
    too. Whatever diffusers cannot express raises `ConfigError`.
    """
    conditioning = trained.conditioning
    if isinstance(trained.config.model, PythonSpec):
        raise ConfigError(
            f"export to diffusers does not support your own networks, but got {trained.config.model.path}"
        )
    if conditioning.length:
        raise ConfigError(
            f"export to diffusers does not support captions, but the model takes {conditioning}"
        )
    if find_spec("diffusers") is None:
        raise ConfigError(f"export to diffusers needs the package diffusers: {install_command('diffusers')}")
    check_new_folder(folder, "--into")

    # The name of `.` is empty, and a link cannot be renamed over.
    place = Path(os.path.realpath(folder))
    temporary = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        _fill(trained, temporary, raw_weights)
        if place.exists():
            # It stays, because a shell may be in it.
            for path in temporary.iterdir():
                shutil.move(path, place)
        else:
            temporary.rename(place)
    except OSError as error:
        raise ConfigError(f"--into {folder} cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _fill(trained: Trained, folder: Path, raw_weights: bool) -> None:
    """Write everything into the empty `folder`."""
    import diffusers

    own, conditioning = Path(__file__).parent, trained.conditioning
    part: Any = adapted_part(trained.model)
    plain = part if trained.config.lora is None else merged(part)
    alone = _adapters_stand_alone(trained)
    if alone:
        _save_adapters(part, folder)
    if isinstance(trained.model, DiffusersModel):
        network: Any = plain
        library, name = "diffusers", type(network).__name__
        table = trained.model.table_size
        null_label = conditioning.size if conditioning.kind == "class" else table
        reads = trained.model.reads
    else:
        from curriculum_ray.export.network import CurriculumRayNetwork

        network = CurriculumRayNetwork(
            spec=trained.config.model.model_dump(mode="json"),
            shape=list(trained.shape),
            conditioning=conditioning.as_json(),
        )
        network.network.load_state_dict(plain.state_dict())
        library, name = "curriculum_ray_network", "CurriculumRayNetwork"
        null_label, reads = -1 if conditioning.kind == "class" else None, None
    # Only images are within [-1, 1], and clipped by our sampler; latents are not.
    bounded = is_image(trained.shape)
    network.save_pretrained(folder / "denoiser")
    if library != "diffusers":
        shutil.copyfile(own / "network.py", folder / "denoiser" / f"{library}.py")

    scheduler = _scheduler(trained.config.process, bounded)
    scheduler.save_pretrained(folder / "scheduler")
    shutil.copyfile(own / "pipeline.py", folder / "pipeline.py")
    index = {
        "_class_name": ["pipeline", "CurriculumRayPipeline"],
        "_diffusers_version": diffusers.__version__,
        "denoiser": [library, name],
        "scheduler": ["diffusers", type(scheduler).__name__],
        "shape": ",".join(map(str, trained.shape)),
        "num_classes": conditioning.size if conditioning.kind == "class" else 0,
        "null_label": null_label,
        "bounded": bounded,
        "noisiest": _noisiest(trained.process, bounded),
        "cross_attention_dim": reads,
    }
    if (decoder := _decoder(trained.config.data)) is not None:
        decoder.vae.register_to_config(_name_or_path=Path(decoder.vae.config["_name_or_path"]).name)
        decoder.vae.save_pretrained(folder / "vae")
        index["vae"] = ["diffusers", type(decoder.vae).__name__]
        index |= {"scale": decoder.scale, "shift": decoder.shift}
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    card = model_card(
        trained, library != "diffusers", raw_weights, adapters_alone=alone, decoded=decoder is not None
    )
    (folder / "README.md").write_text(card)


def _save_adapters(network: Any, folder: Path) -> None:
    """Write pytorch_lora_weights.safetensors, without diffusers' warning that it casts weights, which it does not."""
    from diffusers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        network.save_lora_adapter(folder)
    finally:
        logging.set_verbosity(before)


def _adapters_stand_alone(trained: Trained) -> bool:
    """Whether adapters, put on the weights that they were trained on, give the model, and diffusers can do so."""
    config = trained.config
    if config.lora is None or config.init_from is None or config.init_from.new_condition:
        return False
    return isinstance(trained.model, DiffusersModel) and hasattr(trained.model.network, "save_lora_adapter")


def _decoder(data: DataSpec) -> Decoder | None:
    """The decoder of latents; None for other data, and, with a warning, where the autoencoder cannot be read."""
    if data.vae is None:
        return None
    try:
        return load_decoder(data)
    except ConfigError as error:
        _LOG.warning("the export is without the autoencoder: %s", error)
        return None


def _noisiest(process: Process, bounded: bool) -> int | None:
    """Return the timestep at which our DDIM starts, or None for trailing timesteps and other processes."""
    if not isinstance(process, DDPM) or process.trailing:
        return None
    return process.noisiest(clip=bounded)


def _scheduler(spec: ProcessSpec, bounded: bool) -> Any:
    """Return the diffusers scheduler that solves the process like ours; bounded: for data within [-1, 1]."""
    import diffusers

    match spec:
        case DDPMSpec():
            betas = BETAS[spec.betas](spec.num_timesteps)
            return diffusers.DDIMScheduler(
                num_train_timesteps=spec.num_timesteps,
                trained_betas=betas.tolist(),
                prediction_type={"epsilon": "epsilon", "x0": "sample", "v": "v_prediction"}[spec.prediction],
                timestep_spacing="trailing" if spec.zero_terminal_snr else "linspace",
                rescale_betas_zero_snr=spec.zero_terminal_snr,
                clip_sample=bounded,
                set_alpha_to_one=True,
            )
        case EDMSpec():
            return diffusers.EDMEulerScheduler(
                sigma_min=spec.sigma_min, sigma_max=spec.sigma_max, sigma_data=spec.sigma_data, rho=spec.rho
            )
        case FlowSpec():
            return diffusers.FlowMatchEulerDiscreteScheduler()
