"""How an element moves a tensor in space."""

from eqaudit.transforms.actions import Action, RoundTrip, Shift, act, is_exact
from eqaudit.transforms.exact import move_exactly
from eqaudit.transforms.layouts import (
    Layout,
    Tokens,
    UnknownLayoutError,
    find_layout,
    find_layouts,
    layout_from_letters,
)
from eqaudit.transforms.resampling import Resampler
from eqaudit.transforms.windows import disc_mask, disc_window

__all__ = [
    "Action",
    "Layout",
    "Resampler",
    "RoundTrip",
    "Shift",
    "Tokens",
    "UnknownLayoutError",
    "act",
    "disc_mask",
    "disc_window",
    "find_layout",
    "find_layouts",
    "is_exact",
    "layout_from_letters",
    "move_exactly",
]
