"""Finer taps: the operations called as functions inside modules, beside what the modules return.

Every kind of model ends in the same operators of torch. A dispatch mode sees each of them while the model
runs, before operators that are made of others are taken apart, and the calls of modules around it say where
it stands: so eager code, TorchScript and exported programs give the same names. They differ only where the
operators do: scripting makes ``neg`` and ``add`` of ``1 - x``, and ``run_decompositions`` leaves the parts of
an operation. What runs inside ``torch.cond`` or ``torch.vmap`` is not seen, nor what is computed from values
that left torch (NumPy); what ``torch.jit.fork`` starts comes in no fixed order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch._C import DispatchKey
from torch._dispatch.python import enable_python_dispatcher, no_python_dispatcher
from torch._subclasses.schema_check_mode import SchemaCheckMode
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from eqaudit.loader.base import (
    OnEnter,
    OnOperation,
    OnValue,
    Operation,
    Runner,
    Tap,
    WrappedRunner,
    same_memory,
)

# What moves values elsewhere and computes none; an assignment to a part of a tensor is a copy too.
COPIES = {
    "alias",
    "clone",
    "contiguous",
    "copy",
    "detach",
    "fill",
    "lift_fresh",
    "lift_fresh_copy",
    "to",
    "to_copy",
}
SYNONYMS = {
    "absolute": "abs",
    "clip": "clamp",
    "concat": "cat",
    "concatenate": "cat",
    "divide": "div",
    "linalg_vector_norm": "norm",
    "multiply": "mul",
    "negative": "neg",
    "rsub": "sub",
    "subtract": "sub",
    "true_divide": "div",
}
NESTED = (torch.Tensor, dict, list, tuple)
"""What an argument of an operator is where it is, or holds, a tensor."""


class OperationsRunner(WrappedRunner):
    """Another runner, of which the operations inside modules are handed over too.

    ``on_operation`` is told of every operation on data before the tap that its result is, or is a part of.
    """

    def __init__(self, runner: Runner, on_operation: OnOperation | None = None) -> None:
        super().__init__(runner)
        self.on_operation = on_operation

    def run(
        self,
        batch: torch.Tensor,
        on_value: OnValue | None,
        on_enter: OnEnter | None = None,  # noqa: ARG002 - calls of modules are followed here
    ) -> object:
        """Call the model; a TorchScript graph runs as it is written, not fused or reordered."""
        with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            if on_value is None:
                return self.runner.run(batch, None)
            mode = _Operations(batch, self.runner.names(), on_value, self.on_operation)
            with enable_python_dispatcher(), mode:
                return self.runner.run(batch, mode.leave, mode.enter)


@dataclass(slots=True)
class _Frame:
    """One call of a module on its way, and how often each operation occurred in it."""

    tap: Tap
    counts: Counter[str] = field(default_factory=Counter)


# Beside those that trace, torch admits only this mode before operators are taken apart. None of it is used.
class _Operations(SchemaCheckMode):  # type: ignore[no-untyped-call]
    """Hands over each operation on the data while a model runs on one batch.

    Data is what was computed from the batch, told by memory: what weights alone give is no feature.
    """

    def __init__(
        self, batch: torch.Tensor, names: set[str], on_value: OnValue, on_operation: OnOperation | None
    ) -> None:
        TorchDispatchMode.__init__(self, DispatchKey.PreDispatch)  # type: ignore[no-untyped-call]
        self.names, self.on_value, self.on_operation = names, on_value, on_operation
        self.frames = [_Frame(Tap("", "", 0))]
        # Whose memory is hidden (the layouts of an optimised file) counts as data: it cannot be followed.
        self.data = {*_memories(batch), None}
        for operator in torch._ops._higher_order_ops.values():
            # They run their graphs unseen, as the notes on a program say.
            operator.python_key_table.setdefault(_Operations, partial(_run_higher_order, operator))

    def enter(self, tap: Tap) -> None:
        """Note that a module is called."""
        self.frames.append(_Frame(tap))

    def leave(self, tap: Tap, value: object) -> None:
        """Hand over what a module returned."""
        # A module that raised, where its caller went on, never left.
        while self.frames.pop().tap is not tap:
            pass
        self._deliver(tap, value)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call an operator and look at what it returned."""
        named = kwargs or {}
        # Without this, operators that also have a kernel in Python would take that one, and round otherwise.
        with no_python_dispatcher():
            result = func(*args, **named)
        if func.namespace == "eqaudit" or _takes_sizes_only(func):
            return result
        told = None if self.on_operation is None else self._describe(func, args, named)
        if self.follow((args, named), result):
            value = result[0] if isinstance(result, tuple) else result
            if self.on_operation is not None and told is not None:
                shape = value.shape if isinstance(value, torch.Tensor) else None
                self.on_operation(Operation(_operation_name(func, args), told, shape))
            if self._is_feature(func, value, (args, named)):
                name = _operation_name(func, args)
                self._deliver(Tap(self._full_name(name), name, 0), value)
        return result

    def follow(self, given: object, result: object) -> bool:
        """Tell whether an operation was given data; what it returned is data then too."""
        found = not self.data.isdisjoint(_memories(given))
        if found:
            self.data |= _memories(result)
        return found

    def _describe(self, func: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> dict[str, object]:
        """Return the arguments of a call by name, data as its shape."""
        schema = func._schema.arguments
        names = [argument.name for argument in schema]
        given = {argument.name: argument.default_value for argument in schema}
        given |= {**dict(zip(names, args, strict=False)), **named}
        return {
            name: pytree.tree_map_only(torch.Tensor, self._as_told, value) for name, value in given.items()
        }

    def _as_told(self, tensor: torch.Tensor) -> object:
        return tensor if self.data.isdisjoint(_memories(tensor)) else tensor.shape

    def _deliver(self, tap: Tap, value: object) -> None:
        with _disable_current_modes(), no_python_dispatcher():
            self.on_value(tap, value)

    def _full_name(self, operation: str) -> str:
        """Name an operation after the module that it is called in, unlike any other and any module."""
        frame = self.frames[-1]
        plain = f"{frame.tap.name}.{operation}" if frame.tap.name else operation
        while True:
            number = frame.counts[operation]
            frame.counts[operation] += 1
            name = f"{plain}_{number}" if number else plain
            if name not in self.names:
                return name

    def _is_feature(self, func: Any, value: object, given: object) -> bool:
        if self.frames[-1].tap.opaque or not isinstance(value, torch.Tensor) or _operator(func) in COPIES:
            return False
        if not (value.is_floating_point() and value.ndim and torch._C._has_storage(value)):
            return False
        # A slice of everything, dropout in eval mode: what comes out is what went in.
        return func._schema.is_mutable or not any(
            torch._C._has_storage(tensor) and same_memory(value, tensor) for tensor in _tensors(given)
        )


def _run_higher_order(operator: Any, mode: _Operations, *args: Any, **kwargs: Any) -> Any:
    result = operator(*args, **kwargs)
    mode.follow((args, kwargs), result)
    return result


def _tensors(values: object) -> Iterator[torch.Tensor]:
    """Return the tensors among the arguments or results of an operator, those inside a vmap as outside."""
    if isinstance(values, torch.Tensor):
        while torch._C._functorch.is_functorch_wrapped_tensor(values):
            values = torch._C._functorch.get_unwrapped(values)
        yield values
    elif isinstance(values, NESTED):
        # Most arguments are numbers, or lists of them.
        for value in values.values() if isinstance(values, dict) else values:
            if isinstance(value, NESTED):
                yield from _tensors(value)


def _memories(values: object) -> set[StorageWeakRef | None]:
    """Return what is equal for tensors of the same memory, however they view it; None for hidden memory."""
    return {
        StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]
        if torch._C._has_storage(tensor)
        else None
        for tensor in _tensors(values)
    }


def _operator(func: Any) -> str:
    """Return the name of an operator without overload and without the underscores of its variants."""
    return str(func._opname).strip("_").removesuffix("_with_indices")


def _operation_name(func: Any, args: tuple[Any, ...]) -> str:
    name = _operator(func)
    if name in {"convolution", "convolution_mode"}:
        # Traces hold one operator for all convolutions.
        transposed = name == "convolution" and args[6]
        return f"conv{'_transpose' if transposed else ''}{args[0].ndim - 2}d"
    return "interpolate" if name.startswith("upsample_") else SYNONYMS.get(name, name)


def _takes_sizes_only(func: Any) -> bool:
    name = str(func._opname)
    return name.endswith("_like") or name.startswith("new_")
