"""TorchScript files: scripted, traced and frozen, with taps inside.

Loaded TorchScript modules refuse forward hooks. So a copy of the forward graph is rewritten: each
method call is replaced by the body of the method, followed by an operator of ours that hands the
result to Python while the graph runs. The order and the values are those of eager hooks.
"""

from __future__ import annotations

import copy
import io
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch

from eqaudit.errors import ModelError
from eqaudit.loader.archive import ModelFile
from eqaudit.loader.base import AuditModel, OnValue, Runner, Tap, describe, module_parameters, own_parameters

REFUSED_OPERATORS = ("aten::save", "aten::from_file")
FORWARD = re.compile(r"forward\d*")
MAX_CALLS = 20_000
TAP_KINDS = {
    "Tensor": "tensor",
    "Optional[Tensor]": "tensor",
    "List[Tensor]": "list",
    "Dict[str, Tensor]": "dict",
}

_library: Any = torch.library.Library("eqaudit", "DEF")  # type: ignore[no-untyped-call]
_receivers: list[Callable[[int, str, bool, object], None]] = []


def _receive(index: int, place: str, last: bool, value: object) -> None:
    _receivers[-1](index, place, last, value)


for _name, _type in (
    ("tensor", "Tensor?"),
    ("list", "Tensor[]"),
    ("dict", "Dict(str, Tensor)"),
    ("other", "str"),
):
    # CONSERVATIVE: the operator has side effects, so the graph optimiser may neither drop nor move it.
    _schema = f"tap_{_name}(int index, str place, bool last, {_type} value) -> ()"
    _library.define(_schema, alias_analysis="CONSERVATIVE")
    _library.impl(f"tap_{_name}", _receive, "CompositeExplicitAutograd")


class TorchScriptRunner(Runner):
    """A loaded module, and its forward graph with taps."""

    def __init__(self, module: torch.jit.ScriptModule, *, double: bool = False) -> None:
        self.module = module
        self.graph = module._c._get_method("forward").graph.copy()
        self.taps = _insert_taps(self.graph, module)
        self.double = double
        if double:
            _double_constants(self.graph)
        self.function = torch._C._create_function_from_graph("forward", self.graph)

    def run(self, batch: torch.Tensor, on_value: OnValue | None) -> object:
        """Run the graph; without ``on_value`` what the taps hand over is dropped."""
        parts: dict[str, object] = {}

        def receive(index: int, place: str, last: bool, value: object) -> None:
            if on_value is None:
                return
            parts[place] = value
            if last:
                whole = parts.get("", dict(parts))
                parts.clear()
                on_value(self.taps[index], whole)

        _receivers.append(receive)
        try:
            return self.function(self.module, batch)
        finally:
            _receivers.pop()

    def twin(self) -> TorchScriptRunner:
        """Return a float64 copy; the float constants of the graph are converted too."""
        with torch.no_grad():
            return TorchScriptRunner(copy.deepcopy(self.module).double(), double=True)

    def weights(self) -> Iterator[torch.Tensor]:
        """Return the floating parameters; of a frozen file, the float constants of its graph."""
        found = list(module_parameters(self.module))
        return iter(found or [value for _, value in _float_constants(self.graph)])


def load_torchscript(file: ModelFile, spec: str, device: torch.device) -> AuditModel:
    """Load a checked TorchScript archive.

    Raises
    ------
    ModelError
        torch cannot load it, it has no forward, or its code would touch files.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = torch.jit.load(io.BytesIO(file.content), map_location=device).eval()  # type: ignore[no-untyped-call]
            runner = TorchScriptRunner(module)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            f"{spec} cannot be loaded: {describe(error)}",
            "was it saved by a newer torch, or with operators of another package?",
        ) from error
    for operator in REFUSED_OPERATORS:
        if runner.graph.findAllNodes(operator):
            raise ModelError(
                f"{spec} reads or writes files ({operator}): refused",
                "remove the operator and save the model again",
            )
    notes = () if runner.taps else (_explain_no_layers(module),)
    return AuditModel(spec, "torchscript", file.sha256, runner, device, notes)


def _explain_no_layers(module: torch.jit.ScriptModule) -> str:
    frozen = not any(True for _ in module.parameters())
    return "frozen: no layers in the file" if frozen else "the model calls no modules: it has no layers"


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
    graph.setInsertPoint(call)
    result = next(iter(graph.insertGraph(owner._c._get_method(method).graph, list(call.inputs()))))
    call.output().replaceAllUsesWith(result)
    if name and FORWARD.fullmatch(method):
        leaves = list(_leaves(graph, result, ()))
        for place, value in leaves:
            _insert_tap(graph, len(taps), place, value, last=place == leaves[-1][0])
        taps.append(Tap(name, owner.original_name, own_parameters(owner)))
    call.destroy()


def _leaves(graph: Any, value: Any, place: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """Unpack nested tuples, whose structure is known; yield each part with its place."""
    if value.type().kind() != "TupleType" or not value.type().elements():
        yield ".".join(place), value
        return
    unpack = graph.insertNode(graph.create("prim::TupleUnpack", [value], len(value.type().elements())))
    for number, (part, kind) in enumerate(zip(unpack.outputs(), value.type().elements(), strict=True)):
        part.setType(kind)
        yield from _leaves(graph, part, (*place, str(number)))


def _insert_tap(graph: Any, index: int, place: str, value: Any, *, last: bool) -> None:
    kind = TAP_KINDS.get(str(value.type()), "other")
    handed = graph.insertConstant(str(value.type())) if kind == "other" else value
    inputs = [graph.insertConstant(constant) for constant in (index, place, last)]
    graph.insertNode(graph.create(f"eqaudit::tap_{kind}", [*inputs, handed], 0))


def _float_constants(graph: Any) -> Iterator[tuple[Any, torch.Tensor]]:
    for node in graph.findAllNodes("prim::Constant"):
        if node.hasAttribute("value") and node.kindOf("value") == "t" and node.t("value").is_floating_point():
            yield node, node.t("value")


def _double_constants(graph: Any) -> None:
    for node, value in _float_constants(graph):
        node.t_("value", value.double())
        node.output().inferTypeFrom(value.double())
