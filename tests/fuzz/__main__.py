"""Break thousands of inputs, run the real command on each, and print what was refused and what went wrong.

Every input is remade from the seed and its number: ``--only NUMBER`` runs that one again and shows its end.
An input whose end breaks a rule is kept in the folder ``--keep``, by number, with its command line.
"""

import argparse
import gc
import importlib
import os
import shlex
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from .reasons import Reasons

REASONS = Reasons()

from . import warm  # noqa: E402 - what is imported before `REASONS` is not marked
from .bases import Base, lay_out, make_bases  # noqa: E402
from .cases import Case, make_case  # noqa: E402
from .commands import Options  # noqa: E402
from .near import near_misses  # noqa: E402
from .oracles import broken, lying_in  # noqa: E402
from .reasons import places, unreached  # noqa: E402
from .warm import Ended  # noqa: E402

COLD = "a new process"
AGAIN_EVERY = {"a second run": 50, COLD: 100}
"""Of so many inputs one is run again, or as a user does: the same bytes must come out."""
WHOLE = 10_000
"""Inputs among which each reason must be given that can be."""
TIMED = "compare"
"""The command that shows times, which are never the same."""


@dataclass(frozen=True, slots=True)
class Result:
    """What one input came to."""

    number: int
    family: str
    code: int
    seconds: float
    wrong: list[str]
    reasons: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Campaign:
    """Runs inputs by number; a copy of it works in every process."""

    seed: int
    bases: Sequence[Base]
    near: Sequence[Case]
    options: Options
    keep: Path
    folder: Path
    clean: dict[str, Ended] = field(default_factory=dict)

    def make(self, number: int) -> Case:
        """Make an input."""
        return make_case(self.seed, number, self.bases, self.options, self.near)

    def run(self, number: int) -> Result:
        """Make an input, run it, and judge its end."""
        case = self.make(number)
        clean = self._clean_end(case.base) if case.same else None
        self._noted.write_bytes(b"")
        REASONS.file = self._noted
        ended = self._end(case.files, case.arguments)
        REASONS.file = None
        wrong = broken(case, ended, clean, self.place)
        for way, every in AGAIN_EVERY.items():
            if number % every == 0 and TIMED not in case.arguments:
                seen = _seen(ended), lying_in(self.place)
                other = self._end(case.files, case.arguments, cold=way == COLD)
                if seen != (_seen(other), lying_in(self.place)):
                    wrong.append(f"{way} ends differently: {_seen(other)}")
        if wrong:
            self._keep(number, case, ended, wrong)
        reasons = set(self._noted.read_text().splitlines())
        return Result(number, case.family, ended.code, ended.seconds, wrong, reasons)

    @property
    def place(self) -> Path:
        """Return the folder in which this process runs inputs."""
        return self.folder / str(os.getpid())

    @property
    def _noted(self) -> Path:
        return self.folder / f"{os.getpid()}.reasons"

    def _clean_end(self, base: Base) -> Ended:
        if base.name not in self.clean:
            self.clean[base.name] = self._end(base.files, base.arguments)
        return self.clean[base.name]

    def _end(self, files: dict[str, bytes], arguments: Sequence[str], *, cold: bool = False) -> Ended:
        shutil.rmtree(self.place, ignore_errors=True)
        lay_out(files, self.place)
        return warm.run(arguments, self.place, cold=cold)

    def _keep(self, number: int, case: Case, ended: Ended, wrong: list[str]) -> None:
        kept = self.keep / str(number)
        shutil.rmtree(kept, ignore_errors=True)
        lay_out(case.files, kept)
        said = f"{case.family}\neqaudit {shlex.join(case.arguments)}\nexit code {ended.code}\n"
        (kept / "case").write_bytes(os.fsencode(said) + "\n".join(wrong).encode("utf-8", "backslashreplace"))
        (kept / "stdout").write_bytes(ended.stdout)
        (kept / "stderr").write_bytes(ended.stderr)


def _seen(ended: Ended) -> tuple[int, bytes, bytes]:
    return ended.code, ended.stdout, ended.stderr


_campaign: Campaign


def _run_one(number: int) -> Result:
    return _campaign.run(number)


def main() -> int:
    """Run the campaign; 1 when a rule was broken, or a whole run did not give every reason."""
    asked = _parse()
    if not warm.ENVIRONMENT.items() <= os.environ.items():
        os.execve(sys.executable, sys.orig_argv, os.environ | warm.ENVIRONMENT)  # noqa: S606 - this program
    warm.warm_up()
    warm.adopt_orphans()
    with tempfile.TemporaryDirectory() as folder:
        global _campaign  # noqa: PLW0603 - the forks inherit it
        bases = make_bases(Path(folder) / "bases")
        _campaign = Campaign(asked.seed, bases, near_misses(bases), _options(), asked.keep, Path(folder))
        gc.collect()
        gc.freeze()
        if asked.only is not None:
            return _show(_campaign.run(asked.only))
        return _summary(_run_all(asked), asked.keep)


def _parse() -> Any:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--inputs", type=int, default=WHOLE, help="run the numbers from 0 to this")
    parser.add_argument("--family", default="", help="of these run only those of families so named")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start no input after this")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="run one input and show its end")
    parser.add_argument(
        "--keep", type=Path, default=Path(tempfile.gettempdir()) / "eqaudit-fuzz", metavar="DIR"
    )
    return parser.parse_args()


def _options() -> Options:
    commands: Any = importlib.import_module("eqaudit.cli").app.commands
    return {
        name: [max(param.opts, key=len) for param in command.params if param.param_type_name == "option"]
        for name, command in commands.items()
    }


def _run_all(asked: Any) -> Iterator[Result]:
    deadline = time.monotonic() + asked.seconds
    numbers = iter(range(asked.inputs))
    if asked.family:
        numbers = filter(lambda number: _campaign.make(number).family.startswith(asked.family), numbers)
    with ProcessPoolExecutor(asked.jobs, get_context("fork"), warm.adopt_orphans) as pool:
        waiting: set[Future[Result]] = set()
        while True:
            while len(waiting) < 2 * asked.jobs and time.monotonic() < deadline:
                number = next(numbers, None)
                if number is None:
                    break
                waiting.add(pool.submit(_run_one, number))
            if not waiting:
                return
            future = next(as_completed(waiting))
            waiting.remove(future)
            yield future.result()


def _show(result: Result) -> int:
    for name in ("stdout", "stderr"):
        print(f"== {name}\n{(_campaign.place / name).read_text(errors='backslashreplace')}")
    known = places()
    for place in sorted(result.reasons):
        print(f"reason {place} {known[place]}")
    print(f"{_printable(result)} code {result.code}, {result.seconds:.1f} s")
    return 1 if result.wrong else 0


def _printable(result: Result) -> str:
    said = f"input {result.number} ({result.family}): {'; '.join(result.wrong) or 'no rule broken'};"
    return said.encode("ascii", "backslashreplace").decode()


def _summary(results: Iterator[Result], keep: Path) -> int:
    start = time.monotonic()
    families: Counter[tuple[str, int]] = Counter()
    given: Counter[str] = Counter()
    wrong, seconds = [], []
    for result in results:
        families[result.family.partition(":")[0], result.code] += 1
        given.update(result.reasons)
        seconds.append(result.seconds)
        if result.wrong:
            wrong.append(result)
            print(_printable(result), flush=True)
    codes = sorted({code for _, code in families})
    print("\n" + "".join(f"{text:>9}" for text in ["family", *[f"code {code}" for code in codes]]))
    for family in sorted({name for name, _ in families}):
        print(f"{family:27}" + "".join(f"{families[family, code]:9}" for code in codes))
    kept = _print_reasons(given, whole=len(seconds) >= WHOLE)
    spent = f"{time.monotonic() - start:.0f} s, at most {max(seconds, default=0):.1f} s of computing for one"
    print(f"\n{len(seconds)} inputs in {spent}")
    print(f"{len(wrong)} broke a rule" + (f", kept in {keep}" if wrong else ""))
    return 0 if kept and not wrong else 1


def _print_reasons(given: Counter[str], *, whole: bool) -> bool:
    """Print how often each reason was given, and the misses; return whether it is as promised."""
    known = places()
    beyond = unreached(known)
    print("\nreasons given, by module: how often each")
    for module in sorted({place.partition(":")[0] for place in known}):
        own = [place for place in known if place.partition(":")[0] == module]
        print(f"{module}: {sum(place in given for place in own)} of {len(own)}")
        for place in own:
            print(f"{given[place] or '-':>9}  {place.partition(':')[2]:>4} {known[place][:120]}")
    missed = [place for place in known if place not in given and place not in beyond]
    wrongly = [place for place in beyond if place in given]
    print(f"\n{len(given)} of {len(known)} reasons given, {len(beyond)} are known not to be")
    for told, found in (("never given", missed), ("given, and said not to be", wrongly)):
        for place in found:
            print(f"{told}: {place} {known[place][:120]}")
    return not wrongly and not (whole and missed)


if __name__ == "__main__":
    sys.exit(main())
