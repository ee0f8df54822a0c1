"""How long a forward pass takes, of several models in turn on one batch."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch

from eqaudit.comparison import Timing, Timings
from eqaudit.data import Images, open_images
from eqaudit.engine.audit import choose_device
from eqaudit.engine.base import Progress, as_tensor
from eqaudit.engine.precision import convert, set_tf32
from eqaudit.errors import ModelError
from eqaudit.loader import AuditModel, load_model
from eqaudit.plan import InputOptions, RunOptions, TimingPlan

LEAST_ROUNDS, MOST_ROUNDS = 5, 51
SECONDS = 10.0
"""After which no more rounds begin."""


def time_models(plan: TimingPlan, progress: Progress) -> Timings:
    """Load models and images, and run each model in rounds; raises EqauditError as `time_loaded` does."""
    device = choose_device(plan.run)
    progress("loading", 0, 0)
    models = [load_model(spec, device) for spec in plan.models]
    return time_loaded(models, open_images(plan.inputs), plan.inputs, plan.run, progress)


def time_loaded(
    models: Sequence[AuditModel], images: Images, inputs: InputOptions, run: RunOptions, progress: Progress
) -> Timings:
    """Run each model on the first batch, in rounds that each begin with another one, after one that warms up.

    A model that takes one batch size only gets the batch cut or filled up to it.

    Raises
    ------
    EqauditError
        A model or the images cannot be used, or a model raises.
    """
    set_tf32(run)
    converted = [convert(model, images, inputs, run) for model in models]
    dataset = images.prepare(converted[0][1].shape)
    first = as_tensor(next(dataset.batches(inputs.batch_size)).images)
    batches = [_fitted(first, choice.fixed_batch) for _, choice in converted]
    timed = [model for model, _ in converted]
    for model, batch in zip(timed, batches, strict=True):
        model.run(batch)
    rounds = _rounds(timed, batches, progress)
    return Timings(
        [
            _timing(column, len(batch))
            for column, batch in zip(zip(*rounds, strict=True), batches, strict=True)
        ]
    )


def _timing(seconds: Sequence[float], batch: int) -> Timing:
    low, median, high = (float(value) for value in np.quantile(seconds, [0.25, 0.5, 0.75]))
    return Timing(median, low, high, batch, len(seconds))


def _fitted(images: torch.Tensor, size: int | None) -> torch.Tensor:
    return images if size is None else images[torch.arange(size) % len(images)]


def _rounds(
    models: Sequence[AuditModel], batches: Sequence[torch.Tensor], progress: Progress
) -> list[list[float]]:
    rounds: list[list[float]] = []
    end = time.monotonic() + SECONDS
    while len(rounds) < LEAST_ROUNDS or (len(rounds) < MOST_ROUNDS and time.monotonic() < end):
        progress("timing", len(rounds), MOST_ROUNDS)
        seconds = [0.0] * len(models)
        for turn in range(len(models)):
            place = (turn + len(rounds)) % len(models)
            seconds[place] = _seconds(models[place], batches[place])
        rounds.append(seconds)
    return rounds


def _seconds(model: AuditModel, images: torch.Tensor) -> float:
    """Return how long the model alone takes; a copy, for it may write on what it is given."""
    given = images.to(model.device, model.dtype, copy=True)
    _wait(model.device)
    begin = time.perf_counter()
    try:
        with torch.no_grad():
            model.runner.run(given, None)
    except Exception as error:
        raise ModelError(f"{model.spec} raises when it runs again: {error}") from error
    _wait(model.device)
    return time.perf_counter() - begin


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
