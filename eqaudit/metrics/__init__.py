"""What is computed from pairs of tensors: sums that add up over images, and what they mean."""

from eqaudit.metrics.base import (
    Controls,
    GrownValues,
    Observed,
    Scene,
    Stack,
    Values,
    append_fields,
    choose,
    join,
)
from eqaudit.metrics.chance import VALUES_IN_CACHE, ChanceSums
from eqaudit.metrics.classes import Measured, Rerun, classify, classify_resampled, doubtful, negligible
from eqaudit.metrics.classification import Classification, ClassificationValues
from eqaudit.metrics.dense import DenseTask
from eqaudit.metrics.embedding import EmbeddingTask
from eqaudit.metrics.equivariance_error import (
    ErrorSums,
    PairNorms,
    Pairs,
    collect,
    compare,
    image_errors,
    norms,
    ordinary,
)
from eqaudit.metrics.segmentation import SegmentationTask, SegmentationValues

Task = Classification | SegmentationTask | DenseTask | EmbeddingTask
"""What the output is for: how one batch is compared, and what the values of all images mean."""

__all__ = [
    "VALUES_IN_CACHE",
    "ChanceSums",
    "Classification",
    "ClassificationValues",
    "Controls",
    "DenseTask",
    "EmbeddingTask",
    "ErrorSums",
    "GrownValues",
    "Measured",
    "Observed",
    "PairNorms",
    "Pairs",
    "Rerun",
    "Scene",
    "SegmentationTask",
    "SegmentationValues",
    "Stack",
    "Task",
    "Values",
    "append_fields",
    "choose",
    "classify",
    "classify_resampled",
    "collect",
    "compare",
    "doubtful",
    "image_errors",
    "join",
    "negligible",
    "norms",
    "ordinary",
]
