"""Why code of the user fails to be imported, where the reason is a known one, and the way out."""

import importlib.util
import re
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

_KNOWN: Final = {
    "torch and torchvision do not match: install the pair of one release, both from the same index": (
        r"operator torchvision::\w+ does not exist",
        r"Couldn't load custom C\+\+ ops",
        r"PyTorch and torchvision were compiled with different CUDA",
    ),
    "a package was compiled for another NumPy: update that package, or pip install 'numpy<2'": (
        r"compiled using NumPy 1",
        r"_ARRAY_API not found",
        r"numpy\.core\.multiarray failed to import",
        r"numpy\.dtype size changed",
        r"Numpy is not available",
    ),
    "OpenCV looks for a screen: pip install opencv-python-headless in place of opencv-python": (
        r"lib(GL|EGL|SM|ICE|Xext|Xrender|gthread)\b\S*: cannot open shared object file",
    ),
    "a package was compiled for a CUDA that is not here: install its build for this torch": (
        r"lib(cu|nv)\w+\.so\S*: cannot open shared object file",
    ),
    "a system library is missing: install the system package that has it": (
        r"cannot open shared object file",
    ),
    "a package was compiled for another torch or Python: install its build for this one": (
        r"undefined symbol",
    ),
    "it is part of a package: give package.module:factory, from the folder that holds the package": (
        r"attempted relative import",
    ),
    "rename a file of yours that is called like a library, or break the circle of imports": (
        r"partially initialized module",
    ),
    "let the code make the model on the CPU; --device cuda moves it": (
        r"Torch not compiled with CUDA",
        r"No CUDA GPUs are available",
        r"Found no NVIDIA driver",
        r"deserialize object on a CUDA device",
    ),
}
_PACKAGES: Final = {
    "PIL": "pillow",
    "attr": "attrs",
    "cv2": "opencv-python-headless",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
"""Modules whose package has another name."""
_INSTALLED: Final = frozenset({"site-packages", "dist-packages"})


def explain(error: BaseException, folders: Sequence[Path]) -> tuple[BaseException, str] | None:
    """Return the exception behind an error whose reason is known, and the way out; None where none is.

    Parameters
    ----------
    error
        Raised while code of the user was imported or called.
    folders
        Where that code lies: modules there and in the folders above are the user's own.
    """
    for cause in _chain(error):
        hint = _import_hint(cause, folders) if isinstance(cause, ImportError) else None
        hint = hint or _known_hint(f"{type(cause).__name__}: {cause}")
        if hint:
            return cause, hint
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    following: BaseException | None = error
    seen: set[int] = set()
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        yield following
        following = following.__cause__ or (None if following.__suppress_context__ else following.__context__)


def _known_hint(text: str) -> str | None:
    return next((hint for hint, patterns in _KNOWN.items() if re.search("|".join(patterns), text)), None)


def _import_hint(error: ImportError, folders: Sequence[Path]) -> str | None:
    name = error.name or ""
    if isinstance(error, ModuleNotFoundError) and name:
        return _missing_hint(name, folders)
    found = re.match(r"cannot import name '(\w+)' from '", str(error))
    if not found or not name:
        return None
    if _is_library(name, error.path):
        return _version_hint(f"{name}.{found[1]}")
    return f"look for {found[1]} in {error.path}"


def _missing_hint(name: str, folders: Sequence[Path]) -> str:
    top = name.partition(".")[0]
    try:
        installed = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        installed = None
    if installed and _is_library(top, installed.origin):
        return _version_hint(name)
    above = [place for folder in folders for place in (folder, *folder.parents)]
    home = next((place for place in above if _holds(place, top)), None)
    if home and name != top and (home / f"{top}.py").is_file():
        return f"{home / top}.py stands in for the package {top}: rename it, or install {top}"
    if home:
        return f"{top} lies in {home}: set PYTHONPATH={home}"
    package = _PACKAGES.get(top, top)
    return f"pip install {package}, if the code means that package; for code of yours set PYTHONPATH=FOLDER"


def _version_hint(name: str) -> str:
    top = name.partition(".")[0]
    try:
        label = f"{top} {version(_PACKAGES.get(top, top))}"
    except PackageNotFoundError:
        label = f"Python {sys.version_info[0]}.{sys.version_info[1]}" if _is_standard(top) else f"this {top}"
    return f"{label} has no {name}: install the version that the code was written for"


def _holds(place: Path, module: str) -> bool:
    folder = place / module
    if (place / f"{module}.py").is_file() or (folder / "__init__.py").is_file():
        return True
    # The folder of a clone is called like the package inside it.
    return (
        any(folder.glob("*.py"))
        and not any(folder.glob("setup.py"))
        and not any(folder.glob("pyproject.toml"))
    )


def _is_library(name: str, origin: str | None) -> bool:
    installed = origin is not None and bool(_INSTALLED & set(Path(origin).parts))
    return installed or _is_standard(name.partition(".")[0])


def _is_standard(top: str) -> bool:
    return top in sys.stdlib_module_names
