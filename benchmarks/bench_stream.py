"""What a stream costs: memory of a worker that trains once through gigabytes of shards, and its speed.

`make bench-stream`. A set of incompressible noise images (128×128, RGB) is written as Parquet or WebDataset shards into
a temporary folder, trained on once by `python -m tune train` as a user would (a tiny network, so that reading is most
of the work), and deleted. With `--slots` it is a study instead: `search` with so many trials at a time, each through
the whole set once, scored against 512 of its images; `--passes` shortens its runs.

Memory is read from /proc twice a second. A worker's is what all of Ray's worker processes hold for themselves, i.e. the
training process, the tasks that read and decode, and the actors that steer the run, plus all pages that the object
store has ever touched, divided by the number of workers.
The last line is JSON: gigabytes written, peak memory of a worker and of the object store in GiB, images per second.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

SIDE = 128
ROWS = 512
"""Images in a row group, or in a tar file."""
GROUPS = 8
"""Row groups in a Parquet file."""
LIMIT_GIB = 4.0
SAMPLES = 512
SETTINGS: dict[str, Any] = {
    "evaluation": None,
    "images": 0,
    "batch_size": 64,
    "log_every_images": 6_400,
    "data": {"image_size": SIDE, "conditioning": "class"},
    "model": {"kind": "dit", "depth": 1, "width": 32, "heads": 2, "patch": 16},
}


def _png(pixels: bytes) -> bytes:
    """An RGB image of SIDE × SIDE pixels, stored without compression, which noise does not yield to."""
    stride = 3 * SIDE
    rows = b"".join(b"\0" + pixels[start : start + stride] for start in range(0, len(pixels), stride))
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 0)), (b"IEND", b""))
    body = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def write_set(folder: Path, kind: str, gigabytes: float) -> int:
    """Write about `gigabytes` (1e9 bytes) of noise images in shards of `kind` into `folder`; returns their number."""
    import numpy
    import pyarrow
    from pyarrow import parquet

    source = numpy.random.default_rng(0)
    batches = max(1, round(gigabytes * 1e9 / (3 * SIDE * SIDE * ROWS)))
    writer: parquet.ParquetWriter | None = None
    schema = pyarrow.schema([("image", pyarrow.binary()), ("label", pyarrow.int64())])
    for number in range(batches):
        images = [_png(source.bytes(3 * SIDE * SIDE)) for _ in range(ROWS)]
        if kind == "parquet":
            if writer is None or number % GROUPS == 0:
                if writer is not None:
                    writer.close()
                path = folder / f"noise-{number:05d}.parquet"
                writer = parquet.ParquetWriter(path, schema, compression="none")
            labels = [row % 10 for row in range(ROWS)]
            writer.write_table(pyarrow.table({"image": images, "label": labels}, schema=schema))
            continue
        with tarfile.open(folder / f"noise-{number:05d}.tar", "w") as tar:
            for row, image in enumerate(images):
                for name, content in ((f"{row:04d}.png", image), (f"{row:04d}.cls", b"%d" % (row % 10))):
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    if writer is not None:
        writer.close()
    return batches * ROWS


def _descendants(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path(f"/proc/{entry}/stat").read_text()
            except OSError:
                continue
            children.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry))
    found = [root]
    for process in found:
        found += children.get(process, [])
    return found


def _own_bytes(process: int) -> int:
    """Memory of a process, with its share of the libraries that others map too, less pages of shared memory."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    sizes = {
        key: int(value.split()[0])
        for key, _, value in (line.partition(":") for line in lines)
        if "Pss" in key
    }
    return 1024 * (sizes["Pss_Anon"] + sizes["Pss_File"])


def _store_bytes(process: int) -> int:
    """Pages of the object store, a file that Ray's raylet holds open, that have ever been touched."""
    files = {}
    for descriptor in Path(f"/proc/{process}/fd").iterdir():
        if "plasma" in os.readlink(descriptor):
            status = descriptor.stat()
            files[status.st_ino] = 512 * status.st_blocks
    return sum(files.values())


def measure(root: int) -> tuple[int, int, int]:
    """Bytes now: of Ray's worker processes under `root`, of the largest of them, and of the object store."""
    own, store = [0], 0
    for process in _descendants(root):
        try:
            command = Path(f"/proc/{process}/cmdline").read_text()
            if command.startswith("ray::"):
                own.append(_own_bytes(process))
            elif "raylet/raylet" in command.partition("\0")[0]:
                store += _store_bytes(process)
        except (OSError, KeyError):
            continue
    return sum(own), max(own), store


def train(
    folder: Path, kind: str, images: int, workers: int, slots: int
) -> tuple[list[tuple[int, int, int]], float]:
    """Train once through the shards in `folder`/data; what was measured, and images per second of a run.

    slots: if not 0, so many trials of a study at a time.
    """
    import yaml

    settings: dict[str, Any] = {**SETTINGS, "images": images}
    settings["data"] = {**settings["data"], "name": str(folder / "data"), "format": kind}
    if slots:
        scored = {"extractor": "random-cnn", "num_samples": SAMPLES, "steps": 1}
        settings = {"run": {**settings, "evaluation": scored}, "trials": 2 * slots - 1, "confirm_top": 0}
    (folder / "settings.yaml").write_text(yaml.safe_dump(settings))
    command = ["search" if slots else "train", "--config", "settings.yaml", "--name", "stream"]
    command += ["--num-workers", str(workers), *(["--concurrent", str(slots)] if slots else [])]
    dropped = {"RAY_ADDRESS", "MLFLOW_TRACKING_URI"}
    found = []
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tune", *command],
            cwd=folder,
            env={key: value for key, value in os.environ.items() if key not in dropped},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            while process.poll() is None:
                found.append(measure(process.pid))
                time.sleep(0.5)
        finally:
            process.terminate()
            process.wait()
    if process.returncode:
        raise SystemExit((folder / "log").read_text())
    logs = sorted((folder / "runs/stream").glob("trials/*/metrics.jsonl" if slots else "metrics.jsonl"))
    lines = [json.loads(line) for log in logs for line in log.read_text().splitlines()]
    seconds = sum(1 / line["images_per_second"] for line in lines) / len(lines)
    return found, 1 / seconds


def main() -> None:
    """Print the peaks, and the JSON line."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--gigabytes", type=float, default=10.0, help="size of the set, in 1e9 bytes")
    arguments.add_argument("--format", choices=["parquet", "webdataset"], default="parquet")
    arguments.add_argument("--workers", type=int, default=1, help="Ray Train workers")
    arguments.add_argument("--slots", type=int, default=0, help="trials of a study at a time; 0 for one run")
    arguments.add_argument("--passes", type=float, default=1.0, help="how often a run goes through the set")
    arguments.add_argument("--folder", type=Path, help="where the temporary folder is made")
    options = arguments.parse_args()
    parent = options.folder or Path(tempfile.gettempdir())
    free = shutil.disk_usage(parent).free
    if free < 1.2e9 * options.gigabytes:
        raise SystemExit(
            f"{parent} has {free / 1e9:.1f} GB free, but {1.2 * options.gigabytes:.1f} are needed"
        )
    with tempfile.TemporaryDirectory(prefix="bench-stream-", dir=parent) as name:
        folder = Path(name)
        (folder / "data").mkdir()
        start = time.perf_counter()
        images = write_set(folder / "data", options.format, options.gigabytes)
        gigabytes = sum(path.stat().st_size for path in (folder / "data").iterdir()) / 1e9
        print(f"{images:,} images written in {time.perf_counter() - start:.0f} s", flush=True)
        budget = max(SETTINGS["log_every_images"], round(options.passes * images))
        found, speed = train(folder, options.format, budget, options.workers, options.slots)
    gib = [[value / 2**30 for value in row] for row in found]
    workers = [(own + store) / (options.workers * max(1, options.slots)) for own, _, store in gib]
    for quarter in range(4):
        part = slice(quarter * len(gib) // 4, (quarter + 1) * len(gib) // 4)
        print(
            f"quarter {quarter + 1} of the time: worker {max(workers[part]):.2f} GiB, its largest process "
            f"{max(row[1] for row in gib[part]):.2f}, object store {max(row[2] for row in gib[part]):.2f}"
        )
    kept = "within" if max(workers) < LIMIT_GIB else "ABOVE"
    print(f"{kept} {LIMIT_GIB:g} GiB a worker, its share of the object store included")
    figures = {
        "gigabytes": round(gigabytes, 2),
        "peak_worker_gib": round(max(workers), 2),
        "peak_object_store_gib": round(max(row[2] for row in gib), 2),
        "images_per_second": round(speed, 1),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
