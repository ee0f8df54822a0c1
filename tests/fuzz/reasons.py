"""Which of its reasons to refuse an input eqaudit has given: the places of its source that say no.

A reason is a ``raise`` of something new, a call of a function that only fails, or the return of a finding.
Each place calls back before it acts: the source is marked when it is imported, and in nothing else changed.

Counted is what a file or a command line can be answered with. A built-in exception tells a programmer of a
mistake, unless the module that raises it catches such: then it is on its way to a refusal. An internal error
is a bug by definition. `ELSEWHERE` are the modules that answer something else than the input.
"""

import ast
import builtins
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from .unreached import UNREACHED

PACKAGE = "eqaudit"
CALLBACK = "_fuzz_reason"
FAILING = "_fail"
FINDING = "Finding"
BUGS = {"InternalError"}
ELSEWHERE = {
    "eqaudit.api": "the arguments of Python's own functions",
    "eqaudit.cli.github": "the environment of a CI job",
    "eqaudit.engine.ranks": "the other processes of a job",
    "eqaudit.job": "the environment of torchrun",
    "eqaudit.requirements": "the packages that are installed",
}


class Reasons:
    """A file in which a run notes the reasons that it gives, of modules imported since."""

    def __init__(self) -> None:
        self.file: Path | None = None
        setattr(builtins, CALLBACK, self._note)
        sys.meta_path.insert(0, _Finder())

    def _note(self, reason: str) -> None:
        if self.file is not None:
            with self.file.open("a") as file:
                file.write(f"{reason}\n")


def places(root: Path = Path(__file__).parents[2]) -> dict[str, str]:
    """Return every place of the package that is counted, as ``module:line``, and what it says."""
    known: dict[str, str] = {}
    for path in sorted(root.joinpath(PACKAGE).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        known |= mark(".".join(parts).removesuffix(".__init__"), path.read_bytes())[1]
    return known


def mark(module: str, source: bytes) -> tuple[ast.Module, dict[str, str]]:
    """Return the source of a module whose places call back, and those places as `places` does."""
    tree = ast.parse(source)
    marks = _Marks(module, tree)
    return ast.fix_missing_locations(tree if module in ELSEWHERE else marks.visit(tree)), marks.known


def unreached(known: dict[str, str]) -> dict[str, str]:
    """Return the places of `UNREACHED` and why; raises ValueError where an entry is not one place."""
    found = {}
    for said, why in UNREACHED.items():
        module, _, words = said.partition(": ")
        fitting = [at for at in known if at.partition(":")[0] == module and words in known[at]]
        if len(fitting) != 1:
            raise ValueError(f"{said!r} is {len(fitting)} places, expected 1")
        found[fitting[0]] = why
    return found


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Find a module of the package as the interpreter does, to be marked."""
        if name.partition(".")[0] != PACKAGE:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        """Compile the marked source, past the cache: what is marked must not be kept there."""
        marked, _ = mark(fullname, self.get_data(self.path))
        code: CodeType = compile(marked, self.path, "exec", dont_inherit=True)
        return code


class _Marks(ast.NodeTransformer):
    def __init__(self, module: str, tree: ast.Module) -> None:
        self.module = module
        self.known: dict[str, str] = {}
        handlers = [node.type for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler) and node.type]
        self.caught = {part.id for kind in handlers for part in ast.walk(kind) if isinstance(part, ast.Name)}
        self.finds = False

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        before, self.finds = self.finds, node.returns is not None and FINDING in ast.unparse(node.returns)
        found = self.generic_visit(node)
        self.finds = before
        return found

    def visit_Raise(self, node: ast.Raise) -> Any:
        if not isinstance(node.exc, ast.Call):
            return node
        name = ast.unparse(node.exc.func)
        told = name in BUGS or (hasattr(builtins, name) and not {name, "Exception"} & self.caught)
        return node if told else self._marked(node, node.exc)

    def visit_Expr(self, node: ast.Expr) -> Any:
        fails = isinstance(node.value, ast.Call) and ast.unparse(node.value.func).endswith(FAILING)
        return self._marked(node, node.value) if fails else node

    def visit_Return(self, node: ast.Return) -> Any:
        tells = self.finds and isinstance(node.value, ast.Tuple)
        return self._marked(node, node.value) if tells and node.value else node

    def _marked(self, node: ast.stmt, says: ast.expr) -> list[ast.stmt]:
        place = f"{self.module}:{node.lineno}"
        self.known[place] = ast.unparse(says)
        call = ast.Call(ast.Name(CALLBACK, ast.Load()), [ast.Constant(place)], [])
        return [ast.copy_location(ast.Expr(call), node), node]
