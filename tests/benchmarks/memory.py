"""Memory of the measuring process over an audit: it must not grow with the images nor with the angles.

Runs `eqaudit sweep-angles` on all layers of the LeNet for several numbers of random images and of angles,
samples the resident memory of the measuring process, prints the peaks and draws one line for each run.

    python tests/benchmarks/memory.py --out memory.png
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import matplotlib as mpl
import numpy as np

FEW = 4
RUNS = ((64, FEW), (64, 72), (64, 360), (512, 72), (4096, 72))
MODEL = Path(__file__).parents[2] / "fixtures" / "models" / "lenet5.pt"
PERIOD = 0.1
Line = list[tuple[float, float]]


def resident(pid: int) -> float:
    """Return the resident memory of the children of a process in MB; 0 when there is none."""
    total = 0.0
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            status = Path(f"/proc/{child}/status").read_text()
            total += float(status.partition("VmRSS:")[2].split()[0]) / 1024 if "VmRSS:" in status else 0.0
    return total


def watch(images: int, angles: int, folder: Path) -> Line:
    """Audit so many images at so many angles; return seconds and memory in MB."""
    data = folder / f"{images}.npy"
    np.save(data, np.random.default_rng(0).random((images, 1, 28, 28), dtype=np.float32))
    # A quarter turn among few angles: it is run again in float64, as among many.
    step = "10,20,30,90" if angles == FEW else f"0:{360 - 360 / angles:g}:{360 / angles:g}"
    command = [
        sys.executable,
        "-m",
        "eqaudit",
        "sweep-angles",
        str(MODEL),
        "--data",
        str(data),
        "--layers",
        "*",
    ]
    options = ["--angles", step, "--samples", "0", "--threads", "1", "--quiet"]
    start, line = time.monotonic(), []
    with subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL, env=os.environ) as process:
        while process.poll() is None:
            # The process may end while it is looked at.
            with contextlib.suppress(OSError):
                line.append((time.monotonic() - start, resident(process.pid)))
            time.sleep(PERIOD)
    if process.returncode:
        raise SystemExit(f"eqaudit ended with {process.returncode}")
    return line


def main() -> None:
    """Print the peaks and draw the lines."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", default="memory.png")
    options = parser.parse_args()
    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - after the backend is chosen

    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    with tempfile.TemporaryDirectory() as folder:
        for images, angles in RUNS:
            line = watch(images, angles, Path(folder))
            peak = max(memory for _, memory in line)
            print(
                f"{images:5} images, {angles:3} angles: peak {peak:5.0f} MB, {line[-1][0]:4.0f} s", flush=True
            )
            seconds, memory = zip(*line, strict=True)
            share = np.array(seconds) / seconds[-1]
            axes.plot(
                share, memory, label=f"{images} images, {angles} angles: {peak:.0f} MB, {seconds[-1]:.0f} s"
            )
    axes.set(xlabel="share of the run", ylabel="resident memory (MB)", ylim=(0, None))
    axes.set_title("LeNet, all layers: memory of the measuring process")
    axes.legend(loc="lower right")
    figure.savefig(options.out, dpi=110)


if __name__ == "__main__":
    main()
