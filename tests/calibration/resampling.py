"""What each way of resampling does to photographs: the table from which the defaults were chosen.

Run: python tests/calibration/resampling.py [--side 128]

Inside the disc, on 32 windowed photographs, over angles of 5 to 45 degrees. *Round trip* is what a turn and
the turn back change, *composition* is T_a T_b against T_(a+b). Three-shear Fourier rotation (Unser, Thevenaz
and Yaroslavsky 1995) is listed beside the methods of the package: its round trip flatters it, because it
undoes itself nearly exactly, while its composition shows what a turn costs. Cost is time beside bilinear.
"""

import argparse
import math
import time
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from eqaudit.data import open_images
from eqaudit.plan import InputOptions, Method
from eqaudit.transforms import Resampler, disc_mask, disc_window

ANGLES = (5, 15, 22, 30, 45)
SECOND = Fraction(11, 360)
REPEATS = 5
MARGIN = 0.05

Turn = Callable[[Tensor, Fraction], Tensor]


def fourier(images: Tensor, turn: Fraction) -> Tensor:
    """Turn (..., N, N) by up to 60 degrees in three shears, shifts of rows or columns by Fourier phases."""
    side = images.shape[-1]
    angle = 2 * math.pi * float(turn)
    padded = torch.nn.functional.pad(images, (side // 2,) * 4)
    for slope, flipped in (
        (math.tan(angle / 2), False),
        (-math.sin(angle), True),
        (math.tan(angle / 2), False),
    ):
        padded = _shear(padded.mT, slope).mT if flipped else _shear(padded, slope)
    inside = slice(side // 2, side // 2 + side)
    return padded[..., inside, inside]


def _shear(images: Tensor, slope: float) -> Tensor:
    side = images.shape[-1]
    rows = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
    shifts = torch.outer(slope * rows, torch.fft.fftfreq(side, dtype=torch.float64))
    spectrum = torch.fft.fft(images) * torch.exp(2j * math.pi * shifts)
    sheared: Tensor = torch.fft.ifft(spectrum).real
    return sheared


def measure(turn: Turn, images: Tensor) -> tuple[float, float, float]:
    """Return round trip and composition errors (means over angles), and seconds."""
    mask = disc_mask(images.shape[-2], images.shape[-1], MARGIN * images.shape[-1])

    def size(difference: Tensor) -> float:
        return float((difference * mask).norm() / (images * mask).norm())

    turns = [Fraction(angle, 360) for angle in ANGLES]
    back = [size(turn(turn(images, angle), -angle) - images) for angle in turns]
    both = [size(turn(turn(images, angle), SECOND) - turn(images, angle + SECOND)) for angle in turns]
    start = time.perf_counter()
    for _ in range(REPEATS):
        for angle in turns:
            turn(images.float(), angle)
    return float(np.mean(back)), float(np.mean(both)), time.perf_counter() - start


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=128)
    side = parser.parse_args().side
    dataset = open_images(InputOptions(samples=32)).prepare((1, side, side))
    images = torch.from_numpy(next(iter(dataset.batches(32))).images).double() * disc_window(
        side, side, MARGIN * side
    )
    turns: dict[str, Turn] = {name: Resampler(name, "blank").turn for name in get_args(Method)}
    turns["three-shear Fourier"] = fourier
    found = {name: measure(partial(turn), images) for name, turn in turns.items()}
    print(f"{'method':20} round trip  composition   cost   ({side} px)")
    for name, (back, both, seconds) in found.items():
        print(f"{name:20} {back:9.2%}  {both:10.2%}  {seconds / found['bilinear'][2]:6.1f}")


if __name__ == "__main__":
    main()
