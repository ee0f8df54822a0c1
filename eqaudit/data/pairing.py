"""Which mask file belongs to which image: the one of the same name without suffix."""

from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Sequence
from pathlib import PurePosixPath

from eqaudit.errors import DataError


def pair(names: Sequence[str], needed: Iterable[int], masks: Sequence[str], folder: str) -> dict[int, int]:
    """Return the index of the mask of each needed image.

    It is the file whose relative path without suffix is that of the image, else the only one with the same
    stem in any folder that is no other image's by its path. What it is depends on all ``names``, not on which
    of them are needed.

    Raises
    ------
    DataError
        There is no such mask, or two, or two images would share it; all are named.
    """
    images_by_path, masks_by_path = _group(names, _path), _group(masks, _path)
    images_by_stem = _group(names, _stem, without=masks_by_path)
    masks_by_stem = _group(masks, _stem, without=images_by_path)
    pairs = {}
    for index in needed:
        name = names[index]
        found, rivals = masks_by_path.get(_path(name), []), images_by_path[_path(name)]
        if not found:
            found, rivals = masks_by_stem.get(_stem(name), []), images_by_stem.get(_stem(name), [])
        if not found:
            raise DataError(
                f"no mask for {name} in {folder}: expected {_path(name)} with the suffix of an image",
                "masks are image files, named as their images but for the suffix",
            )
        if len(found) > 1:
            both = " and ".join(masks[mask] for mask in found[:2])
            raise DataError(f"two masks for {name} in {folder}: {both}", "leave only one of them there")
        if len(rivals) > 1:
            both = " and ".join(names[image] for image in rivals[:2])
            raise DataError(
                f"{both} would share the mask {folder}/{masks[found[0]]}",
                "give each image a name (without suffix) and a mask of its own",
            )
        pairs[index] = found[0]
    return pairs


def _group(
    names: Sequence[str], key: Callable[[str], str], without: Container[str] = ()
) -> dict[str, list[int]]:
    """Return the places of names by key, leaving out those whose path is taken already."""
    groups: dict[str, list[int]] = defaultdict(list)
    for index, name in enumerate(names):
        if _path(name) not in without:
            groups[key(name)].append(index)
    return groups


def _path(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))


def _stem(name: str) -> str:
    return PurePosixPath(name).stem
