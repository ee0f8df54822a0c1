"""Put the weights of a file onto a module: find the state dict in it, strip wrappers' prefixes, compare."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from eqaudit.errors import ModelError
from eqaudit.loader.checkpoint import Checkpoint, read_checkpoint
from eqaudit.loader.pickles import WEIGHTS_WAY_OUT, Opaque, Table, TensorSpec
from eqaudit.plan import WeightsFile
from eqaudit.pythonspec import user_code
from eqaudit.report import describe_shape

STATE_KEYS: Final = (
    *("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights", "params"),
    *("ema", "model_ema", "ema_state_dict", "state_dict_ema", "ema_model", "params_ema"),
)
"""Where training scripts keep the weights, in the order of preference: averaged ones come last."""
PREFIXES: Final = ("module.", "_orig_mod.", "model.", "net.", "network.")
"""What wrappers put before every name: data parallel, compiled, and trainers' own modules."""
_UNREAD: Final = {
    "qtensor": "a quantized tensor",
    "sparse": "a sparse tensor",
    "nested": "a nested tensor",
    "meta_tensor": "a tensor without values",
}
_DEEPEST: Final = 3
_SHOWN: Final = 3


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was loaded: the sha256 of the file, and what a reader of the report must know."""

    sha256: str
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Found:
    """A state dict inside a checkpoint: the keys that lead there, and what lies beside the way."""

    table: Table
    path: tuple[str, ...]
    beside: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Fit:
    """What of the weights has no place in the model, and what of the model no weights."""

    missing: list[str]
    unexpected: list[str]
    others: list[str]

    def __str__(self) -> str:
        named = {
            "missing": self.missing,
            "unexpected": self.unexpected,
            "of another shape or type": self.others,
        }
        return "; ".join(f"{len(found)} {kind} ({_few(found)})" for kind, found in named.items() if found)


def load_weights(module: nn.Module, spec: str, file: WeightsFile) -> Loaded:
    """Read a file of weights, check it whole, and load it onto a module.

    Nothing is unpickled. The state dict is the checkpoint itself or lies under one of `STATE_KEYS`; of the
    sequences of `PREFIXES`, the one is stripped that makes most names those of the model.

    Raises
    ------
    ModelError
        The file is refused or damaged, holds no weights, or does not fit the model.
    """
    checkpoint = read_checkpoint(file.path)
    found = _find(checkpoint.content, (), ())
    if found is None:
        raise ModelError(f"{file.path} holds no weights: {_describe(checkpoint.content)}", WEIGHTS_WAY_OUT)
    named = {name: part for name, part in found.table.items() if isinstance(name, str)}
    specs = {name: part for name, part in named.items() if isinstance(part, TensorSpec)}
    with user_code(spec, ModelError):
        own = module.state_dict()
    prefix = _choose_prefix(specs, own)
    places = {prefix + name for name, tensor in own.items() if isinstance(tensor, torch.Tensor)}
    _check_read(named, file, places)
    state = {name[len(prefix) :]: part for name, part in specs.items() if name.startswith(prefix)}
    fit = _load(module, spec, (checkpoint, state, _versions(found.table, prefix)), own)
    loaded = len(state) - len(fit.unexpected) - len(fit.others)
    fit.unexpected.extend(name for name in specs if not name.startswith(prefix))
    _check_fit(fit, spec, file, (len(specs), loaded))
    notes = [*_notes(file, found, specs, prefix, fit)]
    if checkpoint.foreign:
        notes.append(f"Python objects beside the weights were left out, not made: {_few(checkpoint.foreign)}")
    return Loaded(checkpoint.sha256, tuple(notes))


def _find(content: object, path: tuple[str, ...], beside: tuple[str, ...]) -> _Found | None:
    if not isinstance(content, Table):
        return None
    inner = {key: part for key, part in content.items() if isinstance(part, Table)}
    if len(path) < _DEEPEST:
        keys = [key for key in STATE_KEYS if key in inner] or (list(inner) if len(inner) == 1 else [])
        for key in keys:
            others = tuple(str(other) for other in content if other != key)
            found = _find(inner[key], (*path, str(key)), (*beside, *others))
            if found is not None:
                return found
    if any(_is_weight(name, part) for name, part in content.items()):
        others = tuple(str(name) for name, part in content.items() if not _is_weight(name, part))
        return _Found(content, path, (*beside, *others))
    return None


def _is_weight(name: object, part: object) -> bool:
    return isinstance(name, str) and (
        isinstance(part, TensorSpec) or (isinstance(part, Opaque) and part.is_tensor)
    )


def _check_read(table: Mapping[str, Any], file: WeightsFile, places: Collection[str]) -> None:
    """Refuse a state dict with tensors of a kind that is not read, or with something else in their place."""
    for name, part in table.items():
        if isinstance(part, Opaque) and (part.is_tensor or name in places):
            kind = next((kind for word, kind in _UNREAD.items() if word in part.name), "an object")
            raise ModelError(
                f"{file.path}: {name[:80]} is {kind} ({part.name[:80]}), which is not read",
                "save dense tensors of plain numbers: the weights before quantization, tensor.to_dense()",
            )


def _describe(content: object) -> str:
    if isinstance(content, Table):
        keys = [
            f"{key} ({part.name})" if isinstance(part, Opaque) else str(key) for key, part in content.items()
        ]
        return f"its keys are {_few(keys)}" if content else "it is empty"
    if isinstance(content, Opaque):
        return f"it is a Python object ({content.name[:80]}), which is not made"
    return "it is a lone tensor" if isinstance(content, TensorSpec) else f"it is {type(content).__name__}"


def _choose_prefix(names: Collection[str], own: Collection[str]) -> str:
    """Return the prefix that makes most names those of the model; of equals the shortest."""
    prefixes, front = [""], [""]
    for _ in range(_DEEPEST):
        longer = {before + prefix for before in front for prefix in PREFIXES}
        front = [prefix for prefix in sorted(longer) if any(name.startswith(prefix) for name in names)]
        prefixes += front

    def matches(prefix: str) -> int:
        return sum(name.startswith(prefix) and name[len(prefix) :] in own for name in names)

    return max(prefixes, key=matches)


def _versions(table: Table, prefix: str) -> dict[str, Any]:
    """Return the versions that modules wrote of themselves, under the names of the model."""
    plain = {
        name: dict(versions)
        for name, versions in (table.metadata or {}).items()
        if isinstance(name, str) and isinstance(versions, Table)
    }
    return {
        (name + ".").removeprefix(prefix).removesuffix("."): versions
        for name, versions in plain.items()
        if (name + ".").startswith(prefix)
    }


def _load(
    module: nn.Module,
    spec: str,
    given: tuple[Checkpoint, Mapping[str, TensorSpec], dict[str, Any]],
    own: Mapping[str, Any],
) -> _Fit:
    checkpoint, state, versions = given
    wrong = {name: part for name, part in state.items() if not _fits(part, own.get(name))}
    tensors = Table((name, checkpoint.tensor(part)) for name, part in state.items() if name not in wrong)
    # torch looks for the versions under this name.
    tensors._metadata = versions  # type: ignore[attr-defined] # noqa: SLF001
    with user_code(spec, ModelError), torch.no_grad():
        result = module.load_state_dict(tensors, strict=False)
    others = [f"{name}: {_difference(part, own[name])}" for name, part in wrong.items()]
    missing = [name for name in result.missing_keys if name not in wrong]
    return _Fit(missing, list(result.unexpected_keys), others)


def _fits(part: TensorSpec, own: object) -> bool:
    if not isinstance(own, torch.Tensor) or isinstance(
        own, nn.UninitializedParameter | nn.UninitializedBuffer
    ):
        return True
    if own.is_floating_point() and not part.dtype.is_floating_point:
        # Quantized or complex numbers: torch would convert them without a word.
        return False
    # Counters of one element are stored as vectors by old versions of torch; it reads them so.
    return part.shape == tuple(own.shape) or (part.shape == (1,) and not own.shape)


def _difference(part: TensorSpec, own: torch.Tensor) -> str:
    found, wanted = (describe_shape(tensor.shape) or "one number" for tensor in (part, own))
    if found == wanted:
        found, wanted = (str(tensor.dtype).removeprefix("torch.") for tensor in (part, own))
    return f"{found} in the file, {wanted} in the model"


def _check_fit(fit: _Fit, spec: str, file: WeightsFile, counts: tuple[int, int]) -> None:
    given, loaded = counts
    if loaded <= 0:
        raise ModelError(
            f"{file.path} does not fit {spec}: none of its {given} tensors has a place in the model: {fit}",
            "check that these weights belong to this code, and its --arg",
        )
    if file.strict and str(fit):
        raise ModelError(
            f"{file.path} does not fit {spec}: {fit}",
            "check the code and its --arg, or add --no-strict-weights to load what fits",
        )


def _notes(
    file: WeightsFile, found: _Found, specs: Mapping[str, TensorSpec], prefix: str, fit: _Fit
) -> Iterator[str]:
    parts = [f"weights: {len(specs)} tensors of {Path(file.path).name}"]
    if found.path:
        parts.append(f"key '{'.'.join(found.path)}'")
    if prefix:
        parts.append(f"prefix '{prefix}' removed")
    dtypes = {part.dtype for part in specs.values() if part.dtype.is_floating_point} - {torch.float32}
    if dtypes:
        parts.append("stored as " + ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in dtypes)))
    if found.beside:
        parts.append(f"ignored beside them: {_few(found.beside)}")
    yield ", ".join(parts)
    if str(fit):
        yield f"not all weights fit (--no-strict-weights; what is missing stays as the code made it): {fit}"


def _few(names: Collection[str]) -> str:
    shown = [name[:80] for name in list(names)[:_SHOWN]]
    rest = len(names) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest else "")
