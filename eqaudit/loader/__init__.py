"""From a model spec to one `AuditModel`, whatever the kind of artefact."""

import torch

from eqaudit.loader.archive import read_model_file
from eqaudit.loader.base import AuditModel, Feature, Tap, describe
from eqaudit.loader.eager import load_python, wrap_module
from eqaudit.loader.torchscript import load_torchscript
from eqaudit.plan import FileModel, ModelSpec, PythonObject

__all__ = ["AuditModel", "Feature", "Tap", "describe", "load_model", "wrap_module"]


def load_model(spec: ModelSpec, device: torch.device) -> AuditModel:
    """Load a model; the kind of a file is found from its content.

    Raises
    ------
    ModelError
        The model is missing, refused, damaged, or cannot be made.
    """
    match spec:
        case FileModel(path):
            return load_torchscript(read_model_file(path), path, device)
        case PythonObject():
            return load_python(spec, device)
