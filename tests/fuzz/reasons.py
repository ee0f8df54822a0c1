"""Which of its reasons to refuse an input eqaudit has given: the places of its source that say no.

A reason is a ``raise`` of something new, a call of a function that only fails, or the return of a finding.
Each place calls back before it acts: the source is marked when it is imported, and in nothing else changed.
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

PACKAGE = "eqaudit"
CALLBACK = "_fuzz_reason"
FAILING = "_fail"
FINDING = "Finding"


class Reasons:
    """Every reason of the modules imported since, and a file in which a run notes those that it gives."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}
        self.file: Path | None = None
        setattr(builtins, CALLBACK, self._note)
        sys.meta_path.insert(0, _Finder(self))

    def _note(self, reason: str) -> None:
        if self.file is not None:
            with self.file.open("a") as file:
                file.write(f"{reason}\n")


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, reasons: Reasons) -> None:
        self.reasons = reasons

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Find a module of the package as the interpreter does, to be marked."""
        if name.partition(".")[0] != PACKAGE:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path, self.reasons)
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, path: str, reasons: Reasons) -> None:
        super().__init__(name, path)
        self.reasons = reasons

    def get_code(self, fullname: str) -> CodeType:
        """Compile the marked source, past the cache: what is marked must not be kept there."""
        tree = ast.parse(self.get_data(self.path))
        marked = ast.fix_missing_locations(_Marks(fullname, self.reasons.known).visit(tree))
        code: CodeType = compile(marked, self.path, "exec", dont_inherit=True)
        return code


class _Marks(ast.NodeTransformer):
    def __init__(self, module: str, known: dict[str, str]) -> None:
        self.module, self.known = module, known
        self.finds = False

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        before, self.finds = self.finds, node.returns is not None and FINDING in ast.unparse(node.returns)
        found = self.generic_visit(node)
        self.finds = before
        return found

    def visit_Raise(self, node: ast.Raise) -> Any:
        return node if node.exc is None or isinstance(node.exc, ast.Name) else self._marked(node, node.exc)

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
