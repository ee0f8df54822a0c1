"""What every kind of model becomes: one `AuditModel`, called on a batch, with named taps."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from eqaudit.errors import ModelError
from eqaudit.pythonspec import MESSAGE_LIMIT, one_line
from eqaudit.report import describe_shape

CONV_WEIGHT_RANK = 4
RAISED = re.compile(r"[\w.]*(Error|Exception)\b.*: ")
FLOAT32_BYTES = 4
DEEPEST_STRUCTURE = 64
BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True, slots=True)
class Tap:
    """A place in the model where a feature can be read: one module, by its dotted name, or one operation.

    ``opaque`` is a module of torch's own, inside which operations are no taps.
    """

    name: str
    type: str
    parameters: int
    opaque: bool = False


@dataclass(frozen=True, slots=True)
class Feature:
    """One tensor at one call of a tap, or of the model's output.

    ``value`` is a floating tensor, valid until the model goes on (clone to keep it); it is None where
    the tap returned something else, and ``reason`` then says what.
    """

    name: str
    call: int
    type: str
    parameters: int
    value: torch.Tensor | None
    reason: str | None

    def replace(self, value: torch.Tensor | None) -> Feature:
        """Return the same feature with another tensor."""
        return dataclasses.replace(self, value=value)


@dataclass(frozen=True, slots=True)
class Operation:
    """One call of an operator on data, by the name of its tap, also inside modules of torch's own.

    ``arguments`` are those of its schema by name; data is told by its shape (`torch.Size`), batch first, and
    other tensors, weights most of them, are there as they are, both also in lists. ``result`` is a shape too,
    None without one.
    """

    name: str
    arguments: Mapping[str, object]
    result: torch.Size | None


OnFeature = Callable[[Feature], None]
OnOperation = Callable[[Operation], None]
OnValue = Callable[[Tap, object], None]
OnEnter = Callable[[Tap], None]
InputShape = tuple[int | None, int | None, int | None]


class Runner(Protocol):
    """One kind of model. The same names and features come out of every kind."""

    def run(self, batch: torch.Tensor, on_value: OnValue | None, on_enter: OnEnter | None = None) -> object:
        """Call the model; hand what each tap returns to ``on_value``, in order of execution.

        ``on_enter`` is told of each module when it is called.
        """

    def names(self) -> set[str]:
        """Return the names of all modules."""

    def cast(self, dtype: torch.dtype) -> Runner:
        """Return a copy in another floating type."""

    def weights(self) -> Iterator[torch.Tensor]:
        """Return the floating parameters (all float constants where the kind keeps no parameters)."""

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return parameters and buffers by name."""


class WrappedRunner(Runner):
    """Another runner, of which something else is handed over: to be given a ``run``."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner

    def names(self) -> set[str]:
        """Return the names of the modules."""
        return self.runner.names()

    def cast(self, dtype: torch.dtype) -> Runner:
        """Return a copy in another floating type."""
        twin = copy.copy(self)
        twin.runner = self.runner.cast(dtype)
        return twin

    def weights(self) -> Iterator[torch.Tensor]:
        """Return the floating parameters."""
        return self.runner.weights()

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return parameters and buffers by name."""
        return self.runner.tensors()


@dataclass(slots=True)
class Conduct:
    """What the calls of a model did beside returning a value."""

    changes_input: bool = False
    changes_random_state: bool = False

    @contextlib.contextmanager
    def watch(self, given: torch.Tensor, images: torch.Tensor) -> Iterator[None]:
        """Compare images and random state, bit by bit, around a call that is ``given`` a copy."""
        state = _random_state(images.device)
        bits = BITS[images.element_size()]
        yield
        self.changes_random_state |= not torch.equal(state, _random_state(images.device))
        same = given.dtype == images.dtype and torch.equal(given.view(bits), images.view(bits))
        self.changes_input |= not same

    def join(self, other: Conduct) -> None:
        """Add what was seen by another process."""
        self.changes_input |= other.changes_input
        self.changes_random_state |= other.changes_random_state


def _random_state(device: torch.device) -> torch.Tensor:
    state = torch.get_rng_state()
    return state if device.type == "cpu" else torch.cat([state, torch.cuda.get_rng_state(device)])


@dataclass(frozen=True, slots=True)
class AuditModel:
    """A model that is ready to be measured: eval mode, gradients off, on its device.

    ``notes`` are things about the model that a reader of the report must know. ``input_shape`` is what a file
    says of the (C, H, W) that it takes, a size None where it takes several; ``fixed_batch`` the one batch
    size that it takes. Both are None where the file does not say.
    ``weights_sha256`` is of the file of weights that was loaded onto Python code. ``dtype`` is what it was
    converted to, batches with it; None for as it came, which ``stored`` then keeps. ``conduct`` is what its
    calls did so far, those of its copies with them.
    """

    spec: str
    kind: Literal["torchscript", "exported", "python"]
    sha256: str | None
    runner: Runner
    device: torch.device
    notes: tuple[str, ...] = ()
    input_shape: InputShape | None = None
    fixed_batch: int | None = None
    weights_sha256: str | None = None
    dtype: torch.dtype | None = None
    stored: Runner | None = None
    conduct: Conduct = field(default_factory=Conduct)

    @property
    def parameters(self) -> int:
        """How many numbers the model has learnt."""
        return sum(weight.numel() for weight in self.runner.weights())

    @property
    def first_channels(self) -> int | None:
        """Input channels of the first 4-dimensional weight: a guess at what the model takes."""
        shapes = (weight.shape for weight in self.runner.weights())
        return next((shape[1] for shape in shapes if len(shape) == CONV_WEIGHT_RANK), None)

    @property
    def fixed_sides(self) -> bool:
        """Whether the file says which height and width it takes."""
        return self.input_shape is not None and None not in self.input_shape[1:]

    def run(self, batch: torch.Tensor, on_feature: OnFeature | None = None) -> list[Feature]:
        """Call the model on a batch and return its output tensors.

        Parameters
        ----------
        batch
            Images, (B, C, H, W), on any device. The model gets a copy in its own precision.
        on_feature
            Called for each feature tensor, in order of execution.

        Raises
        ------
        ModelError
            The model raises; the message holds the cause.
        """
        calls: dict[str, int] = {}

        def deliver(tap: Tap, value: object) -> None:
            call = calls[tap.name] = calls.get(tap.name, -1) + 1
            if on_feature is not None:
                for feature in features_of(tap, call, value):
                    on_feature(self._widened(feature))

        try:
            images = batch.to(self.device, self.dtype)
            given = images.clone()
            with torch.no_grad(), self.conduct.watch(given, images):
                result = self.runner.run(given, deliver if on_feature else None)
        except (Exception, SystemExit) as error:
            shape = describe_shape(batch.shape)
            raise ModelError(f"the model raises on a batch of {shape}: {describe(error)}") from error
        outputs = features_of(Tap("output", type(result).__name__, 0), 0, result, separator=".")
        return [self._widened(output) for output in outputs]

    def _widened(self, feature: Feature) -> Feature:
        """Return half precision as float32, which holds the same numbers: errors must not be rounded too."""
        if self.dtype is None or feature.value is None or feature.value.element_size() >= FLOAT32_BYTES:
            return feature
        return feature.replace(feature.value.float())

    def cast(self, dtype: torch.dtype) -> AuditModel:
        """Return the model as it came, in another floating type.

        Raises
        ------
        ModelError
            The model cannot be copied or converted.
        """
        stored = self.stored or self.runner
        return dataclasses.replace(self, runner=_converted(stored, dtype), dtype=dtype, stored=stored)

    def twin(self) -> AuditModel:
        """Return a float64 copy of the model as it came, which takes float64.

        Raises
        ------
        ModelError
            The model cannot be copied or converted.
        """
        runner = _converted(self.stored or self.runner, torch.float64)
        return dataclasses.replace(self, runner=runner, dtype=None, stored=None)


def _converted(runner: Runner, dtype: torch.dtype) -> Runner:
    try:
        return runner.cast(dtype)
    except Exception as error:
        raise ModelError(f"it cannot be converted: {describe(error)}") from error


def features_of(tap: Tap, call: int, value: object, separator: str = "") -> Iterator[Feature]:
    """Split what a tap returned into one feature for each tensor.

    A lone tensor keeps the tap's name. Parts of a tuple, list, dict or dataclass are named by their
    place: ``encoder[1.0]``, ``output.mask``.
    """
    tensors = list(tensors_of(value))
    if not tensors:
        reason = f"returns {_kind(value)}, no tensor"
        yield Feature(tap.name, call, tap.type, tap.parameters, None, reason)
    for path, part in tensors:
        tensor = (part.dequantize() if part.is_quantized else part).detach()
        name = tap.name
        if len(tensors) > 1:
            place = ".".join(path)
            name += f"{separator}{place}" if separator else f"[{place}]"
        unusable = _unusable(tensor)
        value = None if unusable else tensor
        yield Feature(name, call, tap.type, tap.parameters, value, unusable)


def _unusable(tensor: torch.Tensor) -> str | None:
    """Say why a tensor cannot be measured; None: it can."""
    kind = str(tensor.dtype).removeprefix("torch.")
    if tensor.is_meta:
        return f"returns a {kind} tensor on the meta device, which has no values"
    if tensor.is_nested or tensor.layout != torch.strided:
        layout = "nested" if tensor.is_nested else str(tensor.layout).removeprefix("torch.")
        return f"returns a {layout} {kind} tensor, no dense one"
    if not tensor.ndim:
        return f"returns a {kind} number, no floating tensor"
    # Of eight bits nothing can be computed: float8 has no arithmetic.
    if not tensor.is_floating_point() or tensor.element_size() == 1:
        return f"returns a {kind} tensor, no floating tensor"
    return None


def describe(error: BaseException) -> str:
    """Say what a model raised, in one line: of TorchScript's own report, the line that matters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines and lines[0].startswith("The following operation failed in the TorchScript interpreter"):
        # A list of every backend may follow.
        return next((line for line in reversed(lines) if RAISED.match(line)), lines[-1])[:MESSAGE_LIMIT]
    return one_line(error)


def module_parameters(module: nn.Module) -> Iterator[torch.Tensor]:
    """Return the floating parameters of a module; its floating buffers where it has none."""
    found: list[torch.Tensor] = [weight for weight in module.parameters() if weight.is_floating_point()]
    return iter(found or [buffer for buffer in module.buffers() if buffer.is_floating_point()])


def is_opaque(type_name: str) -> bool:
    """Tell from the full name of its type whether a module is torch's own."""
    return type_name.startswith(("torch.nn.", "torch.ao.nn."))


def same_memory(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Tell whether two tensors are the same view of the same memory."""
    return one.data_ptr() == other.data_ptr() and one.shape == other.shape and one.stride() == other.stride()


def run_with_hooks(
    root: nn.Module,
    batch: torch.Tensor,
    taps: list[tuple[nn.Module, Tap]],
    on_value: OnValue | None,
    on_enter: OnEnter | None = None,
) -> object:
    """Call a module; tell ``on_enter`` of each tapped module inside it, and ``on_value`` what it returns."""
    if on_value is None:
        return root(batch)
    handles = [_hook(module, tap, on_value) for module, tap in taps]
    if on_enter is not None:
        handles += [_pre_hook(module, tap, on_enter) for module, tap in taps]
    try:
        return root(batch)
    finally:
        for handle in handles:
            handle.remove()


def _hook(module: nn.Module, tap: Tap, on_value: OnValue) -> RemovableHandle:
    return module.register_forward_hook(lambda _module, _inputs, value: on_value(tap, value))


def _pre_hook(module: nn.Module, tap: Tap, on_enter: OnEnter) -> RemovableHandle:
    return module.register_forward_pre_hook(lambda _module, _inputs: on_enter(tap))


def own_parameters(module: nn.Module) -> int:
    """Count the numbers in the parameters of a module and of what is inside it."""
    return sum(weight.numel() for weight in module.parameters())


def tensors_of(value: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], torch.Tensor]]:
    """Return each tensor in what a tap returned, with its place in that."""
    if len(path) > DEEPEST_STRUCTURE:
        raise ModelError(
            f"what it returns nests deeper than {DEEPEST_STRUCTURE} levels",
            "return tensors, or lists of them",
        )
    if isinstance(value, torch.Tensor):
        yield path, value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from tensors_of(part, (*path, str(key)))
    elif isinstance(value, (tuple, list)):
        for place, part in enumerate(value):
            yield from tensors_of(part, (*path, str(place)))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from tensors_of(getattr(value, field.name), (*path, field.name))


def _kind(value: object) -> str:
    if value is None:
        return "None"
    if isinstance(value, (tuple, list, Mapping)):
        return f"a {type(value).__name__} without tensors"
    return f"{type(value).__name__} values"
