"""`broken-field`: an operation that does not treat all channels of one field alike."""

from collections.abc import Iterator

from eqaudit.diagnosis.base import Rule, Scene, Suspect, asymmetry, constants_of, over_channels
from eqaudit.representations import Orthogonal

PER_CHANNEL = frozenset(
    {"batch_norm", "native_batch_norm", "instance_norm", "group_norm", "layer_norm", "prelu", "mul", "add"}
)
POINTWISE = frozenset({"relu", "leaky_relu", "gelu", "silu", "elu", "sigmoid", "tanh", "hardswish", "relu6"})


def find(scene: Scene) -> Iterator[Suspect]:
    """Look for weights of single channels, and for nonlinearities where channels mix."""
    for step in scene.network.breaking:
        action = None if step.action is None else step.action.at(scene.element, 0)
        if action is None:
            continue
        for operation in step.operations:
            if operation.name in POINTWISE and isinstance(action, Orthogonal):
                yield Suspect(f"{operation.name} acts on single channels, which turns mix", step)
            if operation.name in PER_CHANNEL:
                weights = (over_channels(constant, step) for constant in constants_of(operation))
                errors = (
                    asymmetry(each, step, scene.setting, scene.element)
                    for each in weights
                    if each is not None
                )
                largest = max((error for error in errors if error is not None), default=0.0)
                if largest > scene.network.limit:
                    differ = f"differ by {largest:.2g} between channels of one field"
                    yield Suspect(f"{operation.name}: its weights {differ}", step)
                else:
                    evidence = (
                        f"{operation.name}: not all channels that turn into each other are treated alike"
                    )
                    yield Suspect(evidence, step, likely=True)


RULE = Rule(
    "broken-field", "share the weights of such an operation within each field, as group layers do", find
)
