import json
from pathlib import Path

import jsonschema
import msgspec
import numpy as np
import pytest
from reports import make_error, make_layer, make_report

import eqaudit
from eqaudit.errors import DataError
from eqaudit.gate import Limits, judge
from eqaudit.report import PerImage, encode, from_json, json_schema, to_json, with_lists
from eqaudit.reporters.per_image import split_per_image

SCHEMA = Path(eqaudit.__file__).parent / "report.schema.json"


def test_a_report_survives_json() -> None:
    """from_json(to_json(r)) == r, judged or not."""
    report = make_report(
        layers=[
            make_layer("a", errors=[make_error("r90", error=None)]),
            make_layer("b", skipped="returns None"),
        ]
    )
    assert from_json(to_json(report)) == report
    judged = judge(report, Limits())
    assert from_json(to_json(judged)) == judged


def test_the_schema_in_the_package_is_that_of_the_types() -> None:
    """After changing a type, write `json_schema()` into the file again."""
    assert json.loads(SCHEMA.read_text()) == json_schema()


def test_a_report_validates_against_its_schema_and_a_broken_one_does_not() -> None:
    """The schema says something."""
    content = json.loads(
        to_json(judge(make_report(layers=[make_layer("a", errors=[make_error("r90")])]), Limits()))
    )
    jsonschema.validate(content, json_schema())
    content["layers"][0]["errors"][0]["class"] = "perfect"
    with pytest.raises(jsonschema.ValidationError, match="perfect"):
        jsonschema.validate(content, json_schema())


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"", "no eqaudit report"),
        (b"{}", "missing required field"),
        (b"[1]", "no eqaudit report"),
        (b"\xff\xfe", "no eqaudit report"),
        (b"[" * 100_000, "no eqaudit report"),
        (to_json(make_report())[:-40], "no eqaudit report"),
        (to_json(make_report()).replace(b"report/1", b"report/2"), "eqaudit.report/2"),
        (to_json(make_report()).replace(b'"samples": 64', b'"samples": "many"'), "inputs.samples"),
        (to_json(make_report()).replace(b'"samples": 64', b'"samples": NaN'), "no eqaudit report"),
        (to_json(make_report()).replace(b'"gating": true', b'"gating": false'), "the judged one"),
    ],
)
def test_what_is_no_report_is_refused_with_the_place(content: bytes, parts: str) -> None:
    """Cut, empty, of another version, of a wrong type, with a NaN."""
    with pytest.raises(DataError, match=parts):
        from_json(content, "r.json")


def test_unknown_keys_of_a_later_version_are_passed_over() -> None:
    """Within /1 keys are only added."""
    content = json.loads(to_json(make_report()))
    content["tomorrow"] = 1
    assert from_json(json.dumps(content).encode()) == make_report()


def test_many_values_of_images_go_into_an_archive_beside_the_report(tmp_path: Path) -> None:
    """Above 10,000 values the report names the archive and its sha256; same values, same bytes."""
    ids = [f"image-{number}" for number in range(4_000)]
    errors = [None if number == 7 else number * 1e-6 for number in range(4_000)]
    values = PerImage(ids, {"r90": errors, "r180": errors}, {"e": [1] * 4_000})
    report = msgspec.structs.replace(make_report(), per_image=values)
    short, archive = split_per_image(report, "r.json.per-image.npz")
    assert archive is not None
    assert split_per_image(report, "r.json.per-image.npz")[1] == archive
    assert short.per_image is not None
    assert short.per_image.file == "r.json.per-image.npz"
    assert not short.per_image.ids
    (tmp_path / "values.npz").write_bytes(archive)
    with np.load(tmp_path / "values.npz") as arrays:
        assert arrays["ids"].tolist() == ids
        assert np.isnan(arrays["output/r90"][7])
        assert arrays["output/r180"][8] == 8e-6
        assert arrays["predicted/e"].tolist() == [1] * 4_000


@pytest.mark.parametrize("name", ["a", "\udc80"])
def test_rows_that_are_arrays_are_written_and_returned_as_lists(name: str) -> None:
    """What is not finite is null, whichever way a name makes the report be written."""
    errors, classes = np.array([0.5, np.nan, np.inf]), np.array([3, -1, 0])
    held = PerImage([name, "b", "c"], {"r90": errors}, {"e": classes})  # type: ignore[dict-item]
    listed = PerImage(held.ids, {"r90": [0.5, None, None]}, {"e": [3, -1, 0]})
    report = make_report()
    held_report, listed_report = (
        msgspec.structs.replace(report, per_image=values) for values in (held, listed)
    )
    assert encode(held_report) == encode(listed_report)
    assert with_lists(held_report) == listed_report


def test_few_values_of_images_stay_in_the_report() -> None:
    """64 images times 7 elements are read more easily in one file."""
    assert split_per_image(make_report(), "x.npz") == (make_report(), None)
