"""`rounding`: an error that all but goes away in float64."""

from collections.abc import Iterator

from eqaudit.diagnosis.base import Rule, Scene, Suspect

WORTH_A_WORD = 1e-4
GONE = 0.1


def find(scene: Scene) -> Iterator[Suspect]:
    """Compare the audit's error with that in float64."""
    row = next((row for row in scene.report.gating_output.errors if row.element == str(scene.element)), None)
    error = None if row is None else row.error
    if error is None or error < WORTH_A_WORD or scene.error > GONE * error:
        return
    dtype = scene.report.tool.dtype
    evidence = f"the error is {error:.2g} in {dtype} and {scene.error:.2g} in float64"
    yield Suspect(evidence, None, "the model in float64", error, scene.error)


RULE = Rule("rounding", "accept it, or run the model in a wider type (--dtype float64)", find)
