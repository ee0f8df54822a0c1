"""How an element moves a tensor in space."""

from eqaudit.transforms.actions import Action, RoundTrip, Shift, act, is_exact
from eqaudit.transforms.layouts import Layout, UnknownLayoutError, find_layout
from eqaudit.transforms.resampling import Resampler
from eqaudit.transforms.windows import disc_mask, disc_window

__all__ = [
    "Action",
    "Layout",
    "Resampler",
    "RoundTrip",
    "Shift",
    "UnknownLayoutError",
    "act",
    "disc_mask",
    "disc_window",
    "find_layout",
    "is_exact",
]
