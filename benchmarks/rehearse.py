"""The rehearsal: what a lab runs, on one machine with real servers, and disturbed on the way.

    python benchmarks/rehearse.py                      # all of it, in a temporary folder
    python benchmarks/rehearse.py --folder rehearsal   # kept there; run again, it goes on after the last finished stage

An S3 server (moto), an MLflow server with users and passwords, and a Ray cluster with token authentication: a head
without CPUs and worker nodes, each a process tree of its own started by `ray start`, with a disk of its own for working
copies where the kernel allows it. The stages, of which each one's outcome is kept in the bucket and in the folder:

  data        a WebDataset of images and a small autoencoder go into the bucket
  reference   the cluster starts; all workers count the images: `tune reference`
  latents     all workers encode them, from the bucket into the bucket: `tune cache-latents`
  search      `tune search` of 4 trials of 2 workers into the bucket: a node is killed, one is drained and taken away,
              the S3 server is stopped for 20 s, the driver is killed with -9 and started again with an empty disk
  undisturbed the same study on this machine alone, into a folder: the answer and every number must be equal
  best        `tune best`, asked of the MLflow server by a user who may only read
  train       `tune train` of what it wrote, with 1 to 2 workers, into the bucket
  export      `tune export` of the checkpoint in the bucket, loaded by diffusers

At the end a table says what happened when and what it cost. The last line is JSON. Exit code 1 where anything differs
from what it should be.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import click
from rehearsal.lab import Lab
from rehearsal.stages import STAGES
from rehearsal.table import table


@click.command()
@click.option("--folder", type=click.Path(path_type=Path), help="Keep everything there, and go on from it.")
@click.option("--stage", type=click.Choice(list(STAGES)), help="Run up to this stage only.")
def main(folder: Path | None, stage: str | None) -> None:
    """Run the stages that have not ended yet, one after the other."""
    # Servers and nodes end with this process, also where it is asked to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    place = Path(tempfile.mkdtemp(prefix="rehearsal-")) if folder is None else folder.absolute()
    with Lab.open(place) as lab:
        for name, run in STAGES.items():
            if name not in lab.facts:
                print(f"{name} …", flush=True)
                lab.end(name, run(lab))
            if name == stage:
                break
    print(table(lab.facts))
    wrong = [line for facts in lab.facts.values() for line in facts.get("wrong", [])]
    print(*wrong, sep="\n", end="\n" if wrong else "")
    if folder is None and not wrong:
        shutil.rmtree(place)
    whole = list(lab.facts) == list(STAGES)
    print(json.dumps({"ok": not wrong, "whole": whole, "stages": lab.facts}))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
