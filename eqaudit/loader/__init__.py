"""From a model spec to one `AuditModel`, whatever the kind of artefact."""

import dataclasses

import torch
from torch import nn

from eqaudit.loader.archive import read_model_file
from eqaudit.loader.base import AuditModel, Conduct, Feature, Tap, describe
from eqaudit.loader.eager import make_module, wrap_eager
from eqaudit.loader.torchscript import load_torchscript, wrap_torchscript
from eqaudit.loader.weights import load_weights
from eqaudit.plan import FileModel, ModelSpec, PythonObject

__all__ = ["AuditModel", "Conduct", "Feature", "Tap", "describe", "load_model", "wrap_module"]


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
            return _load_python(spec, device)


def _load_python(spec: PythonObject, device: torch.device) -> AuditModel:
    module = make_module(spec)
    if spec.weights is None:
        return wrap_module(module, str(spec), device)
    loaded = load_weights(module, spec, spec.weights)
    model = wrap_module(module, str(spec), device)
    return dataclasses.replace(model, notes=(*model.notes, *loaded.notes), weights_sha256=loaded.sha256)


def _load_file(path: str, device: torch.device) -> AuditModel:
    file = read_model_file(path)
    match file.kind:
        case "torchscript":
            return load_torchscript(file, path, device)
        case "exported":
            from eqaudit.loader.exported import load_exported  # noqa: PLC0415 - torch.export costs a second

            return load_exported(file, path, device)


def wrap_module(module: nn.Module, spec: str, device: torch.device) -> AuditModel:
    """Make a module in memory ready to be measured, also one that is TorchScript already."""
    if isinstance(module, torch.jit.ScriptModule):
        return wrap_torchscript(module, spec, device)
    return wrap_eager(module, spec, device)
