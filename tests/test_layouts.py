"""Where space is in a feature: every reading of a shape, and that a reading turns with the image."""

import itertools
import math
import string

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eqaudit.groups import Element, Group
from eqaudit.parsing import letters_problem
from eqaudit.transforms import (
    Layout,
    Resampler,
    Tokens,
    UnknownLayoutError,
    act,
    find_layout,
    find_layouts,
    layout_from_letters,
)
from eqaudit.transforms.layouts import Grids

SQUARE, WIDE = (16, 16), (12, 20)
NONE: Grids = frozenset()
FIRST, SECOND = frozenset({(4, 4)}), frozenset({(8, 8)})
LETTERS = [
    "BC",
    "BHW",
    "BCHW",
    "BHWC",
    "BCGHW",
    "BGCHW",
    "BHWCG",
    "BCHWG",
    "BND",
    "BDN",
    "BCND",
    "BNCD",
    "BN",
]
LEFT_OUT = -1.0


def described(shape: tuple[int, ...], image: tuple[int, int], swaps: bool, grids: Grids = NONE) -> list[str]:
    """Return every reading as people see it."""
    return [layout.describe() for layout in find_layouts(shape, image, swaps_sides=swaps, grids=grids)]


@pytest.mark.parametrize(
    ("shape", "image", "expected"),
    [
        ((2,), SQUARE, ["BC"]),
        ((2, 7), SQUARE, ["BC"]),
        ((2, 16, 16), SQUARE, ["BHW", "BND: 4x4 tokens", "BDN: 4x4 tokens"]),
        ((2, 20, 20), (20, 20), ["BHW"]),
        ((2, 12, 20), WIDE, ["BHW"]),
        ((2, 64, 7), SQUARE, ["BND: 8x8 tokens"]),
        ((2, 7, 64), SQUARE, ["BDN: 8x8 tokens"]),
        ((2, 197, 768), (224, 224), ["BND: 14x14 tokens, 1 extra left out"]),
        ((2, 198, 768), (224, 224), ["BND: 14x14 tokens, 2 extra left out"]),
        ((2, 768, 197), (224, 224), ["BDN: 14x14 tokens, 1 extra left out"]),
        ((2, 16, 64), SQUARE, ["BND: 4x4 tokens", "BDN: 8x8 tokens"]),
        ((2, 15, 7), WIDE, ["BND: 3x5 tokens"]),
        ((2, 16, 7), WIDE, ["BND: 3x5 tokens, 1 extra left out"]),
        ((2, 62, 15), WIDE, ["BND: 6x10 tokens, 2 extra left out", "BDN: 3x5 tokens"]),
        ((2, 7, 8, 8), SQUARE, ["BCHW"]),
        ((2, 8, 8, 7), SQUARE, ["BHWC"]),
        ((2, 8, 8, 8), SQUARE, ["BCHW", "BHWC"]),
        ((2, 7, 1, 1), SQUARE, ["BCHW"]),
        ((2, 6, 10, 3), WIDE, ["BHWC"]),
        ((2, 7, 6, 10), WIDE, ["BCHW"]),
        ((2, 8, 4, 5, 5), SQUARE, ["BCGHW"]),
        ((2, 5, 5, 8, 4), SQUARE, ["BHWCG"]),
        ((2, 8, 5, 5, 4), SQUARE, ["BCHWG"]),
        ((2, 4, 4, 8, 8), SQUARE, ["BCGHW", "BHWCG"]),
        ((2, 5, 5, 5, 5), SQUARE, ["BCGHW", "BHWCG", "BCHWG"]),
        ((2, 3, 4, 6, 5, 5), SQUARE, ["BCG...HW"]),
        ((2, 3, 5, 5, 4, 6), SQUARE, ["BCHWG..."]),
        ((2, 3, 4, 5, 5, 6, 7), SQUARE, ["BCGHW..."]),
    ],
)
def test_every_reading_of_a_shape_is_found_in_order(
    shape: tuple[int, ...], image: tuple[int, int], expected: list[str]
) -> None:
    """Readings that the sizes allow, the most plausible first, whether or not the group swaps the sides."""
    assert described(shape, image, swaps=False) == expected
    assert image != SQUARE or described(shape, image, swaps=True) == expected


@pytest.mark.parametrize(
    ("shape", "grids", "expected"),
    [
        ((2, 16, 64), FIRST, ["BND: 4x4 tokens", "BDN: 8x8 tokens"]),
        ((2, 16, 64), SECOND, ["BDN: 8x8 tokens", "BND: 4x4 tokens"]),
        ((2, 16, 64), FIRST | SECOND, ["BND: 4x4 tokens", "BDN: 8x8 tokens"]),
        ((2, 16, 65), SECOND, ["BDN: 8x8 tokens, 1 extra left out", "BND: 4x4 tokens"]),
        ((2, 16, 16), FIRST, ["BHW", "BND: 4x4 tokens", "BDN: 4x4 tokens"]),
        ((2, 4, 4, 4), FIRST, ["BCHW", "BHWC"]),
        ((2, 8, 8, 8), FIRST, ["BCHW", "BHWC"]),
        ((2, 4, 4, 8, 8), FIRST, ["BHWCG", "BCGHW"]),
        ((2, 4, 4, 8, 8), SECOND, ["BCGHW", "BHWCG"]),
        ((2, 4, 4, 8, 8), FIRST | SECOND, ["BCGHW", "BHWCG"]),
    ],
)
def test_maps_of_other_layers_decide_between_readings(
    shape: tuple[int, ...], grids: Grids, expected: list[str]
) -> None:
    """A grid that the model shows elsewhere comes before one that it does not, within a kind of reading."""
    assert described(shape, SQUARE, swaps=True, grids=grids) == expected


def test_on_an_oblong_image_channels_last_comes_first_where_other_layers_show_only_its_map() -> None:
    """(6, 10) read as (H, W) of (2, 3, 6, 10) or (3, 6) of it: rounding allows both."""
    assert described((2, 3, 6, 10), WIDE, swaps=False) == ["BCHW", "BHWC"]
    assert described((2, 3, 6, 10), WIDE, swaps=False, grids=frozenset({(3, 6)})) == ["BHWC", "BCHW"]
    assert described((2, 3, 6, 10), WIDE, swaps=False, grids=frozenset({(3, 6), (6, 10)})) == ["BCHW", "BHWC"]


@pytest.mark.parametrize(
    ("shape", "grids", "expected"),
    [
        ((2, 3, 64, 7), SECOND, ["BCND: 8x8 tokens"]),
        ((2, 65, 3, 7), SECOND, ["BNCD: 8x8 tokens, 1 extra left out"]),
        ((2, 64, 17, 7), FIRST | SECOND, ["BCND: 4x4 tokens, 1 extra left out", "BNCD: 8x8 tokens"]),
        ((2, 3, 64, 64), NONE, ["BCHW"]),
        ((2, 3, 64, 64), FIRST, ["BCHW"]),
        ((2, 3, 64, 64), SECOND, ["BCND: 8x8 tokens", "BCHW"]),
        ((2, 3, 66, 66), SECOND, ["BCND: 8x8 tokens, 2 extra left out", "BCHW"]),
        ((2, 16, 64, 64), FIRST | SECOND, ["BCND: 8x8 tokens", "BCHW", "BNCD: 4x4 tokens"]),
        ((2, 64, 64, 64), SECOND, ["BCHW", "BHWC", "BCND: 8x8 tokens", "BNCD: 8x8 tokens"]),
        ((2, 64, 5, 5), SECOND, ["BCHW", "BNCD: 8x8 tokens"]),
        ((2, 64, 64, 5), SECOND, ["BHWC", "BCND: 8x8 tokens", "BNCD: 8x8 tokens"]),
    ],
)
@pytest.mark.parametrize("swaps", [False, True])
def test_tokens_of_each_head_are_read_on_a_grid_of_other_layers(
    shape: tuple[int, ...], grids: Grids, expected: list[str], swaps: bool
) -> None:
    """After maps; but a map of N by N, where N tokens are known, is the attention of a token to each."""
    assert described(shape, SQUARE, swaps=swaps, grids=grids) == expected


def test_the_large_maps_of_a_plain_network_are_not_taken_for_attention() -> None:
    """64 x 64 maps that come down to 8 x 8 = 64 cells: other layers show both."""
    maps = frozenset({(64, 64), (32, 32), (16, 16), (8, 8)})
    for _, (height, width) in itertools.product(range(2), maps):
        assert find_layout((2, 8, height, width), (64, 64), True, maps).name == "BCHW"


@pytest.mark.parametrize(
    ("shape", "image", "swaps", "said"),
    [
        ((2, 19, 7), SQUARE, True, "which of 19x7 is space is not known"),
        ((2, 8, 8), SQUARE, True, "which of 8x8 is space is not known"),
        ((2, 3, 1), SQUARE, False, "which of 3x1 is space is not known"),
        ((2, 36, 7), WIDE, False, "which of 36x7 is space is not known"),
        ((2, 135, 7), WIDE, False, "which of 135x7 is space is not known"),
        ((2, 3, 7, 5), SQUARE, True, "map of 7x5 is not square, so it cannot turn by 90 degrees"),
        ((2, 3, 64, 7), SQUARE, True, "map of 64x7 is not square, so it cannot turn by 90 degrees"),
        ((2, 3, 4, 7, 5), SQUARE, True, "map of 7x5 is not square, so it cannot turn by 90 degrees"),
    ],
)
def test_a_feature_without_known_space_is_not_guessed(
    shape: tuple[int, ...], image: tuple[int, int], swaps: bool, said: str
) -> None:
    """Numbers of tokens that are no grid of whole patches, and maps that cannot turn."""
    with pytest.raises(UnknownLayoutError, match=said):
        find_layouts(shape, image, swaps_sides=swaps)


@pytest.mark.parametrize(
    ("shape", "name"), [((2, 3, 7, 5), "BCHW"), ((2, 3, 4, 7, 5), "BCGHW"), ((2, 3, 4, 6, 7, 5), "BCG...HW")]
)
def test_any_map_is_read_channels_first_where_no_turn_swaps_its_sides(
    shape: tuple[int, ...], name: str
) -> None:
    """Half turns and mirrors move a map of any proportions."""
    assert find_layouts(shape, SQUARE, swaps_sides=False) == (Layout(name, (-2, -1)),)


def test_find_layout_is_the_first_reading() -> None:
    """With the maps of other layers too."""
    assert find_layout((2, 16, 64), SQUARE, True) == Layout("BND", None, Tokens(1, (4, 4), 0))
    assert find_layout((2, 16, 64), SQUARE, True, SECOND) == Layout("BDN", None, Tokens(2, (8, 8), 0))


def _grids_of(count: int, image: tuple[int, int]) -> list[Tokens]:
    """Return every grid of tokens along dimension 1 by trying all sides, as the rule is written."""
    patches = [side for side in range(1, min(image) + 1) if image[0] % side == image[1] % side == 0]
    oblong = [(image[0] // side, image[1] // side) for side in patches]
    grids = [(side, side) for side in range(2, 40)] if image[0] == image[1] else oblong
    return [
        Tokens(1, grid, extra)
        for extra in (0, 1, 2)
        for grid in grids
        if min(grid) >= 2 and math.prod(grid) == count - extra
    ]


@pytest.mark.parametrize("image", [(16, 16), (15, 15), (12, 20), (20, 12), (64, 96), (30, 60), (7, 11)])
def test_tokens_are_read_for_exactly_the_counts_of_the_rule(image: tuple[int, int]) -> None:
    """Against trying every side, for each count to 1000: one grid or none, and the one that is read."""
    for count in range(1, 1000):
        expected = _grids_of(count, image)
        assert len(expected) <= 1
        try:
            found = find_layouts((2, count, 3), image, swaps_sides=False)
        except UnknownLayoutError:
            found = ()
        assert [layout.tokens for layout in found if layout.name == "BND"] == expected


# What the user fixes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("letters", "shape", "expected"),
    [
        ("B", (2,), Layout("B", None)),
        ("BC", (2, 7), Layout("BC", None)),
        ("BCD", (2, 16, 16), Layout("BCD", None)),
        ("BHW", (2, 8, 8), Layout("BHW", (-2, -1))),
        ("BCHW", (2, 8, 8, 8), Layout("BCHW", (-2, -1))),
        ("BHWC", (2, 8, 8, 8), Layout("BHWC", (1, 2))),
        ("BCHW", (2, 3, 7, 5), Layout("BCHW", (-2, -1))),
        ("BGCHW", (2, 4, 4, 8, 8), Layout("BGCHW", (-2, -1))),
        ("BHWCG", (2, 4, 4, 8, 8), Layout("BHWCG", (1, 2))),
        ("BXHWYZ", (2, 3, 4, 4, 5, 6), Layout("BXHWYZ", (2, 3))),
        ("BND", (2, 16, 64), Layout("BND", None, Tokens(1, (4, 4), 0))),
        ("BDN", (2, 16, 64), Layout("BDN", None, Tokens(2, (8, 8), 0))),
        ("BN", (2, 17), Layout("BN", None, Tokens(1, (4, 4), 1))),
        ("BCND", (2, 3, 18, 7), Layout("BCND", None, Tokens(2, (4, 4), 2))),
        ("BCGDN", (2, 3, 4, 5, 16), Layout("BCGDN", None, Tokens(4, (4, 4), 0))),
    ],
)
def test_a_layout_that_is_said_is_read_as_said(
    letters: str, shape: tuple[int, ...], expected: Layout
) -> None:
    """Whatever the sizes suggest."""
    assert layout_from_letters(letters, shape, SQUARE) == expected


@pytest.mark.parametrize(
    ("letters", "shape", "said"),
    [
        ("BCHW", (2, 8, 8), r"layout BCHW: expected 4 dimensions, got 3: 2x8x8"),
        ("BND", (2, 19, 7), r"layout BND: .* the 16x16 image and at most 2 extra tokens, got 19 tokens"),
        ("BCWH", (2, 3, 8, 8), r"layout 'BCWH': expected H and W side by side, H first, got BCWH"),
    ],
)
def test_a_layout_that_does_not_fit_says_expected_and_got(
    letters: str, shape: tuple[int, ...], said: str
) -> None:
    """Another rank, a number of tokens that is no grid, letters that are no layout."""
    with pytest.raises(UnknownLayoutError, match=said):
        layout_from_letters(letters, shape, SQUARE)


@pytest.mark.parametrize(
    ("letters", "said"),
    [
        ("", "capital letters"),
        ("bchw", "capital letters"),
        ("BC-HW", "capital letters"),
        ("BCHW\n", "capital letters"),
        ("BÇHW", "capital letters"),
        ("CBHW", "B, the batch, first"),
        ("BCH", "H and W side by side"),
        ("BWC", "H and W side by side"),
        ("BCWH", "H first"),
        ("BHCW", "side by side"),
        ("BNN", "N 2 times"),
        ("BCBHW", "B 2 times"),
        ("BHWCH", "H 2 times"),
        ("BNHW", "either N, the tokens, or H and W"),
    ],
)
def test_letters_that_are_no_layout_are_told_why(letters: str, said: str) -> None:
    """Before any tensor is seen."""
    assert said in (letters_problem(letters) or "")


@given(letters=st.text(alphabet=string.ascii_uppercase, max_size=6))
def test_letters_are_a_layout_exactly_if_the_rules_hold(letters: str) -> None:
    """B first, each once, HW together or not at all, never beside N."""
    space = "HW" in letters or not {"H", "W"} & set(letters)
    tokens = not {"N", "H"} <= set(letters)
    holds = letters[:1] == "B" and len(set(letters)) == len(letters) and space and tokens
    assert (letters_problem(letters) is None) == holds


# How a reading moves ---------------------------------------------------------------------------------


@st.composite
def features(draw: st.DrawFn) -> tuple[Layout, torch.Tensor, torch.Tensor]:
    """Draw a layout, a map (B, channels..., side, side), and the feature that it is of that layout.

    Numbers in the map are distinct and not negative; extra tokens are ``LEFT_OUT``.
    """
    letters, side, extra = draw(st.sampled_from(LETTERS)), draw(st.integers(2, 4)), draw(st.integers(0, 2))
    sizes = {letter: draw(st.integers(1, 4)) for letter in letters} | {"H": side, "W": side}
    channels = [sizes[letter] for letter in letters[1:] if letter not in "HWN"]
    spatial = "H" in letters or "N" in letters
    shape = (sizes["B"], *channels, *((side, side) if spatial else ()))
    made = torch.arange(math.prod(shape), dtype=torch.float64).reshape(shape)
    feature = made
    if "N" in letters:
        rows = made.flatten(-2)
        first = torch.full((*rows.shape[:-1], extra), LEFT_OUT, dtype=torch.float64)
        feature = torch.cat([first, rows], dim=-1).movedim(-1, letters.index("N"))
    elif spatial:
        start = letters.index("H")
        feature = made.movedim((-2, -1), (start, start + 1))
    return layout_from_letters(letters, tuple(feature.shape), (24, 24)), made, feature


def _moved_by_index(layout: Layout, feature: torch.Tensor, element: Element) -> torch.Tensor:
    """Move a feature in its own layout: numpy turns a map, and numbers tokens anew, extra ones in place."""
    axes = layout.dims
    array = feature.numpy()
    if layout.tokens is not None:
        height, width = layout.tokens.grid
        cells = np.arange(height * width).reshape(height, width)
        cells = np.rot90(np.flip(cells, 1) if element.mirrored else cells, element.quarter_turns)
        order = [*range(layout.tokens.extra), *(cells.ravel() + layout.tokens.extra)]
        array = np.take(array, order, axis=layout.tokens.axis)
    elif axes is not None:
        array = np.rot90(np.flip(array, axes[1]) if element.mirrored else array, element.quarter_turns, axes)
    return torch.from_numpy(np.ascontiguousarray(array))


@given(drawn=features(), element=st.sampled_from(Group.named("D4").elements))
def test_a_feature_that_moves_in_its_layout_moves_as_a_map_space_last(
    drawn: tuple[Layout, torch.Tensor, torch.Tensor], element: Element
) -> None:
    """Moving, then putting space last, is putting space last, then moving; a vector stays as it is."""
    layout, made, feature = drawn
    moved = layout.space_last(_moved_by_index(layout, feature, element))
    expected = act(element, made, Resampler("spline", "zeros")) if layout.spatial else made
    assert torch.equal(moved, expected)


@given(drawn=features())
def test_space_last_keeps_every_number_but_extra_tokens_and_copies_nothing(
    drawn: tuple[Layout, torch.Tensor, torch.Tensor],
) -> None:
    """The product of the channel dimensions is kept; the result is a view."""
    layout, made, feature = drawn
    last = layout.space_last(feature)
    assert last.shape == made.shape
    assert torch.equal(last, made)
    assert last.untyped_storage().data_ptr() == feature.untyped_storage().data_ptr()


@given(
    shape=st.lists(st.sampled_from([1, 2, 4, 5, 8, 16, 17, 64]), min_size=1, max_size=4),
    image=st.sampled_from([(16, 16), (8, 16), (12, 20)]),
    swaps=st.booleans(),
    grids=st.frozensets(st.sampled_from([(2, 2), (4, 4), (8, 8), (2, 4), (3, 5)])),
)
def test_every_reading_is_distinct_and_is_what_its_name_says(
    shape: list[int], image: tuple[int, int], swaps: bool, grids: Grids
) -> None:
    """A reading can be said by its letters, and other layers change the order and the heads, nothing else."""
    whole = (2, *shape)
    try:
        found = find_layouts(whole, image, swaps_sides=swaps, grids=grids)
    except UnknownLayoutError:
        return
    assert len({(layout.dims, layout.tokens) for layout in found}) == len(found)
    without = [layout for layout in found if layout.name not in {"BCND", "BNCD"}]
    if without:
        assert set(find_layouts(whole, image, swaps_sides=swaps)) == set(without)
    for layout in found:
        assert layout_from_letters(layout.name, whole, image) == layout
        last = layout.space_last(torch.zeros(whole))
        assert last.shape[0] == 2
        assert not (swaps and image == SQUARE and layout.spatial) or last.shape[-2] == last.shape[-1]
