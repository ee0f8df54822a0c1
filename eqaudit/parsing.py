"""What the command line and Python say, as text and numbers, read into the parts of a plan."""

import ast
import math
import re
from fractions import Fraction
from pathlib import Path
from typing import Any, cast, get_args

import msgspec

from eqaudit.errors import DataError, ModelError, UsageError
from eqaudit.groups import Group
from eqaudit.plan import (
    AUTO,
    AuditPlan,
    BuiltinData,
    DataSpec,
    FileModel,
    LayoutRule,
    ModelSpec,
    PathData,
    Precision,
    PythonObject,
    WeightsFile,
)

IDENTIFIER = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*"
BUILTIN_SETS = ("photos", "tissue")
LARGEST_ANGLE = 360
LARGEST_BATCH = 65_536
MOST_ANGLES = 1_440


def parse_model(text: str, arguments: list[str]) -> ModelSpec:
    """Read a MODEL argument: ``FILE``, ``package.module:factory`` or ``path/to/file.py:factory``.

    Raises
    ------
    UsageError
        The text is empty or names no factory in its file or module, or ``--arg`` is given for a file or
        is not ``name=value``.
    ModelError
        The text names a file that does not exist.
    """
    if not text:
        raise UsageError("MODEL is empty", "give a file, package.module:factory, or path/to/file.py:factory")
    if not exists(text, "MODEL"):
        found = _parse_python(text, _parse_arguments(arguments))
        if found is not None:
            if found.is_file and not Path(found.source).is_file():
                raise ModelError(f"no such file: {found.source}", "check the path before the colon")
            return found
        source, colon, attribute = text.rpartition(":")
        if colon and (source.endswith(".py") or not source or not attribute):
            raise UsageError(
                f"{text} names no factory",
                "MODEL is a file, package.module:factory, or path/to/file.py:factory",
            )
        raise ModelError(
            f"no such model file: {text}",
            "MODEL is a file, package.module:factory, or path/to/file.py:factory",
        )
    if text.endswith(".py"):
        raise UsageError(
            f"{text} is Python source: say which factory to call", f"for example {text}:make_model"
        )
    if arguments:
        raise UsageError("--arg goes with a Python factory, and MODEL is a file", "leave --arg out")
    return FileModel(text)


def parse_weights(model: ModelSpec, path: str | None, *, strict: bool) -> ModelSpec:
    """Read the ``--weights`` and ``--no-strict-weights`` of a model.

    Raises
    ------
    UsageError
        The path is empty or missing where it is needed, or the model is a file.
    ModelError
        The file of weights does not exist.
    """
    if path is None:
        if not strict:
            raise UsageError("--no-strict-weights goes with --weights", "add --weights FILE")
        return model
    if not path:
        raise UsageError("--weights is empty", "give a .pt, .pth or .safetensors file")
    if not isinstance(model, PythonObject):
        raise UsageError(
            "--weights goes with a Python factory, and MODEL is a file",
            "give the code: eqaudit check path/to/file.py:factory --weights FILE",
        )
    if not exists(path, "--weights"):
        raise ModelError(f"no such file of weights: {path}", "check the path after --weights")
    return msgspec.structs.replace(model, weights=WeightsFile(path, strict))


def parse_precision(text: str) -> Precision:
    """Check the name of a floating type; raises UsageError for one that no model is run in."""
    for known in get_args(Precision):
        if text == known:
            return cast(Precision, known)
    raise UsageError(f"no precision {text!r}", f"there are {', '.join(get_args(Precision))}")


def parse_data(text: str, option: str = "--data") -> DataSpec:
    """Read where images are: ``builtin:NAME``, a path, ``FILE.npz:ARRAY``, or a Python callable.

    ``option`` is what an error calls it.

    Raises
    ------
    UsageError
        The text is empty, or a built-in set of that name does not exist.
    DataError
        The path does not exist.
    """
    if not text:
        raise UsageError(f"{option} is empty", "leave it out for builtin:photos")
    if text.startswith("builtin:"):
        name = text.removeprefix("builtin:")
        if name not in BUILTIN_SETS:
            raise UsageError(f"no built-in images {text!r}", "there are builtin:photos and builtin:tissue")
        return BuiltinData(name)
    if exists(text, option):
        return PathData(text)
    path, _, array = text.rpartition(":")
    if array and Path(path).is_file() and not path.endswith(".py"):
        return PathData(path, array)
    found = _parse_python(text, {})
    if found is not None and (not found.is_file or Path(found.source).is_file()):
        return found
    raise DataError(
        f"no such data: {text}",
        f"{option} is a folder, image, .npy or .npz file, builtin:photos, builtin:tissue or file.py:function",
    )


def exists(path: str, option: str) -> bool:
    """Return whether there is something at a path; raises UsageError for text that can be no path."""
    if "\0" in path:
        raise UsageError(f"{option} {path[:80]!r} is no path: it holds a NUL", "leave the NUL out")
    try:
        return Path(path).exists()
    except OSError as error:
        raise UsageError(
            f"{option} {path[:80]!r} is no path: {error.strerror}", "give a shorter one"
        ) from error


def _parse_python(text: str, arguments: dict[str, Any]) -> PythonObject | None:
    source, _, attribute = text.rpartition(":")
    if not re.fullmatch(IDENTIFIER, attribute):
        return None
    if source.endswith(".py"):
        return PythonObject(source, attribute, is_file=True, arguments=arguments)
    if re.fullmatch(IDENTIFIER, source):
        return PythonObject(source, attribute, is_file=False, arguments=arguments)
    return None


def _parse_arguments(arguments: list[str]) -> dict[str, Any]:
    parsed: dict[str, Any] = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(f"--arg {argument!r} is not name=value", "for example --arg width=32")
        try:
            parsed[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            parsed[name] = value
    return parsed


def parse_group(text: str) -> str:
    """Check a group's name, return it in upper case, or ``auto``; raises UsageError for no such group."""
    return AUTO if text.lower() == AUTO else Group.named(text.upper()).name


def exact_group(name: str) -> str:
    """Return the largest subgroup of a group, or of all that ``auto`` tries, that moves pixels to pixels.

    Examples
    --------
    >>> exact_group("C8"), exact_group("D6"), exact_group("C3")
    ('C4', 'D2', 'C1')
    """
    group = Group.named("D4" if name == AUTO else name)
    return Group(math.gcd(group.rotations, 4), group.mirror).name


def require_exact_elements(group: str) -> None:
    """Make sure that layers can be looked at one by one: resampling would be an error of every layer.

    Raises
    ------
    UsageError
        No element of the group moves pixels to pixels.
    """
    if exact_group(group) == "C1":
        raise UsageError(
            f"a diagnosis needs turns by 90 or 180 degrees or mirrors, and {group} has none",
            "give another group, as in --group C4",
        )


def parse_layout(text: str) -> LayoutRule:
    """Read ``PATTERN=LETTERS``, as in ``blocks.*=BND``.

    Raises
    ------
    UsageError
        There is no ``=``, or the letters are no layout.
    """
    pattern, equals, letters = text.rpartition("=")
    if not equals or not pattern:
        raise UsageError(f"--layout {text!r} is not PATTERN=LETTERS", "for example --layout 'blocks.*=BND'")
    problem = letters_problem(letters)
    if problem:
        raise UsageError(
            f"--layout {text!r}: {problem}",
            "B is the batch, H and W are space, or N counts tokens; any other letter is a channel dimension",
        )
    return LayoutRule(pattern, letters)


def letters_problem(letters: str) -> str | None:
    """Say why letters name no layout, whatever the shape; None where they do.

    Examples
    --------
    >>> letters_problem("BCWH")
    'expected H and W side by side, H first, got BCWH'
    """
    if not re.fullmatch("[A-Z]+", letters):
        return f"expected capital letters such as BCHW, got {letters!r}"
    if letters[0] != "B":
        return f"expected B, the batch, first, got {letters}"
    repeated = [letter for letter in letters if letters.count(letter) > 1]
    if repeated:
        return f"expected each letter once, got {repeated[0]} {letters.count(repeated[0])} times"
    if ("H" in letters or "W" in letters) and "HW" not in letters:
        return f"expected H and W side by side, H first, got {letters}"
    if "N" in letters and "H" in letters:
        return f"expected either N, the tokens, or H and W, got {letters}"
    return None


def parse_angles(text: str) -> tuple[Fraction, ...]:
    """Read ``START:STOP:STEP`` (STOP included when a step meets it) or angles in degrees with commas between.

    Raises
    ------
    UsageError
        A part is no number from -360 to 360, the step leads nowhere, or there are more than 1,440 angles.

    Examples
    --------
    >>> [str(angle) for angle in parse_angles("0:45:22.5")]
    ['0', '45/2', '45']
    """
    if ":" in text:
        angles = _angle_range(text)
    else:
        angles = tuple(dict.fromkeys(_angle(text, part) for part in text.split(",")))
    _check_count(text, len(angles))
    return angles


def _check_count(text: str, count: int) -> None:
    if count > MOST_ANGLES:
        raise _bad_angles(text, f"gives {count:,} angles, at most {MOST_ANGLES:,}")


def _angle_range(text: str) -> tuple[Fraction, ...]:
    parts = [_angle(text, part) for part in text.split(":")]
    if len(parts) != 3:  # noqa: PLR2004 - start, stop, step
        raise _bad_angles(text, "is no START:STOP:STEP")
    start, stop, step = parts
    if step <= 0 or stop < start:
        raise _bad_angles(text, "is an empty range")
    count = int((stop - start) / step) + 1
    _check_count(text, count)
    return tuple(start + step * place for place in range(count))


def _angle(text: str, part: str) -> Fraction:
    if not re.fullmatch(r"\s*[+-]?\d{0,3}(\.\d{0,6})?\s*", part) or not re.search(r"\d", part):
        raise _bad_angles(text, f"holds {part.strip()!r}, which is no angle")
    angle = Fraction(part.strip())
    if abs(angle) > LARGEST_ANGLE:
        raise _bad_angles(text, f"holds {part.strip()}, beyond {LARGEST_ANGLE} degrees")
    return angle


def _bad_angles(text: str, problem: str) -> UsageError:
    return UsageError(f"--angles {text!r} {problem}", "for example --angles 0:360:5, or --angles 0,45,90")


def parse_batch_size(text: object) -> int:
    """Read a number of images, or ``auto``, which is 0; raises UsageError for anything else."""
    said = str(text).strip()
    if said == AUTO:
        return 0
    if not re.fullmatch(r"\d{1,5}", said) or not 0 < int(said) <= LARGEST_BATCH:
        raise UsageError(
            f"--batch-size {said!r} is no number from 1 to {LARGEST_BATCH}",
            "for example --batch-size 16, or auto",
        )
    return int(said)


def parse_integers(option: str, text: str, count: int) -> tuple[int, ...]:
    """Read ``count`` positive integers with commas between: a shape or a size in pixels."""
    parts = text.replace("x", ",").split(",")
    if len(parts) != count or not all(re.fullmatch(r"[1-9]\d{0,5}", part.strip()) for part in parts):
        example = ",".join(["3", "224", "224"][-count:])
        raise UsageError(
            f"{option} {text!r} is not {count} positive integers", f"for example {option} {example}"
        )
    return tuple(int(part) for part in parts)


def parse_channel_values(option: str, text: str) -> tuple[float, ...]:
    """Read one finite number, or one per channel with commas between; ``std`` must be positive."""
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if not values or not all(math.isfinite(value) for value in values):
        raise UsageError(
            f"{option} {text!r} is not a list of finite numbers", f"for example {option} 0.485,0.456,0.406"
        )
    if option == "--std" and min(values) <= 0:
        raise UsageError(f"--std {text!r} must be positive", "images are divided by it")
    return values


def parse_limit(option: str, value: float, largest: float = math.inf) -> float:
    """Check a limit: finite, from 0 (with ``nan`` every comparison would be false)."""
    if not math.isfinite(value) or not 0 <= value <= largest:
        upper = "0 or larger" if largest == math.inf else f"from 0 to {largest:g}"
        raise UsageError(f"{option} {value} is no limit", f"give a finite number, {upper}")
    return value


def parse_device(text: str, option: str = "--device") -> str:
    """Check a device's name: ``cpu``, ``cuda`` or ``cuda:N``."""
    if not re.fullmatch(r"cpu|cuda(:\d{1,3})?", text):
        raise UsageError(f"{option} {text!r} is no device", "give cpu, cuda or cuda:N")
    return text


def require_types(plan: AuditPlan) -> None:
    """Make sure that each value of a plan that was made in Python is one of its type.

    Raises
    ------
    UsageError
        One is not, as ``taps="all"``.
    """
    try:
        values = msgspec.to_builtins(plan, enc_hook=lambda value: getattr(value, "tolist", value.__str__)())
        msgspec.convert(values, AuditPlan, dec_hook=lambda kind, text: kind(text))
    except msgspec.ValidationError as error:
        said, _, place = str(error).partition(" - at `$.")
        raise UsageError(f"{place.rstrip('`') or 'the audit'}: {said}", "see help(eqaudit.audit)") from error


def parse_optional_limit(option: str, value: float | None, largest: float = math.inf) -> float | None:
    """Check a limit if it was given."""
    return None if value is None else parse_limit(option, value, largest)
