"""Cells of a map at which turned features are compared: few, spread evenly, and closed under exact moves."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from eqaudit.groups import IDENTITY, Element, Group
from eqaudit.transforms.exact import move_exactly


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """Cells of maps of one size, by their number in reading order, (P,).

    With a cell come all cells to which exact elements move it, so that a map that is moved exactly has the
    values of the map, at other points.
    """

    height: int
    width: int
    places: torch.Tensor
    _moved: dict[Element, torch.Tensor] = field(default_factory=dict)

    def of(self, maps: torch.Tensor, element: Element = IDENTITY) -> torch.Tensor:
        """Return the values of maps (..., H, W) where an exact element moves the points to, (..., P).

        Of maps that were moved by that element these are the values that they had at the points before.
        """
        if element not in self._moved:
            cells = torch.arange(self.height * self.width, device=self.places.device)
            back = ~element
            whole = cells.view(self.height, self.width)
            found = move_exactly(whole, back.quarter_turns, mirrored=back.mirrored)
            self._moved[element] = found.flatten()[self.places]
        rows, places = maps.flatten(-2), self._moved[element]
        # Three times as fast as selecting an index where maps are small.
        return rows.gather(-1, places.expand(*rows.shape[:-1], len(places)))


def choose_points(mask: torch.Tensor, count: int | None, seed: int) -> Points:
    """Choose about ``count`` cells of a mask (H, W), or all of them for None.

    The mask must look the same after any exact move. One orbit of cells is drawn from each of equal stretches
    of all orbits, from the centre outwards: each cell is as likely as any other, and each ring has its share.
    """
    height, width = mask.shape
    cells = torch.arange(height * width, device=mask.device).view(height, width)
    group = Group.named("D4" if height == width else "D2")
    orbits = torch.stack([move_exactly(cells, g.quarter_turns, mirrored=g.mirrored) for g in group.elements])
    first = orbits.amin(dim=0)
    heads = cells[(first == cells) & mask]
    down, right = (heads // width - (height - 1) / 2), (heads % width - (width - 1) / 2)
    heads = heads[torch.argsort(down.square() + right.square(), stable=True)]
    if count is not None and count < int(mask.sum()):
        wanted = -(-count // len(group.elements))
        edges = torch.linspace(0, len(heads), wanted + 1, dtype=torch.float64)
        random = torch.rand(wanted, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        drawn = (edges[:-1] + random * edges.diff()).long().clamp_max(len(heads) - 1)
        heads = heads[torch.unique(drawn).to(heads.device)]
    places = torch.unique(orbits.flatten(1)[:, heads])
    return Points(height, width, places)
