"""What the operators of a model file do besides computing: one table, for graphs of every kind.

An operator that reads or writes files is refused, and so is one of another library than PyTorch, or one that
talks to other processes. The code of a TorchScript archive is looked at as text too, because some of it runs
while it is loaded.
"""

import ast
import re
from collections.abc import Iterable
from typing import Final

from eqaudit.errors import ModelError

_FILES: Final = frozenset({"aten::save", "aten::from_file"})
_NAMESPACES: Final = frozenset(
    ["aten", "prim", "prims", "quantized", "_quantized", "mkldnn", "mkldnn_prepacked", "onednn", "profiler"]
)
_EFFECTS: Final = {
    "prints": "prim::Print aten::_print",
    "sets the random state": "aten::manual_seed aten::seed",
    "draws random numbers": "aten::rand aten::rand_like aten::randn aten::randn_like aten::randint"
    " aten::randint_like aten::randperm aten::bernoulli aten::bernoulli_ aten::normal aten::normal_"
    " aten::uniform_ aten::exponential_ aten::cauchy_ aten::geometric_ aten::log_normal_ aten::random_"
    " aten::multinomial aten::poisson aten::binomial",
}
_FILE_WORD: Final = re.compile(rb"\b(save|from_file|getattr)\b")
# As torch writes it. With another text, put together or with escapes, getattr reaches any operator.
_PLAIN_GETATTR: Final = re.compile(rb"\bgetattr(?=\([\w.()]+, \"\w+\"\))")
_LITERALS: Final = (ast.Constant, ast.List, ast.Tuple, ast.Dict, ast.UnaryOp, ast.USub, ast.Load)


def check_operators(names: Iterable[str]) -> tuple[str, ...]:
    """Refuse operators that touch files or are of another library; return notes on other side effects.

    Parameters
    ----------
    names
        Qualified names, such as ``aten::conv2d``.

    Raises
    ------
    ModelError
        Naming the operator.
    """
    used = sorted(set(names))
    for name in used:
        if name in _FILES:
            raise _touches_files(name)
        if name.partition("::")[0] not in _NAMESPACES:
            raise unknown_operator(name)
    return tuple(
        f"its code {effect} ({', '.join(found)})"
        for effect, operators in _EFFECTS.items()
        if (found := [name for name in operators.split() if name in used])
    )


def _touches_files(operator: str) -> ModelError:
    return ModelError(
        f"reads or writes files ({operator}): refused", "remove the operator and save the model again"
    )


def unknown_operator(name: str) -> ModelError:
    """Return the refusal of an operator of another library."""
    return ModelError(
        f"needs operator {name[:80]}, which is not one of this PyTorch's own: refused",
        "give the code that builds the model instead: path/to/file.py:factory",
    )


def check_code(texts: Iterable[bytes]) -> None:
    """Refuse the code of an archive if what runs while torch loads it might touch files.

    That are ``__setstate__``, default arguments and constants of classes. What runs later is told exactly by
    the graphs that torch makes of the code; a word in a text may be the name of an attribute.

    Raises
    ------
    ModelError
        Naming the operator.
    """
    codes = list(texts)
    words = [word for code in codes for word in _FILE_WORD.findall(_PLAIN_GETATTR.sub(b"", code))]
    # Each text by itself, as torch reads it: a quote opened in one could hide another.
    if words and any(map(_runs_when_loaded, codes)):
        word = words[0].decode()
        raise _touches_files(word if word == "getattr" else f"aten::{word}")


def _runs_when_loaded(code: bytes) -> bool:
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return True
    return b"__setstate__" in code or any(
        not isinstance(part, _LITERALS) for value in _evaluated(tree) for part in ast.walk(value)
    )


def _evaluated(tree: ast.AST) -> Iterable[ast.expr]:
    """Yield the expressions that torch evaluates while it compiles."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            yield from (*node.args.defaults, *filter(None, node.args.kw_defaults))
        elif isinstance(node, ast.ClassDef):
            yield from (
                line.value
                for line in node.body
                if isinstance(line, (ast.Assign, ast.AnnAssign)) and line.value and not _is_type(line)
            )


def _is_type(line: ast.Assign | ast.AnnAssign) -> bool:
    """Tell ``__annotations__["0"] = Type``, as attributes are declared whose name is no identifier."""
    target = line.targets[0] if isinstance(line, ast.Assign) else line.target
    return isinstance(target, ast.Subscript)
