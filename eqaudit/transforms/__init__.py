"""How an element moves a tensor in space."""

from eqaudit.transforms.actions import Action, RoundTrip, Shift, act, is_exact, split
from eqaudit.transforms.exact import move_exactly
from eqaudit.transforms.layouts import (
    Layout,
    Tokens,
    UnknownLayoutError,
    find_layout,
    find_layouts,
    layout_from_letters,
)
from eqaudit.transforms.points import Points, choose_points
from eqaudit.transforms.resampling import Resampler, Table, forget_operators, slope_matrix
from eqaudit.transforms.windows import disc_mask, disc_window

__all__ = [
    "Action",
    "Layout",
    "Points",
    "Resampler",
    "RoundTrip",
    "Shift",
    "Table",
    "Tokens",
    "UnknownLayoutError",
    "act",
    "choose_points",
    "disc_mask",
    "disc_window",
    "find_layout",
    "find_layouts",
    "forget_operators",
    "is_exact",
    "layout_from_letters",
    "move_exactly",
    "slope_matrix",
    "split",
]
