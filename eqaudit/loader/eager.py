"""Models made by Python code: `package.module:factory` or `path/to/file.py:factory`."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import nn

from eqaudit.errors import ModelError
from eqaudit.loader.base import (
    AuditModel,
    OnEnter,
    OnValue,
    Runner,
    Tap,
    is_opaque,
    module_parameters,
    own_parameters,
    run_with_hooks,
)
from eqaudit.plan import PythonObject
from eqaudit.pythonspec import import_object, one_line, user_code


class EagerRunner(Runner):
    """A module with forward hooks."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def run(self, batch: torch.Tensor, on_value: OnValue | None, on_enter: OnEnter | None = None) -> object:
        """Call the module with a hook on every module inside it."""
        taps = [
            (module, _tap(name, module))
            for name, module in self.module.named_modules()
            if name and on_value is not None
        ]
        return run_with_hooks(self.module, batch, taps, on_value, on_enter)

    def names(self) -> set[str]:
        """Return the names of all modules."""
        return {name for name, _ in self.module.named_modules()}

    def cast(self, dtype: torch.dtype) -> EagerRunner:
        """Return a copy in another floating type."""
        return EagerRunner(_copy(self.module).to(dtype))

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return parameters and buffers by name."""
        return {
            name: tensor
            for name, tensor in self.module.state_dict().items()
            if isinstance(tensor, torch.Tensor)
        }

    def weights(self) -> Iterator[torch.Tensor]:
        """Return the floating parameters."""
        return module_parameters(self.module)


def _tap(name: str, module: nn.Module) -> Tap:
    kind = type(module)
    return Tap(name, kind.__name__, own_parameters(module), is_opaque(kind.__module__ + "."))


def wrap_eager(module: nn.Module, spec: str, device: torch.device) -> AuditModel:
    """Make a module ready to be measured: it is put in eval mode and moved to the device."""
    return AuditModel(spec, "python", None, EagerRunner(module.eval().to(device)), device)


def _copy(module: nn.Module) -> nn.Module:
    """Copy a module.

    What it computed from its parameters and kept (the weight of ``weight_norm``) is no leaf of autograd,
    which torch refuses to copy: of that the value is copied.
    """
    kept = [value for part in module.modules() for value in vars(part).values()]
    tensors = [value for value in kept if isinstance(value, torch.Tensor) and not value.is_leaf]
    # Of a scripted module autograd would take the copies for results of a computation.
    with torch.no_grad():
        return copy.deepcopy(module, {id(tensor): tensor.detach().clone() for tensor in tensors})


def copy_module(module: nn.Module, name: str) -> nn.Module:
    """Copy a module that belongs to somebody else, so that it stays as it is.

    Raises
    ------
    ModelError
        It cannot be copied.
    """
    try:
        return _copy(module)
    except Exception as error:
        raise ModelError(
            f"{name} cannot be copied: {one_line(error)}",
            "name a function that makes the model",
        ) from error


def make_module(spec: PythonObject) -> nn.Module:
    """Call a factory, instantiate a class, or copy an instance, which stays as it is.

    Raises
    ------
    ModelError
        The code cannot be imported, raises, or gives no ``torch.nn.Module``; an instance cannot be copied.
    """
    found = import_object(spec, ModelError)
    if isinstance(found, nn.Module):
        if spec.arguments:
            raise ModelError(f"{spec} is a module already: it takes no --arg", "leave --arg out")
        return copy_module(found, str(spec))
    if not callable(found):
        raise ModelError(
            f"{spec} is {type(found).__name__}, no factory and no module",
            "name a function that returns the model",
        )
    with user_code(spec, ModelError):
        made = found(**spec.arguments)
    if not isinstance(made, nn.Module):
        raise ModelError(
            f"{spec} returns {type(made).__name__}, expected a torch.nn.Module",
            "return the model from the factory",
        )
    return made
