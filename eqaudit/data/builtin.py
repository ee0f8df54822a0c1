"""Square patches of the pictures that come with scikit-image; nothing is downloaded."""

from pathlib import Path

import numpy as np
import skimage.data
from numpy.typing import NDArray
from PIL import Image

from eqaudit.data.base import Shape
from eqaudit.errors import DataError

PATCHES = 256
SHORTEST, LONGEST = 0.25, 0.9  # side of a patch, as a share of the picture's shorter side
DRAWS = 100
GRID = 4  # contrast is judged on every fourth pixel
LEAST_CONTRAST = 12.0  # standard deviation in grey levels: sky and empty glass are drawn again
PICTURES = {
    "photos": ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg", "motorcycle_left.png"),
    "tissue": ("ihc.png", "retina.jpg"),
}
# The retina is a bright disc on black: its inscribed square starts at 0.15 of the side.
MARGINS = {"retina.jpg": 0.16}


class BuiltinSource:
    """Patch ``i`` of a set depends on ``(seed, i)`` only; every picture is used equally often."""

    ready = False
    sized = False

    def __init__(self, name: str, seed: int) -> None:
        self.label = f"builtin:{name}"
        self.notes: set[str] = set()
        self._seed = seed
        self._pictures = [_load(file) for file in PICTURES[name]]
        stems = [Path(file).stem for file in PICTURES[name]]
        patches = sorted((f"{stems[i % len(stems)]}-{i:03d}", i) for i in range(PATCHES))
        self.names = tuple(name for name, _ in patches)
        self._numbers = [number for _, number in patches]

    def shape(self, index: int) -> Shape:
        """Return the patch's own ``(3, side, side)``."""
        side = self.read(index).shape[0]
        return 3, side, side

    def read(self, index: int) -> NDArray[np.uint8]:
        """Return a square ``(side, side, 3)`` patch."""
        number = self._numbers[index]
        generator = np.random.default_rng((self._seed, number))
        picture = self._pictures[number % len(self._pictures)]
        for _ in range(DRAWS):
            patch = _draw(picture, generator)
            if patch[::GRID, ::GRID].std() >= LEAST_CONTRAST:
                break
        return patch


def _draw(picture: NDArray[np.uint8], generator: np.random.Generator) -> NDArray[np.uint8]:
    height, width = picture.shape[:2]
    side = round(min(height, width) * generator.uniform(SHORTEST, LONGEST))
    top = generator.integers(height - side + 1)
    left = generator.integers(width - side + 1)
    return picture[top : top + side, left : left + side]


def _load(file: str) -> NDArray[np.uint8]:
    path = Path(skimage.data.__file__).parent / file
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
    except OSError as exception:
        raise DataError(
            f"the picture {file} of scikit-image cannot be read",
            "reinstall scikit-image, or give --data FOLDER",
        ) from exception
    margin = round(MARGINS.get(file, 0.0) * min(pixels.shape[:2]))
    return pixels[margin : pixels.shape[0] - margin, margin : pixels.shape[1] - margin]
