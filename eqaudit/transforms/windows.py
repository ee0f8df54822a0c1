"""What is left of a square picture when it is turned by any angle: disc window and valid mask."""

import math

import torch

TAPER = 0.2
"""Share of the disc's radius over which the window falls from 1 to 0."""


def disc_window(height: int, width: int, margin: float = 0.0) -> torch.Tensor:
    """Return a smooth disc, (H, W) in float64: 1 inside, a squared cosine to 0 at its rim.

    The rim is the inscribed circle less ``margin`` pixels. Only a picture that vanishes outside of a disc has
    turned copies that compose as the turns do.
    """
    radius = max(min(height, width) / 2 - margin, 1.0)
    edge = (_distances(height, width) / radius - (1 - TAPER)) / TAPER
    return torch.cos(edge.clamp(0, 1) * (math.pi / 2)).square()


def disc_mask(height: int, width: int, margin: float = 0.0) -> torch.Tensor:
    """Return where a turned map is known, (H, W) bool: the inscribed disc less ``margin`` cells."""
    return _distances(height, width) <= min(height, width) / 2 - margin


def _distances(height: int, width: int) -> torch.Tensor:
    rows = torch.arange(height, dtype=torch.float64) - (height - 1) / 2
    columns = torch.arange(width, dtype=torch.float64) - (width - 1) / 2
    return torch.hypot(rows.unsqueeze(1), columns.unsqueeze(0))
