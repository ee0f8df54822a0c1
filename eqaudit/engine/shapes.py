"""Which input shape and batch size a model takes, found by trying."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch

from eqaudit.data import Images
from eqaudit.errors import DataError, ModelError, is_out_of_memory
from eqaudit.loader import AuditModel
from eqaudit.plan import InputOptions
from eqaudit.report import describe_shape

SIDES = (224, 256, 128, 96, 64, 48, 36, 33, 32, 28)
CHANNELS = (3, 1, 4)
BATCHES = (2, 3)
FIXED_BATCHES = (1, 2, 4, 8, 16, 32, 64, 3, 5, 6, 10, 12, 20, 24, 48, 100, 128)
FIXED_SECONDS = 60.0
TIMED_BATCHES = (1, 2, 4, 8, 16, 32, 64)
TIMED_RUNS, LONGEST_RUN, FAST_ENOUGH = 3, 1.0, 0.95

Shape = tuple[int, int, int]
RETURN_TENSOR = "the model must return a floating tensor, batch first"


@dataclass(frozen=True, slots=True)
class Choice:
    """The (C, H, W) that the model gets, why, and the one batch size that it takes (None: any)."""

    shape: Shape
    reason: str
    fixed_batch: int | None


def choose_shape(model: AuditModel, images: Images | None, options: InputOptions) -> Choice:
    """Choose the input shape: the one asked for, else the data's, else the first that the model accepts.

    Without ``images`` (to list layers) any number of channels will do.

    Raises
    ------
    DataError
        The model refuses the shape of the data, or the shape that was asked for.
    ModelError
        The model refuses every shape that was tried.
    """
    if options.input_shape is not None:
        _check_declared(model, options.input_shape)
        return _first_accepted(model, [options.input_shape], "from --input-shape", options)
    channels = _channels(model, images)
    size = images.native_size if images is not None else None
    if images is None or size is None:
        origin = "as the exported program says" if model.fixed_sides else ""
        return _first_accepted(model, _shapes(model, channels), origin, options)
    origin = "from --resize" if options.resize is not None else "the size of the data"
    try:
        return _first_accepted(model, [(depth, *size) for depth in channels], origin, options)
    except DataError as error:
        if images.ready:
            raise
        raise DataError(error.message, _propose_size(model, channels)) from error


def _check_declared(model: AuditModel, asked: Shape) -> None:
    declared = model.input_shape
    if declared and any(size not in {None, wanted} for size, wanted in zip(declared, asked, strict=True)):
        sizes = "x".join("any" if size is None else str(size) for size in declared)
        raise DataError(
            f"the model takes {sizes}, but --input-shape asks for {describe_shape(asked)}",
            "leave --input-shape out, or export the model with dynamic_shapes",
        )


def _shapes(model: AuditModel, channels: list[int]) -> list[Shape]:
    """Return the shapes to try: squares, or what the file says."""
    _, height, width = model.input_shape or (None, None, None)
    sides = [(height or width or side, width or height or side) for side in SIDES]
    return [(depth, *size) for depth, size in product(channels, dict.fromkeys(sides))]


def _channels(model: AuditModel, images: Images | None) -> list[int]:
    if images is not None and images.ready and images.native_channels is not None:
        return [images.native_channels]
    if model.input_shape and model.input_shape[0] is not None:
        return [model.input_shape[0]]
    first = model.first_channels
    # Pictures can be made grey or RGB, but not of any number of channels.
    guesses = [first] if first is not None and (images is None or first in CHANNELS) else []
    return list(dict.fromkeys([*guesses, *CHANNELS]))


def _propose_size(model: AuditModel, channels: list[int]) -> str:
    for depth, height, width in _shapes(model, channels):
        if isinstance(_accepts(model, (depth, height, width), _batches(model)), str):
            continue
        return f"the model accepts {depth}x{height}x{width}: add --resize {height},{width}"
    return "say the size that the model takes with --input-shape C,H,W"


def _batches(model: AuditModel) -> tuple[int, ...]:
    return BATCHES if model.fixed_batch is None else (model.fixed_batch,)


def _first_accepted(model: AuditModel, shapes: list[Shape], origin: str, options: InputOptions) -> Choice:
    refusals: list[tuple[Shape, str]] = []
    for shape in shapes:
        refusal = _accepts(model, shape, _batches(model))
        if refusal is None:
            return _choice(shape, origin or _explain(shape, refusals), model.fixed_batch)
        refusals.append((shape, refusal))
    full = any(is_out_of_memory(refusal) for _, refusal in refusals)
    for batch, shape in () if full else _fixed(model, shapes, options):
        if _accepts(model, shape, (batch,)) is None:
            return _choice(shape, origin or _explain(shape, []), batch)
    shape, refusal = refusals[0]
    if origin:
        where = f"{describe_shape(shape)} ({origin})"
        raise DataError(
            f"the model refuses {where}: {refusal}", "say the shape that it takes with --input-shape C,H,W"
        )
    tried = " ".join(str(side) for side in SIDES)
    hint = "say the shape that it takes with --input-shape C,H,W"
    if model.first_channels not in {None, *CHANNELS}:
        hint = f"its first layer takes {model.first_channels} channels: give arrays with --data FILE.npy"
    raise ModelError(
        f"the model refuses every input tried (1, 3 and 4 channels, sizes {tried}): {refusal}", hint
    )


def choose_batch_size(model: AuditModel, choice: Choice) -> int:
    """Time the model; return the fewest images at once with which it is about as fast as with any number."""
    speeds: dict[int, float] = {}
    for size in TIMED_BATCHES:
        batch = torch.rand((size, *choice.shape), generator=torch.Generator().manual_seed(0))
        try:
            seconds = min(_time(model, batch) for _ in range(TIMED_RUNS))
        except ModelError:
            break
        speeds[size] = size / seconds
        if seconds > LONGEST_RUN:
            break
    best = max(speeds.values(), default=0.0)
    return next((size for size, speed in speeds.items() if speed >= FAST_ENOUGH * best), 1)


def _time(model: AuditModel, batch: torch.Tensor) -> float:
    start = time.perf_counter()
    model.run(batch)
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
    return time.perf_counter() - start


def _choice(shape: Shape, reason: str, batch: int | None) -> Choice:
    only = "" if batch is None else f"; the model runs at batch size {batch} only"
    return Choice(shape, reason + only, batch)


def _fixed(model: AuditModel, shapes: list[Shape], options: InputOptions) -> Iterator[tuple[int, Shape]]:
    if model.fixed_batch is not None:
        return
    deadline = time.monotonic() + FIXED_SECONDS
    for batch, shape in product(dict.fromkeys([options.batch_size or BATCHES[0], *FIXED_BATCHES]), shapes):
        if time.monotonic() > deadline:
            return
        yield batch, shape


def _explain(shape: Shape, refusals: list[tuple[Shape, str]]) -> str:
    sides = " ".join(str(refused[1]) for refused, _ in refusals if refused[0] == shape[0])
    refused = f": the model refuses {sides}" if sides else ""
    return f"{shape[1]}x{shape[2]} chosen{refused} (another: --input-shape)"


def _accepts(model: AuditModel, shape: Shape, batches: tuple[int, ...]) -> str | None:
    """Run random images of a shape; return None when every output has one row for each, else why not."""
    generator = torch.Generator().manual_seed(0)
    for batch in batches:
        try:
            outputs = model.run(torch.rand((batch, *shape), generator=generator))
        except ModelError as error:
            return error.message
        tensors = [output.value for output in outputs if output.value is not None]
        if not tensors:
            # Another shape would not change what it returns.
            raise ModelError(f"no output can be compared: it {outputs[0].reason}", RETURN_TENSOR)
        for tensor in tensors:
            if tensor.shape[0] != batch:
                return f"an output of shape {describe_shape(tuple(tensor.shape))} for {batch} images"
    return None
