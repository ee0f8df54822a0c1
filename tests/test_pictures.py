import io

import numpy as np
import pytest
from PIL import Image
from reports import make_error, make_layer, make_report

from eqaudit.gate import Limits, judge
from eqaudit.report import Class, Report
from eqaudit.reporters.console import Style
from eqaudit.reporters.pictures import draw_check
from eqaudit.reporters.terminal import render_check

ELEMENTS = ("r90", "r180", "r270")
CLASSES: tuple[Class, ...] = ("exact", "approximate", "broken", "degenerate", "unresolved", "at the floor")


def report_of(layers: int, name: str = "stage1.block{}.conv") -> Report:
    """Return a judged report with layers of every class."""
    made = []
    for number in range(layers):
        kind = CLASSES[number % len(CLASSES)]
        size = None if kind == "unresolved" else 10.0 ** -(number % 8)
        made.append(
            make_layer(name.format(number), errors=[make_error(element, kind, size) for element in ELEMENTS])
        )
    return judge(make_report(layers=[*made, make_layer("rnn", skipped="returns None, no tensor")]), Limits())


def _pixels(content: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
        return np.asarray(picture.convert("RGB"))


@pytest.mark.parametrize("layers", [1, 8, 60])
def test_pictures_grow_with_the_layers_and_are_not_cut(layers: int) -> None:
    """White margins all around: no name, title or colour bar touches the edge."""
    pictures = draw_check(report_of(layers))
    assert set(pictures) == {"heatmap.png", "layers.png"}
    for content in pictures.values():
        pixels = _pixels(content)
        assert pixels.shape[0] > 300 + 30 * layers
        for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
            assert (edge == 255).all()


def test_the_same_report_draws_the_same_bytes() -> None:
    """Nothing of the day or of the machine is in a picture."""
    assert draw_check(report_of(8)) == draw_check(report_of(8))


def test_a_name_with_dollar_signs_is_no_mathematics() -> None:
    r"""Unmatched `$` and `\frac{` are drawn as they are."""
    assert len(draw_check(report_of(3, name="a$_{}^\\frac{{"))) == 2


def test_the_heatmap_shows_different_errors_in_different_colours() -> None:
    """Two reports that differ in one error differ in the picture."""
    one = make_report(layers=[make_layer("a", errors=[make_error(element) for element in ELEMENTS])])
    other = make_report(
        layers=[make_layer("a", errors=[make_error(element, "broken", 0.5) for element in ELEMENTS])]
    )
    first, second = (_pixels(draw_check(report)["heatmap.png"]) for report in (one, other))
    assert first.shape == second.shape
    assert (first != second).any(axis=-1).mean() > 0.05


@pytest.mark.parametrize("width", [20, 80, 81, 90, 120, 300])
def test_the_table_keeps_its_width_and_every_class_whole(width: int) -> None:
    """Readable at 80 columns; a narrower terminal gets 80."""
    text = render_check(report_of(12, name="encoder.stages.{}.blocks.attention.projection"), Style(width))
    assert max(len(line) for line in text.splitlines()) <= max(width, 80)
    rows = text.split("\nlayer", 1)[1].split("\n\n", 1)[0]
    assert rows.count("exact") == 3
    assert rows.count("not plain") == 4
    assert rows.count("degenerate") == 2
    assert "skipped  rnn: returns None, no tensor" in text


def test_names_are_whole_though_folded() -> None:
    """A long name goes on in the next line: nothing of it is lost."""
    name = "encoder.stages.3.blocks.attention.projection"
    text = render_check(
        judge(make_report(layers=[make_layer(name, errors=[make_error("r90")])]), Limits()), Style(80)
    )
    rows = text.split("class\n", 1)[1].split("output", 1)[0]
    assert "".join(line.split(" ")[0] for line in rows.splitlines()) == name


def test_without_unicode_the_table_is_ascii() -> None:
    """The same lines in characters that the stream can take."""
    text = render_check(report_of(8), Style(80, encoding="ascii"))
    assert text.isascii()
    assert "error +-95%" in text
    assert "####" in text


def test_colour_only_where_it_is_asked_for() -> None:
    """A pipe gets no escapes."""
    assert "\x1b" not in render_check(report_of(8), Style(80))
    assert "\x1b[" in render_check(report_of(8), Style(80, colour=True))
