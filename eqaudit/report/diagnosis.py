"""Where equivariance breaks, why, and what it would take."""

from eqaudit.report.base import Record


class LieDerivative(Record, frozen=True):
    """How fast the equivariance error grows as the image starts to turn: per radian, relative to the feature.

    ``shift`` is what translations as fast as those of the turn cost: what it has in common with ``turn`` is
    no matter of rotation (aliasing, padding, a network that does not follow translations either).
    """

    turn: float
    shift: float


class LocalError(Record, frozen=True):
    """What one layer adds itself, given exact inputs: the error that is left when nothing before it breaks.

    ``local_error`` is relative, the root mean square over elements; ``share`` that of its square among all
    layers. ``elements`` are those at which it breaks, none of an exact layer. ``symmetrised_error`` is the
    error of the output with this layer alone replaced by its average over the group, None where not tried.
    ``lie_derivative`` is of the layer with all that is before it, None where its channels turn too.
    """

    name: str
    type: str
    local_error: float
    share: float
    elements: list[str] = []
    symmetrised_error: float | None = None
    lie_derivative: LieDerivative | None = None


class SizeTried(Record, frozen=True):
    """The error of the output at another input size, [H, W], which was run."""

    size: tuple[int, int]
    error: float


class CauseFound(Record, frozen=True):
    """One cause: a rule that applies to some layers, what was measured, and what helps.

    ``error_without`` is the error of the output in the experiment that takes the cause away, ``error_before``
    that beside it, ``removed`` the share that went. ``error_together`` is left without this cause and those
    ranked before it: what two causes do together is not the sum of what each does.
    """

    id: str
    explanation: str
    layers: list[str]
    evidence: list[str]
    fix: str
    experiment: str
    error_before: float
    error_without: float
    removed: float
    error_together: float
    sizes: list[SizeTried] = []


class Averaging(Record, frozen=True):
    """The output averaged over the group: its error, how far it is from the output, and the runs it takes."""

    error: float
    change: float
    runs: int


class Diagnosis(Record, frozen=True):
    """Where and why equivariance breaks: measured on a few images, in float64 where the model has it.

    ``error`` is that of the output at ``element``, the worst of ``group``, the elements that move pixels to
    pixels; ``first`` the first layer with an error of its own. ``reason`` says why nothing can be told.
    ``lie_derivative`` is that of the output, at small turns instead; ``lie_reason`` why there is none.
    """

    images: int
    dtype: str
    group: str
    element: str
    error: float | None
    first: str | None
    layers: list[LocalError]
    causes: list[CauseFound]
    averaged: Averaging | None = None
    reason: str | None = None
    lie_derivative: LieDerivative | None = None
    lie_reason: str | None = None
