"""All rules, one file each."""

from eqaudit.diagnosis.base import Rule
from eqaudit.diagnosis.rules import (
    batch_statistics,
    border,
    broken_field,
    dropout,
    even_kernel,
    flatten,
    kernel,
    one_sided_padding,
    orbit_pooling,
    position_embedding,
    resize,
    rounding,
    subsampling,
)

RULES: tuple[Rule, ...] = tuple(
    module.RULE
    for module in (
        batch_statistics,
        border,
        broken_field,
        dropout,
        even_kernel,
        flatten,
        kernel,
        one_sided_padding,
        orbit_pooling,
        position_embedding,
        resize,
        rounding,
        subsampling,
    )
)
