import csv
import io

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reports import QUARTERS, TaskKind, make_report, make_sweep

from eqaudit.report import PerImage, Report
from eqaudit.reporters.csv_table import per_image_csv, sweep_csv

ALWAYS = [
    "element",
    "degrees",
    "mirrored",
    "class",
    "error",
    "error_low",
    "error_high",
    "floor",
    "chance",
    "share_of_chance",
]


def read(content: bytes) -> list[dict[str, str]]:
    """Read a table as any program would."""
    return list(csv.DictReader(io.StringIO(content.decode("utf-8"), newline="")))


def of_images(report: Report, values: PerImage | None) -> list[dict[str, str]]:
    """Return the table of images of a report with other values."""
    return read(per_image_csv(msgspec.structs.replace(report, per_image=values)))


def test_a_sweep_has_a_row_for_each_pose_with_its_error() -> None:
    """Numbers come back as they were; the angle is a number, the name a text."""
    report = make_sweep(mirror=True)
    rows = read(sweep_csv(report))
    assert list(rows[0]) == ALWAYS
    assert len(rows) == 2 * len(QUARTERS)
    errors = report.gating_output.errors
    assert [float(row["error"]) for row in rows] == [error.error for error in errors]
    assert [row["class"] for row in rows] == [error.class_ for error in errors]
    assert [float(row["degrees"]) for row in rows] == [float(angle) for angle in QUARTERS] * 2
    assert [row["mirrored"] for row in rows] == ["0"] * len(QUARTERS) + ["1"] * len(QUARTERS)


def test_a_check_has_a_row_for_each_element_that_was_measured() -> None:
    """The identity of a group is not compared with itself."""
    assert [row["element"] for row in read(sweep_csv(make_report()))] == ["r90", "r180", "r270"]


@pytest.mark.parametrize(
    ("task", "truth", "there", "missing"),
    [
        (
            "classification",
            True,
            {"consistency", "consistency_low", "accuracy_high", "auc", "cross_entropy"},
            {"dice"},
        ),
        ("classification", False, {"consistency", "total_variation_high"}, {"accuracy", "auc", "dice"}),
        (
            "segmentation",
            True,
            {"dice", "dice_median", "dice_floor", "dice_worst_image", "iou_p5", "truth_dice"},
            {"psnr"},
        ),
        ("segmentation", False, {"dice_p95", "iou"}, {"truth_dice", "truth_iou", "consistency"}),
        ("dense", True, {"psnr", "psnr_low", "psnr_high", "psnr_worst_image"}, {"cosine", "dice"}),
        ("embedding", True, {"cosine", "cosine_median"}, {"psnr", "dice"}),
        (None, True, set(), {"consistency", "dice", "psnr", "cosine"}),
    ],
)
def test_only_the_columns_of_the_task_are_there(
    task: TaskKind | None, truth: bool, there: set[str], missing: set[str]
) -> None:
    """A classifier has no Dice, and without labels no accuracy."""
    header = set(read(sweep_csv(make_sweep(task, truth=truth)))[0])
    assert there <= header
    assert not missing & header


def test_what_the_task_found_stands_in_its_columns() -> None:
    """Mean, quantiles, interval and floor of Dice are those of the report."""
    report = make_sweep("segmentation")
    assert report.segmentation is not None
    for row, record in zip(read(sweep_csv(report)), report.segmentation.by_element, strict=True):
        assert row["element"] == record.element
        assert float(row["dice"]) == record.dice.mean
        assert float(row["dice_median"]) == record.dice.p50
        assert (float(row["dice_low"]), float(row["dice_high"])) == record.dice.ci95
        assert row["dice_floor"] == ("" if record.dice.floor is None else str(record.dice.floor))


def test_what_is_not_known_is_an_empty_cell_without_quotes() -> None:
    """A program that reads numbers finds no text among them."""
    lines = sweep_csv(make_sweep("dense", [0])).decode().splitlines()
    assert lines[1].startswith('"e",0.0,0,"exact",0.0,')
    assert ",,,," in lines[1]
    assert '""' not in lines[1]


def test_lines_end_in_one_byte_and_every_text_is_quoted() -> None:
    """LF on every system, UTF-8, and a header."""
    content = sweep_csv(make_sweep("classification"))
    assert b"\r" not in content
    assert content.endswith(b"\n")
    assert content.splitlines()[0] == ",".join(f'"{name}"' for name in read(content)[0]).encode()


def test_each_image_has_a_row_for_each_pose() -> None:
    """The unmoved image is among them, where its prediction is known and no error is."""
    rows = read(per_image_csv(make_report()))
    assert rows == [
        {"image": "photo-003", "element": "e", "degrees": "0.0", "error": "", "predicted": "1", "dice": ""},
        {
            "image": "photo-003",
            "element": "r90",
            "degrees": "90.0",
            "error": "1e-07",
            "predicted": "1",
            "dice": "",
        },
    ]


def test_an_image_whose_output_is_not_finite_has_no_error_and_no_dice() -> None:
    """Empty cells, and the class -1 as in the report."""
    rows = [row for row in read(per_image_csv(make_sweep("segmentation"))) if row["image"] == "b.png"]
    assert len(rows) == len(QUARTERS)
    assert {(row["error"], row["dice"]) for row in rows} == {("", "")}
    classes = [row["predicted"] for row in read(per_image_csv(make_sweep("classification")))]
    assert "-1" in classes


def test_without_values_of_images_only_the_header_is_left() -> None:
    """Nothing is raised for a report without them, or with rows that are too short."""
    report = make_report()
    assert of_images(report, None) == []
    assert of_images(report, PerImage([], {}, {}, {}, "r.npz", "0" * 64)) == []
    assert [row["error"] for row in of_images(report, PerImage(["a", "b"], {"r90": [0.5]}, {}))] == [
        "0.5",
        "",
    ]


def test_a_sweep_whose_output_was_skipped_has_rows_without_errors() -> None:
    """The poses are there; what was not measured is empty."""
    report = make_sweep("embedding")
    output = msgspec.structs.replace(report.gating_output, errors=[], skipped="not always called")
    skipped = msgspec.structs.replace(report, outputs=[output])
    rows = read(sweep_csv(skipped))
    assert len(rows) == len(QUARTERS)
    assert {row["error"] for row in rows} == {""}


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_no_text_starts_a_formula_in_a_spreadsheet(start: str) -> None:
    """Names of files are foreign: a quotation mark in front makes them text; numbers keep their sign."""
    report = make_report()
    name = f"{start}cmd|' /C calc'!A0.png"
    (row,) = of_images(report, PerImage([name], {"r90": [-0.5]}, {}))
    assert row["image"].startswith("'")
    assert row["error"] == "-0.5"


@given(st.text(st.characters(exclude_categories=())))
def test_any_name_is_one_cell_that_cannot_be_run(name: str) -> None:
    """Whatever a file is called, its row has six cells, is printable, and begins no formula."""
    (row,) = of_images(make_report(), PerImage([name], {"r90": [1.0]}, {}))
    assert len(row) == 6
    assert None not in row.values()
    assert row["image"].isprintable()
    assert not row["image"].startswith(("=", "+", "-", "@"))
    assert row["error"] == "1.0"
