"""Rich renderables to one string: with colour or without, in the characters that the stream can take."""

from __future__ import annotations

import io
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType

NARROWEST = 80
FALLBACKS = str.maketrans(
    {
        "±": "+-",
        "…": "...",
        "°": " deg",
        "·": ".",
        "█": "#",
        "▏": " ",
        "▎": " ",
        "▍": " ",
        "▌": "#",
        "▋": "#",
        "▊": "#",
        "▉": "#",
        "─": "-",
        "━": "-",
        "│": "|",
        "├": "|",
        "└": "`",
    }
)


@dataclass(frozen=True, slots=True)
class Style:
    """How the stream is written to: its width, whether it takes colour, and its encoding."""

    width: int = 80
    colour: bool = False
    encoding: str = "utf-8"


def render(parts: list[RenderableType], style: Style) -> str:
    """Return renderables as text; characters that the encoding lacks become ASCII."""
    stream = io.StringIO()
    console = Console(
        file=stream,
        width=max(style.width, NARROWEST),
        force_terminal=style.colour,
        no_color=not style.colour,
        color_system="standard" if style.colour else None,
        legacy_windows=False,
        markup=False,
        highlight=False,
        emoji=False,
    )
    console.print(Group(*parts))
    text = "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"
    try:
        text.encode(style.encoding)
    except (UnicodeEncodeError, LookupError):
        return text.translate(FALLBACKS).encode("ascii", "backslashreplace").decode("ascii")
    return text
