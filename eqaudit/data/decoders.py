"""Which function reads which kind of image file, as a picture or as a mask."""

from collections.abc import Mapping
from functools import partial

from eqaudit.data.folder import Decoder
from eqaudit.data.listing import IMAGES
from eqaudit.data.pictures import open_mask, open_picture
from eqaudit.data.tiff import open_tiff

PICTURES: Mapping[str, Decoder] = dict.fromkeys(IMAGES, open_picture) | {
    "TIFF": partial(open_tiff, by_pillow=partial(open_picture, formats=("TIFF",)))
}
MASKS: Mapping[str, Decoder] = dict.fromkeys(IMAGES, open_mask) | {
    "TIFF": partial(open_tiff, by_pillow=partial(open_mask, formats=("TIFF",)))
}
