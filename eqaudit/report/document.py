"""The report as a whole, to and from JSON."""

import json
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

import msgspec

from eqaudit.errors import DataError
from eqaudit.report.base import Record
from eqaudit.report.context import Determinism, GroupRecord, Inputs, Model, Resampling, Tool
from eqaudit.report.diagnosis import Diagnosis
from eqaudit.report.drawn import ActionPicture, Features, Panel
from eqaudit.report.judged import Gate, Verdict
from eqaudit.report.layers import Layer, Output
from eqaudit.report.tasks import Dense, Embedding, PerImage, Predictions, Segmentation

SCHEMA = "eqaudit.report/1"
SavedT = TypeVar("SavedT", bound=Record)


class Report(Record, frozen=True, kw_only=True):
    """One audit. See ``report.schema.json`` beside this package."""

    schema: str = SCHEMA
    kind: Literal["check", "sweep"] = "check"
    tool: Tool
    model: Model
    inputs: Inputs
    group: GroupRecord
    layers: list[Layer]
    outputs: list[Output]
    predictions: Predictions | None = None
    segmentation: Segmentation | None = None
    dense: Dense | None = None
    embedding: Embedding | None = None
    resampling: Resampling | None = None
    per_image: PerImage | None
    determinism: Determinism
    float64_images: int
    warnings: list[str]
    verdict: Verdict | None = None
    gate: Gate | None = None
    diagnose: Diagnosis | None = None

    def __post_init__(self) -> None:
        """Refuse a report without a judged output, or with several."""
        if sum(output.gating for output in self.outputs) != 1:
            raise ValueError("one of its outputs must be the judged one ('gating')")

    @property
    def gating_output(self) -> Output:
        """The output tensor that the gate judges."""
        return next(output for output in self.outputs if output.gating)


class Outcome(Record, frozen=True):
    """One named check: its judged report, or the message of the error that kept it from running."""

    name: str
    report: Report | None
    error: str = ""


class Audited(Record, frozen=True):
    """What an audit gives: the report, and what can be drawn only by whoever has the images and the model.

    ``panel`` is the worst case of a sweep; ``actions`` are those of layers whose channels turn; ``features``
    are there where they were asked for.
    """

    report: Report
    panel: Panel | None = None
    actions: list[ActionPicture] = []
    features: Features | None = None


def describe_shape(shape: Sequence[int] | None) -> str:
    """Write a shape as 3x224x224; a dash when there is none, 1 for a single number."""
    return "-" if shape is None else "x".join(str(size) for size in shape) or "1"


def encode(value: msgspec.Struct) -> bytes:
    """Encode as JSON; bytes of a name that are no UTF-8 are spelled out, as a reader is shown them.

    Rows of `PerImage` may still be arrays.
    """
    try:
        return msgspec.json.encode(value, enc_hook=_as_list)
    except UnicodeEncodeError:
        text = json.dumps(msgspec.to_builtins(value, enc_hook=_as_list), ensure_ascii=False)
        return re.sub("[\ud800-\udfff]", lambda found: f"\\\\u{ord(found[0]):04x}", text).encode()


def with_lists(report: Report) -> Report:
    """Return a report in which rows of `PerImage` that are still arrays are lists."""
    rows = msgspec.to_builtins(report.per_image, enc_hook=_as_list)
    return msgspec.structs.replace(report, per_image=msgspec.convert(rows, PerImage | None))


def _as_list(row: Any) -> list[float | None]:
    """Turn a row of numbers, a NumPy array, into a list: what is not finite becomes None."""
    return [value if math.isfinite(value) else None for value in row.tolist()]


def to_json(report: Record) -> bytes:
    """Encode a report; the same report gives the same bytes.

    What cannot be printed (marks that turn the direction of writing, say) is written as a JSON escape, and so
    is the ``##`` of ``##[error]``, which the log of a CI job takes for a command.
    """
    text = msgspec.json.format(encode(report), indent=2).decode()
    return re.sub(r"[^\n -~]|#(?=#\w*\[)", _escape, text).encode() + b"\n"


def _escape(found: re.Match[str]) -> str:
    if found[0] == "#":
        return "\\u0023"
    return found[0] if found[0].isprintable() else json.dumps(found[0])[1:-1]


def replace_text(report: SavedT, change: Callable[[str], str]) -> SavedT:
    """Return a report in which every text, but no key, is changed."""
    return msgspec.convert(_replace(msgspec.to_builtins(report), change), type(report))


def _replace(value: Any, change: Callable[[str], str]) -> Any:
    match value:
        case str():
            return change(value)
        case list():
            return [_replace(part, change) for part in value]
        case dict():
            return {key: _replace(part, change) for key, part in value.items()}
        case _:
            return value


def from_json(content: bytes, name: str = "report") -> Report:
    """Decode a report.

    Raises
    ------
    DataError
        The bytes are no JSON, or no report of this schema; says where.
    """
    return decode(content, Report, SCHEMA, name, "write one with eqaudit check --json")


def decode(content: bytes, kind: type[SavedT], schema: str, name: str, hint: str) -> SavedT:
    """Decode what `to_json` wrote; ``hint`` says how to write one where it is none, as in `from_json`."""
    try:
        json.loads(content, object_pairs_hook=_refuse_twice)
        said = schema_of(content) or schema
        if said != schema:
            raise DataError(
                f"{name} has schema {said!r}, expected {schema!r}",
                f"{hint}, or use the eqaudit that wrote it",
            )
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise DataError(f"{name} is no eqaudit report: {error}", hint) from error


class _Head(Record, frozen=True):
    schema: str = ""


def schema_of(content: bytes) -> str:
    """Return which schema a file says that it is of; empty where it says nothing that can be read."""
    try:
        return msgspec.json.decode(content, type=_Head).schema
    except (msgspec.DecodeError, RecursionError, ValueError):
        return ""


def _refuse_twice(pairs: list[tuple[str, Any]]) -> None:
    """Refuse an object that says something twice: of which a decoder would take the last, without a word."""
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise ValueError(f"the key {key!r} stands twice in one object")
        seen.add(key)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a report, generated from the types."""
    return msgspec.json.schema(Report)
