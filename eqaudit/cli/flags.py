"""Options that several commands share, in groups: each is a dataclass that becomes a part of the plan."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Annotated

import typer

from eqaudit.errors import UsageError
from eqaudit.parsing import (
    exists,
    parse_batch_size,
    parse_channel_values,
    parse_data,
    parse_device,
    parse_integers,
    parse_limit,
    parse_model,
    parse_weights,
)
from eqaudit.plan import (
    Boundary,
    FileModel,
    InputOptions,
    MaskValues,
    Method,
    ModelSpec,
    PathData,
    PointsName,
    Precision,
    PythonObject,
    RunOptions,
    Scores,
    SpaceOptions,
    Taps,
    TaskName,
    TaskOptions,
    TruthOptions,
)

IMAGES, TRUTH, TURNING, OUTPUT, RUN = "Images", "Truth", "Turning", "Output", "Run"

Plots = Annotated[
    str | None,
    typer.Option(
        "--plots", metavar="DIR", help="Draw the pictures into this folder.", rich_help_panel=OUTPUT
    ),
]
Json = Annotated[
    str | None,
    typer.Option(
        "--json",
        metavar="FILE",
        help="Write the report as JSON; - for stdout, then no table.",
        rich_help_panel=OUTPUT,
    ),
]
Reports = Annotated[
    list[str] | None,
    typer.Option(
        "--report",
        metavar="KIND=FILE",
        help="Write a report for CI (repeatable): junit=FILE.xml, markdown=FILE.md.",
        rich_help_panel=OUTPUT,
    ),
]
Csv = Annotated[
    str | None,
    typer.Option("--csv", metavar="FILE", help="Write one row for each angle.", rich_help_panel=OUTPUT),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress; of the report, only the verdict.")]
OutputName = Annotated[
    str | None, typer.Option(metavar="NAME", help="Which output is judged; the first when left out.")
]
TapsFlag = Annotated[
    Taps,
    typer.Option(
        help="What is a layer: every module, or also every operation called as a function inside one."
    ),
]
Mirror = Annotated[bool, typer.Option("--mirror", help="Also mirror, then turn, by every angle.")]
Layouts = Annotated[
    list[str] | None,
    typer.Option(
        "--layout",
        metavar="PATTERN=LETTERS",
        help="Dimensions of layers (repeatable): 'blocks.*=BND'. B batch, HW space, N tokens, else channels.",
    ),
]
InputShape = Annotated[
    str | None,
    typer.Option(
        metavar="C,H,W", help="What the model takes; found by trying when left out.", rich_help_panel=IMAGES
    ),
]


@dataclass(frozen=True, slots=True)
class ModelFlags:
    """Which model."""

    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A TorchScript file or exported program (.pt2), or Python code, which is run: "
            "package.module:factory or file.py:factory.",
        ),
    ]
    arg: Annotated[
        list[str] | None,
        typer.Option("--arg", metavar="NAME=VALUE", help="Argument of a Python factory (repeatable)."),
    ] = None
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Load these weights onto a Python MODEL: .pt, .pth or .safetensors."
        ),
    ] = None
    no_strict_weights: Annotated[
        bool, typer.Option("--no-strict-weights", help="Load the weights that fit, and say which do not.")
    ] = False

    def parse(self) -> ModelSpec:
        """Check the options and return them as a part of the plan."""
        model = parse_model(self.model, self.arg or [])
        return parse_weights(model, self.weights, strict=not self.no_strict_weights)


@dataclass(frozen=True, slots=True)
class ImageFlags:
    """Which images, and how they reach the model."""

    data: Annotated[
        str,
        typer.Option(
            metavar="SOURCE",
            help="A folder of images, .npy, .npz, file.py:function, builtin:photos or builtin:tissue.",
            rich_help_panel=IMAGES,
        ),
    ] = "builtin:photos"
    samples: Annotated[
        int,
        typer.Option(
            min=0,
            help="How many images; 0 for all. A seeded subset of the sorted list.",
            rich_help_panel=IMAGES,
        ),
    ] = 64
    seed: Annotated[
        int, typer.Option(min=0, max=2**31 - 1, help="Seed of every random choice.", rich_help_panel=IMAGES)
    ] = 0
    batch_size: Annotated[
        int,
        typer.Option(
            parser=parse_batch_size,
            metavar="N|auto",
            help="Images in one call of the model; auto: the fewest at which it is fast, measured.",
            rich_help_panel=IMAGES,
        ),
    ] = 16
    input_shape: InputShape = None
    resize: Annotated[
        str | None,
        typer.Option(
            metavar="H,W", help="Resize images (antialiased) before the centre crop.", rich_help_panel=IMAGES
        ),
    ] = None
    mean: Annotated[
        str | None,
        typer.Option(
            metavar="M[,M...]",
            help="Subtracted from images in 0..1, one value or one per channel.",
            rich_help_panel=IMAGES,
        ),
    ] = None
    std: Annotated[
        str | None,
        typer.Option(
            metavar="S[,S...]",
            help="Images are divided by it, one value or one per channel.",
            rich_help_panel=IMAGES,
        ),
    ] = None
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="folders|FILE",
            help="Classes: the first folder level, a CSV file (file,label), or FILE.npz:ARRAY.",
            rich_help_panel=TRUTH,
        ),
    ] = None
    masks: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="True masks, paired with the images by stem.", rich_help_panel=TRUTH
        ),
    ] = None
    mask_values: Annotated[
        MaskValues,
        typer.Option(
            help="What a mask's pixels are; index reads 0 and 255 as binary.", rich_help_panel=TRUTH
        ),
    ] = "index"
    ignore_index: Annotated[
        int | None,
        typer.Option(metavar="N", help="A value of masks that never counts.", rich_help_panel=TRUTH),
    ] = None

    def parse(self) -> InputOptions:
        """Check the options and return them as a part of the plan."""
        shape = None if self.input_shape is None else parse_integers("--input-shape", self.input_shape, 3)
        size = None if self.resize is None else parse_integers("--resize", self.resize, 2)
        means = () if self.mean is None else parse_channel_values("--mean", self.mean)
        stds = () if self.std is None else parse_channel_values("--std", self.std)
        if len(means) > 1 and len(stds) > 1 and len(means) != len(stds):
            raise UsageError(
                f"--mean has {len(means)} values and --std {len(stds)}",
                "give one value, or one per channel, to both",
            )
        for option, value in (("--labels", self.labels), ("--masks", self.masks)):
            if value == "":
                raise UsageError(f"{option} is empty", "leave it out, or say where the truth is")
            if value is not None:
                exists(value, option)  # whether it does is found out later, what can be no path here
        return InputOptions(
            data=parse_data(self.data),
            samples=self.samples,
            seed=self.seed,
            batch_size=self.batch_size,
            input_shape=None if shape is None else (shape[0], shape[1], shape[2]),
            resize=None if size is None else (size[0], size[1]),
            mean=means,
            std=stds,
            truth=TruthOptions(self.labels or "", self.masks or "", self.mask_values, self.ignore_index),
        )


@dataclass(frozen=True, slots=True)
class TurningFlags:
    """How angles that are no multiple of 90 degrees are turned; exact ones need none of it."""

    boundary: Annotated[
        Boundary,
        typer.Option(
            help="What fills the corners: a smooth disc window on the input, its reflection, or zeros.",
            rich_help_panel=TURNING,
        ),
    ] = "disc"
    interpolation: Annotated[
        Method,
        typer.Option(help="How images are resampled (spline: quintic B-spline).", rich_help_panel=TURNING),
    ] = "spline"
    feature_interpolation: Annotated[
        Method, typer.Option(help="How feature maps are resampled.", rich_help_panel=TURNING)
    ] = "spline"
    margin: Annotated[
        float | None,
        typer.Option(
            metavar="PIXELS",
            help="Left out inside the inscribed circle; else a tenth of it, or the receptive radius.",
            rich_help_panel=TURNING,
        ),
    ] = None
    floor_samples: Annotated[
        int,
        typer.Option(
            min=0, help="Images on which the floor is measured; 0 for no floor.", rich_help_panel=TURNING
        ),
    ] = 8
    points: Annotated[
        PointsName,
        typer.Option(
            help="Where layers are compared at such angles: at some evenly spread cells, or at all.",
            rich_help_panel=TURNING,
        ),
    ] = "some"
    floor_factor: Annotated[
        float,
        typer.Option(
            metavar="F",
            help="At the floor: an error up to this many times the floor.",
            rich_help_panel=TURNING,
        ),
    ] = 2.0

    def parse(self) -> SpaceOptions:
        """Check the options and return them as a part of the plan."""
        margin = None if self.margin is None else parse_limit("--margin", self.margin)
        factor = parse_limit("--floor-factor", self.floor_factor)
        return SpaceOptions(
            self.boundary,
            self.interpolation,
            self.feature_interpolation,
            margin,
            self.floor_samples,
            factor,
            self.points,
        )


@dataclass(frozen=True, slots=True)
class TaskFlags:
    """What the model is for."""

    task: Annotated[
        TaskName,
        typer.Option(help="What the output is; auto decides from shape and truth.", rich_help_panel=TRUTH),
    ] = "auto"
    scores: Annotated[
        Scores, typer.Option(help="Whether scores still need softmax or sigmoid.", rich_help_panel=TRUTH)
    ] = "auto"
    threshold: Annotated[
        float,
        typer.Option(
            metavar="P", help="Where one probability decides: yes from here on.", rich_help_panel=TRUTH
        ),
    ] = 0.5
    with_background: Annotated[
        bool, typer.Option("--with-background", help="Count class 0 of masks too.", rich_help_panel=TRUTH)
    ] = False

    def parse(self) -> TaskOptions:
        """Check the options and return them as a part of the plan."""
        threshold = parse_limit("--threshold", self.threshold, largest=1.0)
        return TaskOptions(self.task, self.scores, threshold, self.with_background)


@dataclass(frozen=True, slots=True)
class RunFlags:
    """Where and how the measuring process runs."""

    device: Annotated[
        str, typer.Option(metavar="cpu|cuda[:N]", help="Where the model runs.", rich_help_panel=RUN)
    ] = "cpu"
    threads: Annotated[
        int, typer.Option(min=0, max=1_024, help="CPU threads; 0 leaves the default.", rich_help_panel=RUN)
    ] = 0
    dtype: Annotated[
        Precision | None,
        typer.Option(
            help="Convert the model and its inputs; left out, the model runs as it is.", rich_help_panel=RUN
        ),
    ] = None
    tf32: Annotated[
        bool, typer.Option("--tf32", help="Let a CUDA device use TF32 in float32.", rich_help_panel=RUN)
    ] = False
    timeout: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="End the audit after this long; 0 for no limit.",
            rich_help_panel=RUN,
        ),
    ] = 3600.0
    verbose: Annotated[
        bool,
        typer.Option("--verbose", "-v", help="Show on stderr what the model prints.", rich_help_panel=RUN),
    ] = False

    def parse(self) -> RunOptions:
        """Check the options and return them as a part of the plan."""
        parse_limit("--timeout", self.timeout)
        device = parse_device(self.device)
        if self.tf32 and device == "cpu":
            raise UsageError("--tf32 goes with a CUDA device", "add --device cuda, or leave --tf32 out")
        return RunOptions(device, self.threads, self.dtype, self.tf32)


def command_line() -> tuple[str, ...]:
    """Return the command as it was typed, for the report."""
    return ("eqaudit", *sys.argv[1:])


def input_files(model: ModelSpec, inputs: InputOptions | None = None) -> tuple[str, ...]:
    """Return what is read and must never be written over."""
    files = [model.path if isinstance(model, FileModel) else model.source]
    if isinstance(model, PythonObject) and model.weights is not None:
        files.append(model.weights.path)
    if inputs is not None:
        files += [inputs.data.path] if isinstance(inputs.data, PathData) else []
        files += [inputs.truth.labels] if inputs.truth.labels not in {"", "folders"} else []
    return tuple(files)
