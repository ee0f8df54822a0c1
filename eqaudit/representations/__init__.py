"""How an element moves the channels of a layer: fits, the rule that decides, and what it is called."""

from eqaudit.representations.base import Action, Floats, Orthogonal, Permutation
from eqaudit.representations.fit import GeneratorFit, Pairs, fit_generator
from eqaudit.representations.layer import (
    Channels,
    LayerAction,
    LeftOut,
    Status,
    move_channels,
    with_one_channel_dimension,
)
from eqaudit.representations.offgrid import Extension, best_extension, can_extend, extend
from eqaudit.representations.rule import TRIVIAL_ERROR, Decision, decide, undetermined

__all__ = [
    "TRIVIAL_ERROR",
    "Action",
    "Channels",
    "Decision",
    "Extension",
    "Floats",
    "GeneratorFit",
    "LayerAction",
    "LeftOut",
    "Orthogonal",
    "Pairs",
    "Permutation",
    "Status",
    "best_extension",
    "can_extend",
    "decide",
    "extend",
    "fit_generator",
    "move_channels",
    "undetermined",
    "with_one_channel_dimension",
]
