"""Exported programs (``.pt2``): the module tree is built again, and hooks fire on it as on the source.

An exported program is one flat graph for one shape of input, where each size is a number or a range. Layers
that left no operation in it (``Identity``) are not seen, nor those inside ``torch.no_grad()`` or a branch;
the tensors of a layer that returns several are numbered in the order in which the program makes them.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram, unflatten
from torch.export.graph_signature import InputKind, TensorArgument
from torch.export.passes import move_to_device_pass
from torch.export.pt2_archive._package import load_pt2
from torch.export.unflatten import InterpreterModule, InterpreterModuleDispatcher

from eqaudit.errors import ModelError
from eqaudit.loader.archive import ModelFile
from eqaudit.loader.base import (
    AuditModel,
    InputShape,
    OnEnter,
    OnValue,
    Runner,
    Tap,
    describe,
    is_opaque,
    module_parameters,
    own_parameters,
    run_with_hooks,
)
from eqaudit.loader.effects import check_operators
from eqaudit.loader.kinds import EXPORT_AGAIN

IMAGE_RANK = 4
BIT_CASTS = ("aten.view.dtype", "aten.view_copy.dtype")


class ExportedRunner(Runner):
    """A program, and the tree of modules that it was exported from."""

    def __init__(self, program: ExportedProgram, dtype: torch.dtype | None = None) -> None:
        self.program = program
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.module: Any = unflatten(program)
        if dtype is not None:
            _convert(self.module, dtype)

    def run(self, batch: torch.Tensor, on_value: OnValue | None, on_enter: OnEnter | None = None) -> object:
        """Call the module with a hook on every layer that the program has."""
        if on_value is None:
            return self.module(batch)
        taps = [(module, _tap(name, module)) for name, module in self._layers()]
        return run_with_hooks(
            self.module, batch, taps, lambda tap, value: on_value(tap, _tensors_only(value)), on_enter
        )

    def names(self) -> set[str]:
        """Return the names of all modules that left an operation in the program."""
        return {_plain(name) for name, _ in _named_modules(self.module)}

    def cast(self, dtype: torch.dtype) -> ExportedRunner:
        """Return a copy in another floating type, also where the graph names float32."""
        with torch.no_grad():
            copy = ExportedRunner(self.program, dtype)
            copy.module.load_state_dict(self.module.state_dict())
            return copy

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return parameters and buffers by name."""
        return dict(self.module.state_dict())

    def weights(self) -> Iterator[torch.Tensor]:
        """Return the floating parameters; the floating buffers where there are none."""
        return module_parameters(self.module)

    def _layers(self) -> Iterator[tuple[str, nn.Module]]:
        for name, module in _named_modules(self.module):
            if name and isinstance(module, (InterpreterModule, InterpreterModuleDispatcher)):
                yield name, module

    def notes(self) -> Iterator[str]:
        """Say what about the program a reader of the report must know."""
        if not any(True for _ in self._layers()):
            yield "the program has no modules, only operations (--taps operations)"
        inner = sum(isinstance(module, torch.fx.GraphModule) for module in self.module.modules())
        if inner:
            yield f"layers inside no_grad, autocast or a branch cannot be seen: {inner} places"
        if any(_is_training(node) for graph in _graphs(self.module) for node in graph.nodes):
            yield "exported in training mode: dropout or batch statistics are part of the program"


def load_exported(file: ModelFile, spec: str, device: torch.device) -> AuditModel:
    """Load a checked exported program.

    Raises
    ------
    ModelError
        torch cannot load it, or it is no network of images.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Not torch.export.load: on an error it tries a format of old and reports that failure instead.
            program = load_pt2(io.BytesIO(file.content)).exported_programs["model"]
            program = move_to_device_pass(program, device)
        effects = check_operators(_operators(program))
        batch, shape = _input_shape(program)
        runner = ExportedRunner(program)
    except ModelError as error:
        raise ModelError(f"{spec}: {error.message}", error.hint) from error
    except Exception as error:
        raise ModelError(
            f"{spec} cannot be loaded: {describe(error)}",
            "was it saved by another torch, or with operators of another package?",
        ) from error
    return AuditModel(
        spec, "exported", file.sha256, runner, device, (*runner.notes(), *effects), shape, fixed_batch=batch
    )


def _operators(program: ExportedProgram) -> Iterator[str]:
    """Name the operators of a program; refuse a name that led to something else."""
    for graph in _graphs(program.graph_module):
        for node in graph.nodes:
            operator = isinstance(node.target, (torch._ops.OpOverload, torch._ops.HigherOrderOperator))
            module = getattr(node.target, "__module__", "")
            if node.op == "call_function" and not operator and module not in {"_operator", "math", "torch"}:
                raise ModelError(
                    f"{str(node.target)[:80]} is no operator of this torch: refused", EXPORT_AGAIN
                )
            if isinstance(node.target, torch._ops.OpOverload):
                yield node.target._schema.name


def _input_shape(program: ExportedProgram) -> tuple[int | None, InputShape]:
    """Return the batch size and the (C, H, W) of the one input; None where the program takes several."""
    names = [spec.arg for spec in program.graph_signature.input_specs if spec.kind == InputKind.USER_INPUT]
    if len(names) != 1 or not isinstance(names[0], TensorArgument):
        raise ModelError(
            f"it takes {len(names)} inputs, expected one batch of images",
            "export a module whose forward takes one tensor",
        )
    if not program.call_spec.in_spec.child(0).num_leaves:
        raise ModelError(
            f"it takes its input by keyword ({names[0].name})", "export it with the images as an argument"
        )
    node = next(node for node in program.graph.nodes if node.name == names[0].name)
    value = node.meta["val"]
    sizes = [size if isinstance(size, int) else None for size in value.shape]
    if value.ndim != IMAGE_RANK or value.dtype != torch.float32:
        shape = "x".join("any" if size is None else str(size) for size in sizes)
        kind = str(value.dtype).removeprefix("torch.")
        raise ModelError(
            f"its input is {kind} of shape {shape}, expected float32 images (B, C, H, W)",
            "export it with a float32 batch of images as the example input",
        )
    return sizes[0], (sizes[1], sizes[2], sizes[3])


def _tap(name: str, module: nn.Module) -> Tap:
    kind = module.type_name() if isinstance(module, InterpreterModule) else _dispatched_type(module)
    kind = kind or "Module"
    return Tap(_plain(name), kind.rpartition(".")[2], own_parameters(module), is_opaque(kind))


def _plain(name: str) -> str:
    """Return a layer's own name: calls of it that differ in the program are name@1, name@2, ..."""
    return ".".join(part.partition("@")[0] for part in name.split("."))


def _tensors_only(value: object) -> object:
    """Leave out the sizes that a layer hands on beside its tensors: they are no values of the source."""
    if not isinstance(value, (tuple, list)):
        return value
    tensors = tuple(part for part in value if isinstance(part, torch.Tensor))
    return tensors or value


def _dispatched_type(module: nn.Module) -> str | None:
    first = _calls(module)[0]
    return first.type_name() if isinstance(first, InterpreterModule) else None


def _named_modules(root: nn.Module) -> Iterator[tuple[str, Any]]:
    """Return each module once, with those that a dispatcher chooses from, which the root does not list."""
    seen: set[int] = set()
    for name, module in root.named_modules():
        hidden = _calls(module) if isinstance(module, InterpreterModuleDispatcher) else []
        inside = [
            (f"{name}.{path}" if path else "", part) for call in hidden for path, part in call.named_modules()
        ]
        for found, part in [(name, module), *inside]:
            if id(part) not in seen:
                seen.add(id(part))
                yield found, part


def _calls(dispatcher: Any) -> list[nn.Module]:
    return list(dispatcher.call_modules())


def _graphs(root: nn.Module) -> Iterator[torch.fx.Graph]:
    for _, module in _named_modules(root):
        graph = getattr(module, "graph", None)
        if isinstance(graph, torch.fx.Graph):
            yield graph


def _convert(module: Any, dtype: torch.dtype) -> None:
    """Convert parameters, buffers and constants, and float32 where a graph names it."""
    for _, owner in _named_modules(module):
        # Again for each: a dispatcher hides its modules from the root.
        owner.to(dtype)
        for name, value in list(vars(owner).items()):
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                setattr(owner, name, value.to(dtype))
    for graph in _graphs(module):
        for node in list(graph.nodes):
            _retype(graph, node, dtype)
    for _, owner in _named_modules(module):
        if isinstance(owner, torch.fx.GraphModule):
            owner.recompile()


def _retype(graph: torch.fx.Graph, node: torch.fx.Node, dtype: torch.dtype) -> None:
    name = str(node.target)
    if name == "aten._assert_tensor_metadata.default":
        # It compares with the type of the example input.
        graph.erase_node(node)
    elif name not in BIT_CASTS:
        node.args = tuple(_retyped(value, dtype) for value in node.args)
        node.kwargs = {key: _retyped(value, dtype) for key, value in node.kwargs.items()}


def _retyped(value: Any, dtype: torch.dtype) -> Any:
    return dtype if value is torch.float32 else value


def _is_training(node: torch.fx.Node) -> bool:
    if not isinstance(node.target, torch._ops.OpOverload):
        return False
    names = [argument.name for argument in node.target._schema.arguments]
    given = {**dict(zip(names, node.args, strict=False)), **node.kwargs}
    return given.get("train") is True or given.get("training") is True
