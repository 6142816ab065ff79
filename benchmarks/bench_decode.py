"""From noise to a score on the device: DiT-B/2 draws latents, an autoencoder decodes them, features are scored.

`python benchmarks/bench_decode.py`, also a section of `make gpu-check`. The network and the autoencoder (diffusers'
AutoencoderKL with few channels, 8 times the side of its latents) have random weights: speeds do not depend on them. The
parts are the product's own: `draw_samples` on 4x32x32 latents with 1000 classes, by Heun's method for flow
matching; `LatentCache` and `decode_latents`; and `Evaluator.score` by the random convolutions of `random-cnn`.

The last line is JSON: items per second of `draw`, `encode`, `decode`, `features` and `score`, the peak of the device's
memory in GiB, the FID, and how far the device's results are from a CPU's, with products in full float32: of features
relative to the largest, at most 1e-3; of decoded images one step of a byte at most. Exit code 1 beyond that.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rounds import device_name, finish
from torch import Tensor

from curriculum_ray.buckets.place import LocalFolder
from curriculum_ray.data import Conditioning, Dataset, DataSpec, from_uint8
from curriculum_ray.data.autoencoder import decode_latents, load_autoencoder
from curriculum_ray.data.image_source import InMemory
from curriculum_ray.data.latent_cache import LatentCache
from curriculum_ray.data.latents import LatentsInfo
from curriculum_ray.diffusion import FlowSpec, build_process
from curriculum_ray.evaluation import EvaluationSpec, prepare
from curriculum_ray.evaluation.sampling import draw_samples
from curriculum_ray.models import DiTSpec, build_model
from curriculum_ray.training.precision import Precision

# Of bytes, whose rounding may fall on either side, and relative to the largest feature.
TOLERANCES = {"decoded": 1.0, "features": 1e-3}
CLASSES = 1000
COMPARED = 16
"""Items that are also computed on the CPU."""


def make_autoencoder(folder: Path) -> Path:
    """An AutoencoderKL with random weights in `folder`, of four levels: (3, 8·S, 8·S) images of (4, S, S) latents."""
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    AutoencoderKL(
        block_out_channels=(16, 32, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=4,
    ).save_pretrained(folder)
    return folder


def timed(device: torch.device, work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of one call, the device's work included, and what it returns."""
    finish(device)
    start = time.perf_counter()
    result = work()
    finish(device)
    return time.perf_counter() - start, result


def apart(got: Tensor, wanted: Tensor) -> float:
    """The largest difference over the largest value that was wanted."""
    return float((got.float() - wanted.float()).abs().max() / wanted.float().abs().max().clamp_min(1e-12))


def measure(
    count: int, steps: int, size: str, side: int, device: torch.device, folder: Path
) -> dict[str, Any]:
    """All parts in turn on `count` items of `side`; returns speeds and differences."""
    Precision("fp32", device, tf32=False)
    generator = torch.Generator().manual_seed(1)
    model = build_model(DiTSpec(size=size), (4, side, side), Conditioning("class", CLASSES)).to(device).eval()
    with torch.no_grad():
        # Untrained, its head and its blocks return zeros.
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator).to(device))
    process = build_process(FlowSpec()).to(device)
    spec = EvaluationSpec(num_samples=count, steps=steps, batch_size=min(count, 64), extractor="random-cnn")
    labels = torch.randint(CLASSES, (count,), generator=generator)
    few = spec.model_copy(update={"num_samples": min(count, spec.batch_size), "steps": 1})
    draw_samples(few, process, model, (4, side, side), labels, device)
    seconds: dict[str, float] = {}
    seconds["draw"], latents = timed(
        device, lambda: draw_samples(spec, process, model, (4, side, side), labels, device)
    )
    vae_folder = make_autoencoder(folder / "vae")
    images = torch.rand(COMPARED, 3, 8 * side, 8 * side, generator=generator) * 2 - 1

    def cached(where: torch.device | str, name: str, vae: Any) -> LatentsInfo:
        source = InMemory(Dataset("noise", images))
        cache = LatentCache(images=source, vae=vae, place=LocalFolder(folder / name), std=True)
        cache.begin()
        return cache.end(cache.encode(device=where))

    on_cpu = cached("cpu", "cpu", load_autoencoder(vae_folder))
    vae = load_autoencoder(vae_folder)
    seconds["encode"], on_device = timed(device, lambda: cached(device, "device", vae))
    assert on_cpu == on_device
    data = DataSpec(name=str(folder / "device"), format="latents", vae=str(vae_folder))
    decode_latents(data, latents[:COMPARED], device=device)
    seconds["decode"], samples = timed(device, lambda: decode_latents(data, latents, device=device))
    reference = decode_latents(data, torch.randn(count, 4, side, side, generator=generator), device=device)
    evaluator = prepare(spec, Dataset("decoded", from_uint8(reference)), process)
    seconds["features"], features = timed(device, lambda: evaluator.extractor.features(samples, device))
    evaluator.score(samples, device)
    seconds["score"], metrics = timed(device, lambda: evaluator.score(samples, device))
    there = samples[:COMPARED]
    cpu = torch.device("cpu")
    decoded = decode_latents(data, latents[:COMPARED])
    differences = {
        "decoded": float((there.float() - decoded.float()).abs().max()),
        "features": apart(features[:COMPARED], evaluator.extractor.features(there, cpu)),
    }
    speeds = {name: (COMPARED if name == "encode" else count) / taken for name, taken in seconds.items()}
    return {
        "device": device_name(device),
        "items": count,
        "steps": steps,
        "image": list(samples.shape[1:]),
        "per_second": {name: round(speed, 2) for name, speed in speeds.items()},
        "peak_gib": round(torch.cuda.max_memory_allocated(device) / 2**30, 3)
        if device.type == "cuda"
        else None,
        "fid": round(metrics["fid"], 4),
        "differences": differences,
        "tolerances": TOLERANCES,
    }


def main() -> None:
    """Measure on the GPU, or on the CPU where there is none."""
    parser = argparse.ArgumentParser(description="From noise to a score, see the head of the file.")
    parser.add_argument("--count", type=int, help="items to draw, at least 16; 512 by default")
    parser.add_argument(
        "--steps", type=int, default=10, help="steps of Heun's method, two calls of the network each"
    )
    parser.add_argument("--small", action="store_true", help="16 items by DiT-S/2 on latents of side 4")
    options = parser.parse_args()
    count = options.count or (16 if options.small else 512)
    if count < COMPARED or options.steps < 1:
        parser.error(f"--count must be at least {COMPARED} and --steps at least 1")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    size, side = ("S/2", 4) if options.small else ("B/2", 32)
    with tempfile.TemporaryDirectory(prefix="bench-decode-") as folder:
        result = measure(count, options.steps, size, side, device, Path(folder))
    for name, speed in result["per_second"].items():
        print(f"  {name:10} {speed:10.1f} items/s")
    print(json.dumps(result))
    beyond = [name for name, limit in TOLERANCES.items() if result["differences"][name] > limit]
    sys.exit(f"the GPU differs from the CPU in {', '.join(beyond)}" if beyond else 0)


if __name__ == "__main__":
    main()
