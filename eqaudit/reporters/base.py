"""What reporters share: foreign text made safe, numbers and classes put in words."""

from __future__ import annotations

from eqaudit.report import HOLDING, ElementError, Layer, Report

SEVERITY = ("exact", "at the floor", "approximate", "unresolved", "degenerate", "broken")
NOT_PLAIN = "not plain"


def show(text: str) -> str:
    r"""Return foreign text on one line: what cannot be printed is written as an escape.

    Names of layers, files and messages may hold terminal escapes, line breaks or marks that turn the
    direction of writing.

    Examples
    --------
    >>> show("conv\x1b[31m")
    'conv\\x1b[31m'
    """
    return "".join(character if character.isprintable() else _escape(character) for character in text)


def _escape(character: str) -> str:
    code = ord(character)
    if code < 0x100:  # noqa: PLR2004 - two hexadecimal digits
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"  # noqa: PLR2004 - four


def layer_name(layer: Layer) -> str:
    """Return the name of a layer; later calls of the same module are numbered: ``conv1#1``."""
    return show(layer.name) + (f"#{layer.call}" if layer.call else "")


def worst_error(layer: Layer) -> ElementError | None:
    """Return the element at which the layer fails most; None when nothing was measured."""
    return max(
        layer.errors, key=lambda error: (SEVERITY.index(error.class_), error.error or 0.0), default=None
    )


def later_exact(report: Report) -> list[frozenset[str]]:
    """Return, for each layer, the elements at which some later layer or the output holds."""
    held: frozenset[str] = frozenset()
    for output in report.outputs:
        held |= _holding(output)
    found: list[frozenset[str]] = []
    for layer in reversed(report.layers):
        found.append(held)
        held |= _holding(layer)
    return found[::-1]


def shown_class(error: ElementError, later: frozenset[str]) -> str:
    """Return the class to show: *not plain* for a layer that fails, as plain maps, before one that holds."""
    failed = error.class_ in {"broken", "approximate"}
    return NOT_PLAIN if failed and error.element in later else error.class_


def first_breaking_layer(report: Report) -> Layer | None:
    """Return the first layer that fails at an element and after which nothing holds at it."""
    for layer, later in zip(report.layers, later_exact(report), strict=True):
        if any(shown_class(error, later) in {"broken", "approximate"} for error in layer.errors):
            return layer
    return None


def _holding(layer: Layer) -> frozenset[str]:
    return frozenset(error.element for error in layer.errors if error.class_ in HOLDING)
