"""TorchScript files: scripted, traced and frozen, with taps inside.

Loaded TorchScript modules refuse forward hooks. So a copy of the forward graph is rewritten: each
method call is replaced by the body of the method, followed by an operator of ours that hands the
result to Python while the graph runs. The order and the values are those of eager hooks.
"""

from __future__ import annotations

import copy
import dataclasses
import io
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import torch

from eqaudit.errors import ModelError
from eqaudit.loader.archive import ModelFile
from eqaudit.loader.base import (
    AuditModel,
    OnEnter,
    OnValue,
    Runner,
    Tap,
    describe,
    is_opaque,
    module_parameters,
    own_parameters,
)
from eqaudit.loader.effects import check_code, check_operators, unknown_operator

FORWARD = re.compile(r"forward(__)?\d*")  # tracing numbers repeated calls, scripting numbers overloads
UNKNOWN_OPERATOR = re.compile(r"Unknown builtin op: ([\w.]+::\w+)")
MAX_CALLS = 20_000
# As a graph writes them.
DTYPES = {torch.float16: 5, torch.float32: 6, torch.float64: 7, torch.bfloat16: 15}

_library: Any = torch.library.Library("eqaudit", "DEF")  # type: ignore[no-untyped-call]
_listeners: list[tuple[Callable[[int], None], Callable[[int, object], None]]] = []


def _enter(index: int) -> None:
    _listeners[-1][0](index)


def _receive(index: int, value: object) -> None:
    _listeners[-1][1](index, value)


# CONSERVATIVE: the operators have side effects, so the graph optimiser may neither drop nor move them.
_library.define("enter(int index) -> ()", alias_analysis="CONSERVATIVE")
_library.impl("enter", _enter, "CompositeExplicitAutograd")
_library.define("tap(int index, Any value) -> ()", alias_analysis="CONSERVATIVE")
_library.impl("tap", _receive, "CompositeExplicitAutograd")


class TorchScriptRunner(Runner):
    """A loaded module, and its forward graph with taps."""

    def __init__(self, module: torch.jit.ScriptModule, dtype: torch.dtype | None = None) -> None:
        self.module = module
        self.graph = module._c._get_method("forward").graph.copy()
        self.taps = _insert_taps(self.graph, module)
        torch._C._jit_pass_inline(self.graph)  # helper functions too: what they hold is seen below
        if dtype is not None:
            _convert(self.graph, dtype)
        self.function = torch._C._create_function_from_graph("forward", self.graph)

    def run(self, batch: torch.Tensor, on_value: OnValue | None, on_enter: OnEnter | None = None) -> object:
        """Run the graph; without ``on_value`` what the taps hand over is dropped."""

        def enter(index: int) -> None:
            if on_enter is not None:
                on_enter(self.taps[index])

        def receive(index: int, value: object) -> None:
            if on_value is not None:
                on_value(self.taps[index], value)

        _listeners.append((enter, receive))
        try:
            return self.function(self.module, batch)
        finally:
            _listeners.pop()

    def names(self) -> set[str]:
        """Return the names of all modules."""
        return {name for name, _ in self.module.named_modules()}

    @property
    def frozen(self) -> bool:
        """Whether the file was frozen: its parameters became constants of the graph, most of them."""
        return not self.module._c.hasattr("training")

    def cast(self, dtype: torch.dtype) -> TorchScriptRunner:
        """Return a copy in another floating type; the float constants of the graph are converted too."""
        with torch.no_grad():
            return TorchScriptRunner(copy.deepcopy(self.module).to(dtype), dtype)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return parameters and buffers by name."""
        return dict(self.module.state_dict())

    def weights(self) -> Iterator[torch.Tensor]:
        """Return the floating parameters; of a frozen file, the float constants of its graph."""
        if not self.frozen:
            yield from module_parameters(self.module)
            return
        yield from (value for _, value in _float_constants(self.graph))
        # A method that is not inlined keeps its parameters.
        yield from (weight for weight in self.module.parameters() if weight.is_floating_point())


def load_torchscript(file: ModelFile, spec: str, device: torch.device) -> AuditModel:
    """Load a checked TorchScript archive.

    Raises
    ------
    ModelError
        torch cannot load it, it has no forward, or its code would touch files or needs another library.
    """
    try:
        check_code(_code(file.content))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # As torch.jit.load does, but with the functions at hand: everything that was compiled.
            functions = torch._C.CompilationUnit()
            read: Any = torch._C.import_ir_module_from_buffer
            wrap: Any = torch.jit._recursive.wrap_cpp_module
            module = wrap(read(functions, file.content, device, {}, False))
            notes = check_operators(_operators(functions))
            model = wrap_torchscript(module, spec, device)
    except ModelError as error:
        raise ModelError(f"{spec}: {error.message}", error.hint) from error
    except Exception as error:
        missing = UNKNOWN_OPERATOR.search(str(error))
        found = (
            unknown_operator(missing[1])
            if missing
            else ModelError(
                f"cannot be loaded: {describe(error)}",
                "was it saved by a newer torch, or with operators of another package?",
            )
        )
        raise ModelError(f"{spec}: {found.message}", found.hint) from error
    return dataclasses.replace(model, sha256=file.sha256, notes=(*model.notes, *notes))


def wrap_torchscript(module: torch.jit.ScriptModule, spec: str, device: torch.device) -> AuditModel:
    """Make a TorchScript module ready to be measured."""
    runner = TorchScriptRunner(module.eval().to(device))
    return AuditModel(spec, "torchscript", None, runner, device, tuple(_notes(runner)))


def _code(content: bytes) -> list[bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return [archive.read(name) for name in archive.namelist() if name.endswith(".py")]


def _operators(functions: Any) -> Iterator[str]:
    """Name the operators of everything that was compiled, closures too."""
    blocks = [function.graph for function in functions.get_functions()]
    while blocks:
        for node in blocks.pop().nodes():
            yield node.kind()
            blocks += node.blocks()
            blocks += [node.g(name) for name in node.attributeNames() if node.kindOf(name) == "g"]


def _notes(runner: TorchScriptRunner) -> Iterator[str]:
    if not runner.taps:
        yield (
            "frozen: no modules in the file, only operations (--taps operations)"
            if runner.frozen
            else "the model calls no modules, only operations (--taps operations)"
        )
    unseen = [
        call
        for call in runner.graph.findAllNodes("prim::CallMethod")
        if next(iter(call.inputs())).type().kind() == "InterfaceType"
    ]
    if unseen:
        yield f"layers that are chosen at run time cannot be seen: {len(unseen)} calls"


def _insert_taps(graph: Any, module: torch.jit.ScriptModule) -> list[Tap]:
    """Replace every method call of a graph by the method's body and a tap; return the taps by index."""
    modules = dict(module.named_modules())
    taps: list[Tap] = []
    while calls := [(call, modules.get(_path(call))) for call in graph.findAllNodes("prim::CallMethod")]:
        known = [(call, owner) for call, owner in calls if owner is not None]
        if not known:
            break
        for call, owner in known:
            _splice(graph, call, owner, taps)
        if len(taps) > MAX_CALLS:
            raise ModelError(f"more than {MAX_CALLS} module calls in the graph", "is the model recursive?")
    return taps


def _path(call: Any) -> str | None:
    """Follow the attributes of a call's module back to the root; None where it is chosen at run time."""
    value = next(iter(call.inputs()))
    names: list[str] = []
    while value.node().kind() == "prim::GetAttr":
        names.append(value.node().s("name"))
        value = next(iter(value.node().inputs()))
    return ".".join(reversed(names)) if value.node().kind() == "prim::Param" else None


def _splice(graph: Any, call: Any, owner: torch.jit.ScriptModule, taps: list[Tap]) -> None:
    method, name = call.s("name"), _path(call)
    tapped = bool(name and FORWARD.fullmatch(method))
    # The guard puts the insert point back: left at a node that is destroyed, it ends the process later.
    with graph.insert_point_guard(call):
        if tapped:
            graph.insertNode(graph.create("eqaudit::enter", [graph.insertConstant(len(taps))], 0))
        result = next(iter(graph.insertGraph(owner._c._get_method(method).graph, list(call.inputs()))))
        call.output().replaceAllUsesWith(result)
        if tapped:
            graph.insertNode(graph.create("eqaudit::tap", [graph.insertConstant(len(taps)), result], 0))
            kind = owner._c._type().qualified_name().removeprefix("__torch__.")
            taps.append(Tap(str(name), owner.original_name, own_parameters(owner), is_opaque(kind)))
    call.destroy()


def _nodes(block: Any) -> Iterator[Any]:
    """Return every node in the order in which they are written, those of inner blocks too."""
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _nodes(inner)


def _float_constants(graph: Any) -> Iterator[tuple[Any, torch.Tensor]]:
    """Return the constants that are floating tensors, in the order of their first use."""
    seen: set[str] = set()
    for node in _nodes(graph):
        for value in node.inputs():
            made, name = value.node(), value.debugName()
            if name in seen or made.kind() != "prim::Constant" or not made.hasAttribute("value"):
                continue
            seen.add(name)
            if made.kindOf("value") == "t" and made.t("value").is_floating_point():
                yield made, made.t("value")


def _convert(graph: Any, dtype: torch.dtype) -> None:
    """Convert the float constants, and what the graph creates of a type that was fixed as float32."""
    for node, value in list(_float_constants(graph)):
        # A copy also of what has that type already: the twin's weights are changed in place.
        node.t_("value", value.to(dtype, copy=True))
        node.output().inferTypeFrom(value.to(dtype))
    for node in list(_nodes(graph)):
        # Tracing writes dtype=float32 into zeros, arange, new_full, ...; a cast is the model's own.
        if node.kind() != "aten::to" and "Layout? layout" in node.schema():
            _create(graph, node, dtype)


def _create(graph: Any, node: Any, dtype: torch.dtype) -> None:
    names = [argument.name for argument in torch._C.parse_schema(node.schema()).arguments]
    place = names.index("dtype")
    if list(node.inputs())[place].toIValue() == DTYPES[torch.float32]:
        with graph.insert_point_guard(node):
            node.replaceInput(place, graph.insertConstant(DTYPES[dtype]))
