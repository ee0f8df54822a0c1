"""A diagnosis as text: causes in order of what they explain, the tree of layers, what repairs would do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text
from rich.tree import Tree

from eqaudit.report import CauseFound, Diagnosis, LocalError
from eqaudit.reporters.escape import show
from eqaudit.verdict import format_error, format_share

INDENT = (0, 0, 0, 3)
LIE_INDENT = (0, 0, 0, 7)
MOST_EVIDENCE = 6
MOST_LAYERS = 4


def diagnosis_parts(found: Diagnosis) -> Iterator[RenderableType]:
    """Return the whole diagnosis, part by part."""
    yield Text(f"why    {describe_diagnosis(found)}")
    if found.reason is not None:
        return
    yield Padding(Text(_lie_line(found)), LIE_INDENT)
    yield from cause_parts(found)
    if any(layer.elements for layer in found.layers):
        yield ""
        yield _tree(found)
    remedies = list(_remedies(found))
    if remedies:
        yield ""
        yield Text("\n".join(remedies))


def cause_parts(found: Diagnosis) -> Iterator[RenderableType]:
    """Return the causes alone."""
    for number, cause in enumerate(found.causes, start=1):
        yield Text.assemble((f"{number}. {show(cause.id)}", "bold"), f": {show(cause.explanation)}")
        yield Padding(Text("\n".join(_cause_lines(cause))), INDENT)
        if number > 1:
            yield Padding(Text(f"together with those above: {format_error(cause.error_together)}"), INDENT)
    if not found.causes and found.reason is None:
        yield Text(f"No cause: under {show(found.group)} the output is exact but for rounding.")


def describe_diagnosis(found: Diagnosis) -> str:
    """Return how much the output errs and which layer breaks first, or why that cannot be told."""
    if found.reason is not None:
        return show(found.reason)
    first = "" if found.first is None else f"; the first layer that breaks is {show(found.first)}"
    error = f"the output errs by {format_error(found.error)} at {show(found.element)}"
    return f"{show(found.group)}, {found.images} images, {show(found.dtype)}: {error}{first}"


def describe_layers(cause: CauseFound, write: Callable[[str], str] = show) -> str:
    """Return the names of the layers of a cause, the first few if there are many, each as ``write`` does."""
    more = len(cause.layers) - MOST_LAYERS
    return ", ".join(map(write, cause.layers[:MOST_LAYERS])) + (f" and {more} more" if more > 0 else "")


def describe_effect(cause: CauseFound) -> str:
    """Return what the experiment that takes a cause away left of the error."""
    change = f"{format_error(cause.error_before)} -> {format_error(cause.error_without)}"
    return f"removes {format_share(cause.removed)} of the error: {change} ({show(cause.experiment)})"


def describe_cause(cause: CauseFound) -> str:
    """Return one line on a cause: what it is and where, what goes with it, and what helps."""
    where = f" in {describe_layers(cause)}" if cause.layers else ""
    said = (f"{cause.id}{where}: {cause.explanation}", describe_effect(cause), f"fix: {cause.fix}")
    return show("; ".join(said))


def _lie_line(found: Diagnosis) -> str:
    lie = found.lie_derivative
    if lie is None:
        return f"no Lie derivative of the output: {show(found.lie_reason or 'not measured')}"
    turn, shift = format_error(lie.turn), format_error(lie.shift)
    return f"Lie derivative: {turn} per radian for turns, {shift} for shifts as fast"


def _cause_lines(cause: CauseFound) -> Iterator[str]:
    yield from map(show, cause.evidence[:MOST_EVIDENCE])
    if len(cause.evidence) > MOST_EVIDENCE:
        yield f"and {len(cause.evidence) - MOST_EVIDENCE} more"
    yield describe_effect(cause)
    if cause.sizes:
        sizes = (f"{tried.size[0]}x{tried.size[1]}: {format_error(tried.error)}" for tried in cause.sizes)
        yield f"sizes that were run: {', '.join(sizes)}"
    yield f"fix: {show(cause.fix)}"


def _tree(found: Diagnosis) -> Tree:
    """Draw the modules of the model; what is exact is folded, what breaks is marked."""
    tree = Tree("layers, with their local errors and Lie derivatives (turn/shift)", highlight=False)
    _grow(tree, [(layer.name.split("."), layer) for layer in found.layers])
    return tree


def _grow(tree: Tree, layers: Sequence[tuple[Sequence[str], LocalError]]) -> None:
    exact = 0
    groups: dict[str, list[tuple[Sequence[str], LocalError]]] = {}
    for path, layer in layers:
        groups.setdefault(path[0], []).append((path[1:], layer))
    for name, inside in groups.items():
        if not any(layer.elements for _, layer in inside):
            exact += len(inside)
            continue
        _add_exact(tree, exact)
        exact = 0
        own = [layer for path, layer in inside if not path]
        branch = tree.add(_line(name, own[0]) if own else Text(show(name)))
        rest = [(path, layer) for path, layer in inside if path]
        if rest:
            _grow(branch, rest)
    _add_exact(tree, exact)


def _add_exact(tree: Tree, count: int) -> None:
    if count:
        tree.add(Text(f"{count} layer{'' if count == 1 else 's'}, exact", style="green"))


def _line(name: str, layer: LocalError) -> Text:
    error = f"{format_error(layer.local_error)}, {format_share(layer.share)} of all"
    marked = f"< breaks at {', '.join(map(show, layer.elements))}" if layer.elements else ""
    lie = layer.lie_derivative
    small = "" if lie is None else f"Lie {format_error(lie.turn)}/{format_error(lie.shift)}  "
    line = Text(f"{show(name)}  {show(layer.type)}  {error}  {small}")
    return line.append(marked, style="bold red")


def _remedies(found: Diagnosis) -> Iterator[str]:
    for layer in found.layers:
        if layer.symmetrised_error is not None:
            change = f"{format_error(found.error)} -> {format_error(layer.symmetrised_error)}"
            yield f"{show(layer.name)} alone averaged over {show(found.group)}: {change}"
    averaged = found.averaged
    if averaged is not None:
        yield (
            f"the output averaged over {show(found.group)}: {format_error(averaged.error)}, "
            f"at {averaged.runs} runs of the model; it changes the output by {format_error(averaged.change)}"
        )
