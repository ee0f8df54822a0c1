"""The Lie derivative of every layer: how fast its equivariance error grows when the image starts to turn.

Of a layer F it is ``d/dt T_-t F(T_t x)`` at t = 0, which is ``J_F(x) A x - A F(x)``: one run of the model in
forward mode along ``A x``, and the generator A on the layer's own grid (Gruver et al. 2023, The Lie
derivative for measuring learned equivariance). A feature without space does not move: A F(x) = 0. Channels of
a finite group have no small turns, so of a layer whose channels turn with the image nothing is said.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import torch

from eqaudit.diagnosis.network import Network
from eqaudit.engine.base import Key, stream
from eqaudit.loader import AuditModel, Feature, with_tangents
from eqaudit.report import LieDerivative
from eqaudit.transforms import disc_mask, disc_window, slope_matrix

BLUR = 2.5
"""Standard deviation, in pixels, of the low-pass filter on the images."""
MARGIN = 2 * BLUR
"""Pixels that the window stays off the edge, and that a map does not count at its rim."""


@dataclass(frozen=True, slots=True)
class Generator:
    """A motion at its start: ``A x`` is the derivative of a moved map.

    ``velocity`` says for rows and columns off the centre, in pixels, how fast content moves down and to the
    right; ``weight`` what a squared residual counts at a squared distance from the centre.
    """

    velocity: Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor | float, torch.Tensor | float]]
    weight: Callable[[torch.Tensor], torch.Tensor]

    def act(self, maps: torch.Tensor, cell: float = 1.0) -> torch.Tensor:
        """Return ``A`` of maps (..., H, W), cells of ``cell`` pixels: per radian of a turn, or per pixel."""
        down, right = self.velocity(*_offsets(maps, cell))
        rows, columns = (slope_matrix(size).to(maps) / cell for size in maps.shape[-2:])
        return -(down * (rows @ maps) + right * (maps @ columns.T))


def _half(squares: torch.Tensor) -> torch.Tensor:
    return squares / 2


# Rows run downwards: a counter-clockwise turn lifts what is on the right.
TURN = Generator(lambda rows, columns: (-columns, rows), torch.ones_like)
# A turn moves a point at a distance r by r a radian: half of its square along each side.
SHIFTS = (Generator(lambda *_: (1.0, 0.0), _half), Generator(lambda *_: (0.0, 1.0), _half))


def band_limited(images: torch.Tensor) -> torch.Tensor:
    """Return images (B, C, H, W) inside a smooth disc, without what is finer than `BLUR`."""
    height, width = images.shape[-2:]
    frequencies = torch.hypot(torch.fft.fftfreq(height).unsqueeze(1), torch.fft.rfftfreq(width).unsqueeze(0))
    kept = torch.exp(-2 * (math.pi * BLUR * frequencies) ** 2).to(images.device)
    windowed = images.double() * disc_window(height, width, MARGIN).to(images.device)
    limited: torch.Tensor = torch.fft.irfft2(torch.fft.rfft2(windowed) * kept, s=(height, width))
    return limited.to(images)


def lie_derivatives(network: Network) -> dict[Key, LieDerivative]:
    """Return the Lie derivatives of the steps and of the judged output, where they have one.

    Raises
    ------
    ModelError
        An operator of the model has no forward mode.
    """
    images = band_limited(network.images)
    steps = {**network.steps, network.output.key: network.output}
    squares: defaultdict[Key, list[float]] = defaultdict(list)

    def listen(model: AuditModel, receive: Callable[[Key, torch.Tensor], None]) -> None:
        def pass_on(key: Key, feature: Feature) -> None:
            if feature.value is not None and key in steps and steps[key].action is None:
                receive(key, steps[key].layout.space_last(feature.value))

        stream(model, images, network.setting, pass_on)

    still: dict[Key, torch.Tensor] = {}
    listen(network.model, lambda key, value: still.update({key: value.clone()}))
    for generator in (TURN, *SHIFTS):

        def compare(key: Key, tangent: torch.Tensor, generator: Generator = generator) -> None:
            if steps[key].layout.spatial:
                cell = network.setting.space.cells.get(key, 1.0)
                square = _square_of_maps(generator, still[key], tangent, cell)
            else:
                square = _square_of_vectors(generator, still[key], tangent, images)
            squares[key].append(square)

        listen(with_tangents(network.model, generator.act), compare)
    return {
        key: LieDerivative(math.sqrt(turn), math.sqrt(down + right))
        for key, (turn, down, right) in squares.items()
        if math.isfinite(turn + down + right)
    }


def _square_of_maps(generator: Generator, still: torch.Tensor, tangent: torch.Tensor, cell: float) -> float:
    """Return |J A x - A F|^2 / |F|^2 of maps (B, C..., H, W) inside the disc; nan of zeros."""
    rows, columns = _offsets(still, cell)
    mask = disc_mask(still.shape[-2], still.shape[-1], MARGIN / cell).to(still)
    residual = (tangent - generator.act(still, cell)).square() * generator.weight(rows**2 + columns**2)
    return float((residual * mask).sum() / (still.square() * mask).sum())


def _square_of_vectors(
    generator: Generator, still: torch.Tensor, tangent: torch.Tensor, images: torch.Tensor
) -> float:
    """Return |J A x|^2 / |F|^2 of vectors, weighted as the mean over the disc of the images; nan of zeros."""
    radius = min(images.shape[-2:]) / 2 - MARGIN
    weight = generator.weight(still.new_tensor(radius**2 / 2))
    return float(tangent.square().sum() * weight / still.square().sum())


def _offsets(maps: torch.Tensor, cell: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return how far rows (H, 1) and columns (W,) are below and right of the centre, in pixels."""
    rows, columns = (cell * (torch.arange(size).to(maps) - (size - 1) / 2) for size in maps.shape[-2:])
    return rows.unsqueeze(1), columns
