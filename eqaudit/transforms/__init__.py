"""How an element moves a tensor in space."""

from eqaudit.transforms.exact import move
from eqaudit.transforms.layouts import Layout, UnknownLayoutError, find_layout

__all__ = ["Layout", "UnknownLayoutError", "find_layout", "move"]
