"""Code that cannot be imported: the reason is named where it is a known one, with the way out."""

import json
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from eqaudit.errors import ExitCode, ModelError
from eqaudit.failures import explain
from eqaudit.plan import PythonObject
from eqaudit.pythonspec import import_object

NET = "\n\ndef make():\n    import torch\n    return torch.nn.Conv2d(3, 2, 3, padding=1)\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a folder of code, started in, whose modules are forgotten afterwards."""
    (tmp_path / "code").mkdir()
    monkeypatch.chdir(tmp_path / "code")
    path, modules = list(sys.path), set(sys.modules)
    yield tmp_path / "code"
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


@pytest.fixture
def installed(folder: Path) -> Path:
    """Return a folder where packages are installed, on the path."""
    place = folder.parent / "lib" / "site-packages"
    place.mkdir(parents=True)
    sys.path.append(str(place))
    return place


@pytest.fixture
def refusal(folder: Path) -> Callable[[str], str]:
    """Return a function that imports a source text and returns message and hint of the error."""

    def run(source: str, name: str = "net.py") -> str:
        (folder / name).write_text(textwrap.dedent(source) + NET)
        spec = PythonObject(str(folder / name), "make", is_file=True)
        with pytest.raises(ModelError) as raised:
            import_object(spec, ModelError)
        return f"{raised.value.message}\n{raised.value.hint}"

    return run


RAISED = {
    "RuntimeError('operator torchvision::nms does not exist')": "torch and torchvision do not match",
    'RuntimeError("Couldn\'t load custom C++ ops")': "torch and torchvision do not",
    "ImportError('numpy.core.multiarray failed to import')": "numpy<2",
    "AttributeError('_ARRAY_API not found')": "numpy<2",
    "ValueError('numpy.dtype size changed')": "compiled for another NumPy",
    "ImportError('libGL.so.1: cannot open shared object file: No such file')": "opencv-python-headless",
    "ImportError('libcudart.so.12: cannot open shared object file: No such file')": "a CUDA that is not here",
    "OSError('libsndfile.so: cannot open shared object file: No such file')": "install the system package",
    "ImportError('/x/_C.so: undefined symbol: _ZN3c10')": "compiled for another torch or Python",
    "AssertionError('Torch not compiled with CUDA enabled')": "make the model on the CPU",
}


@pytest.mark.parametrize("raised", RAISED)
def test_a_known_reason_has_its_way_out(raised: str, refusal: Callable[..., str]) -> None:
    """What the interpreter says of a broken installation is followed by what to do."""
    text = refusal(f"raise {raised}")
    assert RAISED[raised] in text
    assert raised.partition("(")[0] in text


def test_the_reason_is_found_behind_other_errors(refusal: Callable[..., str]) -> None:
    """Libraries wrap the errors of their imports: both are said."""
    text = refusal("""
        try:
            raise ImportError("libGL.so.1: cannot open shared object file: No such file")
        except ImportError as error:
            raise RuntimeError("Failed to import the models") from error
    """)
    assert "RuntimeError: Failed to import the models (ImportError: libGL.so.1: cannot open" in text
    assert "opencv-python-headless" in text
    text = refusal(
        """
        try:
            import no_such_thing
        except ImportError:
            raise ValueError("something else") from None
    """,
        "other.py",
    )
    assert "run that code by itself" in text


def test_a_missing_package_is_named(refusal: Callable[..., str]) -> None:
    """With the name that pip knows it by; whether it is a package is left to the reader."""
    assert "pip install monai_nets, if the code means that package" in refusal("import monai_nets.networks")
    if "cv2" not in sys.modules:
        assert "pip install opencv-python-headless" in explain_missing("cv2")


def explain_missing(name: str) -> str:
    """Return the way out of a missing module."""
    found = explain(ModuleNotFoundError(f"No module named '{name}'", name=name), [])
    assert found is not None
    return found[1]


def test_a_module_of_the_user_is_no_package(folder: Path, refusal: Callable[..., str]) -> None:
    """What lies in a folder above is to be put on the path, not to be installed."""
    (folder.parent / "project_nets").mkdir()
    (folder.parent / "project_nets" / "parts.py").touch()
    (folder.parent / "project_parts.py").touch()
    for number, name in enumerate(("project_nets.parts", "project_parts")):
        text = refusal(f"import {name}", f"net{number}.py")
        assert f"set PYTHONPATH={folder.parent}" in text
        assert "pip install" not in text
    # A clone of a package is not the package.
    (folder.parent / "cloned").mkdir()
    (folder.parent / "cloned" / "setup.py").touch()
    assert "pip install cloned" in refusal("import cloned", "clone.py")


def test_a_file_called_like_a_package_is_found(folder: Path, refusal: Callable[..., str]) -> None:
    """A file of the user stands in for a package that is not installed."""
    text = refusal("from some_networks.nets import Net", "some_networks.py")
    assert f"{folder / 'some_networks'}.py stands in for the package some_networks" in text
    text = refusal("from some_models import create_model", "some_models.py")
    assert "rename a file of yours that is called like a library" in text


def test_another_version_is_named(installed: Path, folder: Path, refusal: Callable[..., str]) -> None:
    """What an installed package does not have is a matter of its version."""
    (installed / "somelib").mkdir()
    (installed / "somelib" / "__init__.py").touch()
    metadata = installed / "somelib-1.2.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: somelib\nVersion: 1.2\n")
    text = refusal("from somelib import Thing", "one.py")
    assert "somelib 1.2 has no somelib.Thing: install the version that the code was written for" in text
    assert "somelib 1.2 has no somelib.nets" in refusal("import somelib.nets", "two.py")
    assert "Python 3." in refusal("from collections import Mapping", "three.py")
    (folder / "my_parts.py").write_text("x = 1")
    assert f"look for Thing in {folder / 'my_parts.py'}" in refusal("from my_parts import Thing", "four.py")


def test_a_module_of_a_package_is_given_by_its_name(refusal: Callable[..., str]) -> None:
    """A file inside a package cannot be run alone."""
    assert "package.module:factory" in refusal("from . import parts")


def test_reasons_in_a_circle_end() -> None:
    """Exceptions may name each other as their reason."""
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert explain(first, []) is None


def test_the_command_says_the_reason(
    folder: Path, eqaudit: Callable[..., Any], told: Callable[..., str]
) -> None:
    """One line and the way out, also from inside the factory; with PYTHONPATH the audit passes."""
    (folder.parent / "project_parts.py").write_text("channels = 2")
    (folder / "net.py").write_text("def make():\n    import project_parts" + NET.replace("def make():\n", ""))
    ended = eqaudit("check", "net.py:make", cwd=folder)
    assert ended.returncode == ExitCode.CANNOT_RUN
    assert "ModuleNotFoundError: No module named 'project_parts'" in told(ended)
    assert f"PYTHONPATH={folder.parent}" in "".join(told(ended).split("\n"))
    options = ("--samples", "8", "--input-shape", "3,16,16", "--json", "-", "--no-gate")
    path = {"PYTHONPATH": f"{Path(__file__).parents[1]}:{folder.parent}"}
    ended = eqaudit("check", "net.py:make", *options, cwd=folder, env=path)
    assert json.loads(ended.stdout)["model"]["spec"] == "net.py:make"
