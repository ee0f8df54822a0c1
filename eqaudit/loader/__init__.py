"""From a model spec to one `AuditModel`, whatever the kind of artefact."""

import dataclasses

import torch
from torch import nn

from eqaudit.loader.archive import read_model_file
from eqaudit.loader.base import (
    AuditModel,
    Conduct,
    Feature,
    OnOperation,
    Operation,
    Tap,
    describe,
    same_memory,
)
from eqaudit.loader.eager import copy_module, make_module, wrap_eager
from eqaudit.loader.tangents import Direction, TangentRunner
from eqaudit.loader.torchscript import load_torchscript, wrap_torchscript
from eqaudit.loader.weights import load_weights
from eqaudit.plan import FileModel, ModelSpec, PythonObject, Taps, WeightsFile

__all__ = [
    "AuditModel",
    "Conduct",
    "Feature",
    "OnOperation",
    "Operation",
    "Tap",
    "copy_module",
    "describe",
    "load_model",
    "same_memory",
    "with_operations",
    "with_tangents",
    "with_taps",
    "wrap_module",
]


def load_model(spec: ModelSpec, device: torch.device) -> AuditModel:
    """Load a model; the kind of a file is found from its content.

    Raises
    ------
    ModelError
        The model or its weights are missing, refused or damaged, do not fit, or cannot be made.
    """
    match spec:
        case FileModel(path):
            return _load_file(path, device)
        case PythonObject():
            return wrap_module(make_module(spec), str(spec), device, spec.weights)


def _load_file(path: str, device: torch.device) -> AuditModel:
    file = read_model_file(path)
    match file.kind:
        case "torchscript":
            return load_torchscript(file, path, device)
        case "exported":
            from eqaudit.loader.exported import load_exported  # noqa: PLC0415 - torch.export costs a second

            return load_exported(file, path, device)


def with_taps(model: AuditModel, taps: Taps) -> AuditModel:
    """Return the model with taps at its modules, or at the operations inside them too."""
    return model if taps == "modules" else with_operations(model)


def with_operations(model: AuditModel, on_operation: OnOperation | None = None) -> AuditModel:
    """Return the model with taps at operations too; ``on_operation`` is told of each before its tap."""
    from eqaudit.loader.operations import OperationsRunner  # noqa: PLC0415 - parts of torch's tracer

    inner = model.runner.runner if isinstance(model.runner, OperationsRunner) else model.runner
    return dataclasses.replace(model, runner=OperationsRunner(inner, on_operation))


def with_tangents(model: AuditModel, direction: Direction) -> AuditModel:
    """Return the model with ``J_F(x) v`` in place of every feature F(x); v is the direction at a batch x."""
    return dataclasses.replace(model, runner=TangentRunner(model.runner, direction))


def wrap_module(
    module: nn.Module, spec: str, device: torch.device, weights: WeightsFile | None = None
) -> AuditModel:
    """Make a module in memory ready to be measured, also one that is TorchScript already.

    It is changed: ``weights`` are loaded onto it, it is put in eval mode and moved to the device.

    Raises
    ------
    ModelError
        The weights are refused or damaged, or do not fit.
    """
    loaded = load_weights(module, spec, weights) if weights else None
    if isinstance(module, torch.jit.ScriptModule):
        model = wrap_torchscript(module, spec, device)
    else:
        model = wrap_eager(module, spec, device)
    if loaded is None:
        return model
    return dataclasses.replace(model, notes=(*model.notes, *loaded.notes), weights_sha256=loaded.sha256)
