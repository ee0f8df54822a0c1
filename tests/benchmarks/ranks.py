"""What a second process gains: an audit under torchrun beside bare forward passes in two processes.

Each process has one thread. The loop over images and elements with two ranks is compared with that of one,
and two processes of bare forward passes, half of the images each, with one of all images.

    python tests/benchmarks/ranks.py --network resnet --rounds 3
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import numpy as np
import torch
from networks import make
from subjects import ANGLES, make_images, run_plain, stage_times

from eqaudit import engine
from eqaudit.allocator import ENVIRONMENT
from eqaudit.parsing import parse_angles
from eqaudit.plan import AuditPlan, FileModel, InputOptions, PathData, RunOptions, SpaceOptions

IMAGES, BATCH = 64, 16
MODEL, DATA = "model.pt", "images.npy"


def write_inputs(network: str, folder: Path) -> None:
    """Write the network and the images, which all processes read."""
    net, shape = make(network)
    images = make_images(IMAGES, shape)
    torch.jit.trace(net, images[:BATCH]).save(str(folder / MODEL))  # type: ignore[no-untyped-call]
    np.save(folder / DATA, images.numpy())


def run_child(what: str, folder: Path) -> None:
    """Run bare passes over a share of the images, or the audit as this rank; the first prints seconds."""
    torch.set_num_threads(1)
    if what == "audit":
        plan = AuditPlan(
            FileModel(str(folder / MODEL)),
            InputOptions(PathData(str(folder / DATA)), samples=0, batch_size=BATCH),
            angles=parse_angles(ANGLES),
            run=RunOptions(threads=1),
            space=SpaceOptions(floor_samples=0),
        )
        with stage_times() as (stages, progress):
            engine.check(plan, progress)
        seconds = stages["loop"]
    else:
        images = torch.from_numpy(np.load(folder / DATA))[: int(what)]
        seconds = run_plain(torch.jit.load(str(folder / MODEL)), images, BATCH, "angles")  # type: ignore[no-untyped-call]
    if os.environ.get("RANK", "0") == "0":
        sys.stdout.write(json.dumps(seconds) + "\n")


def spawn(processes: int, what: str, folder: Path) -> list[float]:
    """Start so many children at once, as ranks of a job where they audit; return their seconds."""
    script = [str(Path(__file__)), "--child", what, "--folder", str(folder)]
    command, copies = [sys.executable, *script], processes
    if what == "audit" and processes > 1:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        command, copies = [sys.executable, *launcher, *script], 1
    environment = os.environ | ENVIRONMENT | {"OMP_NUM_THREADS": "1"}
    children = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(copies)
    ]
    said = [child.communicate() for child in children]
    for child, (_, problem) in zip(children, said, strict=True):
        if child.returncode:
            raise SystemExit(f"{what}: {problem}")
    return [float(json.loads(output.splitlines()[-1])) for output, _ in said]


def main() -> None:
    """Print the gains."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", default="resnet")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        run_child(options.child, options.folder)
        return
    gains: dict[str, list[float]] = {"bare forward passes": [], "eqaudit, all layers": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_inputs(options.network, folder)
        for _ in range(options.rounds):
            alone, pair = spawn(1, str(IMAGES), folder), spawn(2, str(IMAGES // 2), folder)
            gains["bare forward passes"].append(alone[0] / max(pair))
            gains["eqaudit, all layers"].append(spawn(1, "audit", folder)[0] / spawn(2, "audit", folder)[0])
    for what, found in gains.items():
        print(f"{what}: {median(found):.2f} times as fast with two processes ({sorted(found)})")


if __name__ == "__main__":
    main()
