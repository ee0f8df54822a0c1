"""What is computed from pairs of tensors: sums that add up over images, and what they mean."""

from eqaudit.metrics.chance import ChanceSums
from eqaudit.metrics.classes import Measured, Rerun, classify, doubtful
from eqaudit.metrics.equivariance_error import ErrorSums, PairNorms, compare, image_errors, squared_norms

__all__ = [
    "ChanceSums",
    "ErrorSums",
    "Measured",
    "PairNorms",
    "Rerun",
    "classify",
    "compare",
    "doubtful",
    "image_errors",
    "squared_norms",
]
