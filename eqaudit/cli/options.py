"""Options that several commands share, and how they become parts of a plan."""

from __future__ import annotations

from typing import Annotated

import typer

from eqaudit.errors import UsageError
from eqaudit.plan import (
    InputOptions,
    RunOptions,
    parse_channel_values,
    parse_data,
    parse_device,
    parse_integers,
)

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="A TorchScript file, package.module:factory, or path/to/file.py:factory."
    ),
]
Arg = Annotated[
    list[str] | None,
    typer.Option("--arg", metavar="NAME=VALUE", help="Argument of a Python factory (repeatable)."),
]
Data = Annotated[
    str,
    typer.Option(
        metavar="SOURCE",
        help="A folder of images, .npy, .npz, file.py:function, builtin:photos or builtin:tissue.",
    ),
]
Samples = Annotated[
    int, typer.Option(min=0, help="How many images; 0 for all. A seeded subset of the sorted list.")
]
Seed = Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Seed of every random choice.")]
BatchSize = Annotated[int, typer.Option(min=1, max=65_536, help="Images in one call of the model.")]
Device = Annotated[str, typer.Option(metavar="cpu|cuda[:N]", help="Where the model runs.")]
Threads = Annotated[int, typer.Option(min=0, max=1_024, help="CPU threads; 0 leaves the default.")]
InputShape = Annotated[
    str | None, typer.Option(metavar="C,H,W", help="What the model takes; found by trying when left out.")
]
Resize = Annotated[
    str | None, typer.Option(metavar="H,W", help="Resize images (antialiased) before the centre crop.")
]
Mean = Annotated[
    str | None,
    typer.Option(metavar="M[,M...]", help="Subtracted from images in 0..1, one value or one per channel."),
]
Std = Annotated[
    str | None,
    typer.Option(metavar="S[,S...]", help="Images are divided by it, one value or one per channel."),
]
Timeout = Annotated[
    float, typer.Option(min=0, metavar="SECONDS", help="End the audit after this long; 0 for no limit.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress; of the report, only the verdict.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show on stderr what the model prints.")]
Plots = Annotated[
    str | None, typer.Option("--plots", metavar="DIR", help="Draw the pictures into this folder.")
]
Json = Annotated[
    str | None,
    typer.Option("--json", metavar="FILE", help="Write the report as JSON; - for stdout, then no table."),
]


def input_options(
    data: str,
    samples: int,
    seed: int,
    batch_size: int,
    input_shape: str | None,
    resize: str | None,
    mean: str | None,
    std: str | None,
) -> InputOptions:
    """Check the options on images and return them as a part of the plan."""
    shape = parse_integers("--input-shape", input_shape, 3) if input_shape is not None else None
    size = parse_integers("--resize", resize, 2) if resize is not None else None
    means = parse_channel_values("--mean", mean) if mean is not None else ()
    stds = parse_channel_values("--std", std) if std is not None else ()
    if len(means) > 1 and len(stds) > 1 and len(means) != len(stds):
        raise UsageError(
            f"--mean has {len(means)} values and --std {len(stds)}",
            "give one value, or one per channel, to both",
        )
    return InputOptions(
        data=parse_data(data),
        samples=samples,
        seed=seed,
        batch_size=batch_size,
        input_shape=None if shape is None else (shape[0], shape[1], shape[2]),
        resize=None if size is None else (size[0], size[1]),
        mean=means,
        std=stds,
    )


def run_options(device: str, threads: int) -> RunOptions:
    """Check the device's name and return where the model runs."""
    return RunOptions(parse_device(device), threads)
