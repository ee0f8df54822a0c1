"""What an audit costs, beside bare forward passes and what people write today: the table of the README.

Each subject runs in a process of its own with the allocator as the command sets it, one after the other in
turns; a number is the median over the rounds. *seconds* is the loop over images and elements, *of bare* its
ratio to the bare forward passes of the same batches in the same round: one for the unmoved images, one for
each element. What eqaudit does beside the loop (finding shapes and determinism, floors, fit, float64) is in
the same unit.

    python tests/benchmarks/audit.py --networks lenet resnet unet --rounds 3
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

from eqaudit.allocator import ENVIRONMENT

IMAGES = 64
PASSES = {"D4": 8, "angles": 25}
SUBJECTS = {
    "bare": "bare forward passes",
    "frozen": "the same, folded and frozen",
    "compiled": "the same, compiled",
    "skimage": "loop over skimage.transform.rotate",
    "hooks": "hooks and grid_sample on every map",
    "output": "eqaudit, output only",
    "output+floor": "eqaudit, output only, with floors",
    "layers": "eqaudit, all layers",
    "layers+floor": "eqaudit, all layers, with floors",
}
BESIDE = ("before", "floor", "fit", "float64")
Times = dict[str, float]


def spawn(network: str, elements: str, subject: str, threads: int, batch: int) -> Times:
    """Run one subject once; return seconds by stage and the peak of memory in MB."""
    script = Path(__file__).with_name("subjects.py")
    command = [sys.executable, str(script), network, elements, subject]
    sizes = ["--threads", str(threads), "--images", str(IMAGES), "--batch", str(batch)]
    environment = os.environ | ENVIRONMENT | {"OMP_NUM_THREADS": str(threads)}
    ended = subprocess.run([*command, *sizes], env=environment, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(f"{subject} of {network}: {ended.stderr}")
    found: Times = json.loads(ended.stdout.splitlines()[-1])
    return found


def compare(network: str, elements: str, options: argparse.Namespace) -> None:
    """Print the table of one network under one set of elements."""
    subjects = [name for name in options.subjects if elements != "D4" or not name.endswith("+floor")]
    runs: dict[str, list[Times]] = {name: [] for name in subjects}
    for _ in range(options.rounds):
        for name in subjects:
            runs[name].append(spawn(network, elements, name, options.threads, options.batch))
    counted = PASSES[elements] * IMAGES
    title = "24 angles" if elements == "angles" else elements
    heads = ("what", "seconds", "of bare", "images/s", "peak", *BESIDE)
    print(f"\n{network}, {title}: {counted} images through the model, batches of {options.batch}\n")
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for name, found in runs.items():
        seconds = median(times["loop"] for times in found)
        shares = {
            stage: median(
                times.get(stage, 0.0) / bare["loop"] for times, bare in zip(found, runs["bare"], strict=True)
            )
            for stage in ("loop", *BESIDE)
        }
        beside = [f"{shares[stage]:.2f}" if shares[stage] else "" for stage in BESIDE]
        peak = median(times["peak"] for times in found)
        cells = [f"{seconds:.2f}", f"{shares['loop']:.2f}", f"{counted / seconds:.0f}", f"{peak:.0f} MB"]
        print(f"| {' | '.join([SUBJECTS[name], *cells, *beside])} |", flush=True)


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", default=["lenet", "resnet", "unet"])
    parser.add_argument("--elements", nargs="+", choices=PASSES, default=list(PASSES))
    parser.add_argument("--subjects", nargs="+", choices=SUBJECTS, default=list(SUBJECTS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    if "bare" not in options.subjects:
        options.subjects = ["bare", *options.subjects]
    for network in options.networks:
        for elements in options.elements:
            compare(network, elements, options)


if __name__ == "__main__":
    main()
