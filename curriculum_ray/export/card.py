"""The README of an exported model: what it is, how it was trained and how to load it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from curriculum_ray.config import with_key
from curriculum_ray.config.plain_yaml import write_yaml
from curriculum_ray.data import is_image
from curriculum_ray.evaluation.trained import Trained
from curriculum_ray.training.config import TrainConfig
from curriculum_ray.training.file_settings import files_named

__all__ = ["model_card"]

_CARD = """---
library_name: diffusers
tags: [diffusion, curriculum-ray]
---

# {name} on {data}

{network} for items of shape {shape}, trained with curriculum-ray for {images:,} images seen, each counted every time.

```python
from diffusers import DiffusionPipeline

pipeline = DiffusionPipeline.from_pretrained("FOLDER", trust_remote_code=True)
samples = pipeline(batch_size=4, num_inference_steps=20)  # {output}
```

`trust_remote_code` is needed because `pipeline.py` is in this folder.{needs} {sampling}
{adapters}
## Timestep schedule

```yaml
{schedule}```

## Export

```
python -m tune export --checkpoint {checkpoint} --to diffusers --into FOLDER{flags}
```

Settings of the run:

```json
{config}
```
"""

_ADAPTERS = """
## Adapters

`denoiser` holds the weights of {base} with its adapters merged.{alone}
"""

_ALONE = """ `pytorch_lora_weights.safetensors` holds the adapters alone:

```python
# a network of diffusers with the weights of {base}
network.load_lora_adapter("FOLDER", prefix=None, weight_name="pytorch_lora_weights.safetensors")
```"""
_OUTPUT = {
    "image": 'a tensor within [-1, 1]; output_type="pil" for images',
    "decoded": 'decoded, within [-1, 1]; output_type="pil" for images, "latent" for latents',
    "other": "a tensor",
}

_SAMPLING = {
    "ddpm": "Samples equal curriculum-ray's sampler `ddim` for the same noise.",
    "edm": "Samples equal curriculum-ray's sampler `euler`, without clipping in between, for the same noise.",
    "flow": "Samples equal curriculum-ray's sampler `euler`, without clipping in between, for the same noise.",
}


def _shareable(config: TrainConfig) -> dict[str, Any]:
    """Return the settings without local paths: files and folders are named, but not located."""
    settings: dict[str, Any] = config.model_dump(mode="json")
    for key, path in files_named(config).items():
        settings = with_key(settings, key, Path(path).name, key)
    return settings


def model_card(
    trained: Trained,
    needs_package: bool,
    raw_weights: bool = False,
    *,
    adapters_alone: bool = False,
    decoded: bool = False,
) -> str:
    """Return Markdown with front matter. needs_package: whether loading needs the package curriculum-ray.

    adapters_alone: whether the folder holds the adapters by themselves too. decoded: whether it holds the autoencoder
    of the latents.
    """
    config, settings = trained.config, _shareable(trained.config)
    output = "decoded" if decoded else "image" if is_image(trained.shape) else "other"
    adapters = ""
    if config.lora is not None:
        base = settings["init_from"]["path"]
        adapters = _ADAPTERS.format(base=base, alone=_ALONE.format(base=base) if adapters_alone else "")
    return _CARD.format(
        name=trained.process.name,
        data=settings["data"]["name"],
        network=config.model.kind,
        shape=tuple(trained.shape),
        images=trained.images,
        output=_OUTPUT[output],
        needs=" The package curriculum-ray must be installed." if needs_package else "",
        adapters=adapters,
        sampling=_SAMPLING[config.process.kind],
        schedule=write_yaml(settings["schedule"], flow=False),
        checkpoint=shlex.quote(trained.path.resolve().name),
        flags=" --raw-weights" if raw_weights else "",
        config=json.dumps(settings, indent=2),
    )
