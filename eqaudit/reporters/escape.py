r"""Foreign text on its way out: one function for each place where it could do harm.

Names of layers, models, files and classes, the command line and the messages of a model are foreign. They
may hold terminal escapes, line breaks, marks that turn the direction of writing, Markdown, formulas, or
commands to whoever reads the log of a CI job. `show` is the way to a terminal and into XML (whose writer
escapes its own marks), `brief` into pictures (which read no mathematics); the others build on them.
"""

from __future__ import annotations

import hashlib
import os
import re

LONGEST_NAME, LONGEST_TEXT = 160, 2_000
FORMULA = ("=", "+", "-", "@", "|", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001 - full width
"""What a spreadsheet takes for the beginning of a formula."""
LOG_COMMAND = re.compile(r"^((?:[ \t]|\x1b\[[\d;]*m)*):(?=:)|#(?=#\w*\[)", re.MULTILINE)
"""``::error`` at the start of a line, after blanks and colours, and ``##[error]`` or ``##vso[`` anywhere."""
MARKS = re.compile(r"[\\`*_\[\]<>&!|~#@${}/^]|:|www\.|gh-\d|[0-9a-f]{7}", re.IGNORECASE)
"""What Markdown or GitHub reads as more than text: markup, links, mentions, references, commits."""
WORD = re.compile(r"^(\(?)(.*?)([),.;:]*)$")
"""A word of a sentence, between the marks around it."""


def show(text: str) -> str:
    r"""Return foreign text on one line: what cannot be printed is written as an escape.

    Examples
    --------
    >>> show("conv\x1b[31m")
    'conv\\x1b[31m'
    """
    return "".join(character if character.isprintable() else _escape(character) for character in text)


def _escape(character: str) -> str:
    code = ord(character)
    if code < 0x100:  # noqa: PLR2004 - two hexadecimal digits
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"  # noqa: PLR2004 - four


def shorten(text: str, most: int = LONGEST_NAME) -> str:
    """Cut long text in the middle; a digest of the whole keeps what differs there apart.

    Examples
    --------
    >>> shorten("encoder." * 9, 40)
    'encoder.encode…[107ba6d6]…coder.encoder.'
    """
    if len(text) <= most:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    kept = most - len(digest) - 4
    return f"{text[: -(-kept // 2)]}…[{digest}]…{text[len(text) - kept // 2 :]}"


def brief(text: str) -> str:
    """Return foreign text that fits a row of a table or a line of a picture, where `show` has no bound."""
    return shorten(show(shorten(text, LONGEST_TEXT)))


def csv_cell(text: str) -> str:
    """Return text for a spreadsheet: one line, and with a quotation mark in front what were a formula."""
    return f"'{show(text)}" if text.startswith(FORMULA) else show(text)


def markdown_code(text: str) -> str:
    r"""Return text as Markdown code, also inside a table: no markup, link, mention or reference.

    Examples
    --------
    >>> markdown_code("a|b`c`")
    '`` a\\x7cb`c` ``'
    """
    # Readers of Markdown disagree on when a backslash keeps a bar from ending the cell.
    shown = brief(text).replace("|", "\\x7c")
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    # A reader takes one blank away at both ends, or none.
    pad = " " if shown.strip("` ") != shown or not shown else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def markdown_text(text: str) -> str:
    """Return a sentence for Markdown: words that Markdown or GitHub would read otherwise become code.

    Examples
    --------
    >>> markdown_text("C4 must hold on out_1: see @all")
    'C4 must hold on `out_1`: see `@all`'
    """
    return " ".join(
        _markdown_word(*WORD.findall(word)[0]) for word in show(shorten(text, LONGEST_TEXT)).split()
    )


def _markdown_word(before: str, word: str, after: str) -> str:
    return f"{before}{markdown_code(word) if MARKS.search(word) else shorten(word)}{after}"


def workflow_command(kind: str, title: str, message: str) -> str:
    """Return a command to the log of a GitHub workflow, on one line: ``error`` or ``warning``.

    Examples
    --------
    >>> workflow_command("error", "eqaudit: a,b", "100 %")
    '::error title=eqaudit%3A a%2Cb::100 %25'
    """
    data, name = (
        log_text(show(shorten(text, LONGEST_TEXT))).replace("%", "%25") for text in (message, title)
    )
    return f"::{kind} title={name.replace(':', '%3A').replace(',', '%2C')}::{data}"


def log_text(text: str) -> str:
    r"""Return lines for a terminal, whose reader may be a CI job: none of them is a command to it.

    Examples
    --------
    >>> log_text("  ::error::x")
    '  \\x3a:error::x'
    """
    return LOG_COMMAND.sub(lambda found: "\\x23" if found[1] is None else f"{found[1]}\\x3a", text)


def hide_home(text: str) -> str:
    """Return text with the home folder, which names the user, written as ``~``."""
    home = os.path.expanduser("~").rstrip("/")  # noqa: PTH111 - Path.home() raises where there is none
    if not home.startswith("/"):
        return text
    return re.sub(rf"(?<![\w.~-]){re.escape(home)}(?![\w.-])", "~", text)
