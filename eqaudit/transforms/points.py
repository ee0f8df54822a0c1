"""Cells of a map at which turned features are compared: few, spread evenly, and closed under exact moves."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from eqaudit.groups import Element, Group
from eqaudit.transforms.exact import move_exactly


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """Cells of maps of one size, by their number in reading order, (P,).

    With a cell come all cells to which exact elements move it, so that the values of a map that is turned
    exactly are those of the map in another order.
    """

    height: int
    width: int
    places: torch.Tensor
    _orders: dict[Element, torch.Tensor] = field(default_factory=dict)

    def of(self, maps: torch.Tensor) -> torch.Tensor:
        """Return the values of maps (..., H, W) at the points, (..., P)."""
        return maps.flatten(-2).index_select(-1, self.places)

    def moved(self, values: torch.Tensor, element: Element) -> torch.Tensor:
        """Return the values (..., P) of maps that were moved by an exact element, from those of the maps."""
        if element not in self._orders:
            order = torch.full((self.height * self.width,), -1, device=self.places.device)
            order[self.places] = torch.arange(len(self.places), device=self.places.device)
            whole = order.view(self.height, self.width)
            moved = move_exactly(whole, element.quarter_turns, mirrored=element.mirrored)
            self._orders[element] = moved.flatten()[self.places]
        return values.index_select(-1, self._orders[element])


def choose_points(mask: torch.Tensor, count: int | None, seed: int) -> Points:
    """Choose about ``count`` cells of a mask (H, W), or all of them for None.

    The mask must look the same after any exact move. One orbit of cells is drawn from each of equal stretches
    of all orbits, in reading order, so that every cell is as likely as any other and no region goes without.
    """
    height, width = mask.shape
    cells = torch.arange(height * width, device=mask.device).view(height, width)
    group = Group.named("D4" if height == width else "D2")
    orbits = torch.stack([move_exactly(cells, g.quarter_turns, mirrored=g.mirrored) for g in group.elements])
    first = orbits.amin(dim=0)
    heads = cells[(first == cells) & mask]
    if count is not None and count < int(mask.sum()):
        wanted = -(-count // len(group.elements))
        edges = torch.linspace(0, len(heads), wanted + 1, dtype=torch.float64)
        random = torch.rand(wanted, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        drawn = (edges[:-1] + random * edges.diff()).long().clamp_max(len(heads) - 1)
        heads = heads[torch.unique(drawn).to(heads.device)]
    places = torch.unique(orbits.flatten(1)[:, heads])
    return Points(height, width, places)
