"""The Python interface: the same engine in the caller's process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from eqaudit import diagnosis, engine
from eqaudit.comparing import Shape, audit_each, compare_reports
from eqaudit.comparison import LETTERS, Comparison
from eqaudit.data import Images, array_images, open_images
from eqaudit.errors import UsageError
from eqaudit.gate import Limits, judge
from eqaudit.limits import limited_layers, parse_limit_expression, shorthand_limits
from eqaudit.loader import AuditModel, copy_module, load_model, wrap_module
from eqaudit.parsing import (
    parse_angles,
    parse_data,
    parse_device,
    parse_group,
    parse_layout,
    parse_model,
    parse_precision,
    parse_weights,
    require_exact_elements,
    require_types,
)
from eqaudit.plan import (
    AuditPlan,
    InputOptions,
    ModelSpec,
    PythonObject,
    RunOptions,
    SpaceOptions,
    Taps,
    TaskOptions,
)
from eqaudit.report import Report
from eqaudit.reporters.terminal import render_failure

SPACE, TASK = SpaceOptions(), TaskOptions()
ModelSource = nn.Module | str | Path
Array = NDArray[Any] | torch.Tensor
JUDGING = {"max_error", "limits", "diagnose"}
"""Options of `audit` that are of no use to a comparison."""


def audit(
    model: ModelSource,
    data: Array | str | Path = "builtin:photos",
    *,
    targets: Array | None = None,
    group: str = "D4",
    angles: str = "",
    mirror: bool = False,
    space: SpaceOptions = SPACE,
    task: TaskOptions = TASK,
    layers: tuple[str, ...] = (),
    layouts: tuple[str, ...] = (),
    taps: Taps = "modules",
    output: str = "",
    max_error: float | None = None,
    limits: tuple[str, ...] = (),
    diagnose: bool = False,
    weights: str | Path | None = None,
    strict_weights: bool = True,
    dtype: str | torch.dtype | None = None,
    device: str = "cpu",
    **inputs: Any,
) -> Report:
    """Audit a model and judge it, as ``eqaudit check`` or, with ``angles``, ``eqaudit sweep-angles`` does.

    Parameters
    ----------
    model
        A module, which is as before afterwards, or a MODEL as on the command line.
    data
        Float images (N, C, H, W) that reach the model untouched, or a SOURCE as on the command line.
    targets
        For images in memory: labels (N,), several labels (N, K) of 0 and 1, or masks (N, H, W).
    group
        ``Cn`` (turns) or ``Dn`` (with mirrors), as in ``C4``, ``D4``, ``C8``.
    angles
        ``START:STOP:STEP`` or angles with commas between, in degrees; then ``group`` is not used.
    mirror
        Whether mirrored images are turned by the angles too.
    space
        How angles that are no multiple of 90 degrees are turned.
    task
        What the model is for, and how its output is read.
    layers
        Glob patterns of layers to measure; every layer when empty.
    layouts
        What the dimensions of layers are, where it is not found: ``("blocks.*=BND",)``.
    taps
        ``operations``: functions called inside modules are layers too, as in ``layer1.0.relu``.
    output
        Which output is judged; the first when empty.
    max_error
        Allow this relative error instead of asking that the group holds.
    limits
        Limits as ``--limit`` takes them: ``("output.error < 1e-3", 'layers["*"].normalised < 0.1')``.
    diagnose
        Whether ``report.diagnose`` is to say where and why the group breaks, as ``eqaudit diagnose`` does.
    weights
        A file of weights, ``.pt``, ``.pth`` or ``.safetensors``: loaded onto a Python MODEL, or onto a copy
        of the module.
    strict_weights
        Whether every tensor must find its place; without, what fits is loaded, and the report says what not.
    dtype
        ``float32``, ``float64``, ``bfloat16`` or ``float16``: runs a copy of the model in it.
    device
        ``cpu`` or ``cuda[:N]``.
    inputs
        Fields of `eqaudit.plan.InputOptions`: ``samples``, ``seed``, ``batch_size``, ``input_shape``,
        ``resize``, ``mean``, ``std``, ``truth``.

    Returns
    -------
    Report
        ``report.gate.passed`` and ``report.verdict.sentence`` say what was found.

    Raises
    ------
    EqauditError
        The model or the images cannot be used.

    Examples
    --------
    >>> import eqaudit, torch
    >>> blur = torch.nn.AvgPool2d(3, stride=1, padding=1)
    >>> eqaudit.audit(blur, torch.rand(16, 1, 8, 8)).verdict.holds
    'D4'
    """
    asked = tuple(parse_limit_expression(text, "limits") for text in limits)
    asked += shorthand_limits(max_error=max_error)
    plan = AuditPlan(
        model=_spec_of(model, weights, strict=strict_weights),
        inputs=_input_options(data, inputs),
        run=_run_options(device, dtype),
        group=parse_group(group),
        angles=parse_angles(angles) if angles else (),
        mirror=mirror,
        space=space,
        task=task,
        layers=layers,
        layouts=tuple(parse_layout(text) for text in layouts),
        taps=taps,
        limited_layers=limited_layers(asked),
        output=output,
        diagnose=diagnose,
    )
    require_types(plan)
    if diagnose:
        require_exact_elements(plan.group)
    images = _open_images(data, targets, plan.inputs)
    with _loaded(model, plan.model, plan.run) as loaded:
        audited = engine.audit(loaded, images, plan, _silent, diagnosis.explain if diagnose else None)
    return judge(audited.report, Limits(asked))


def compare(
    models: Mapping[str, ModelSource] | Sequence[ModelSource],
    data: Array | str | Path = "builtin:photos",
    *,
    targets: Array | None = None,
    task: TaskOptions = TASK,
    weights: Sequence[str | Path | None] | None = None,
    strict_weights: bool = True,
    dtype: str | torch.dtype | None = None,
    device: str = "cpu",
    **options: Any,
) -> Comparison:
    """Audit models on the same images and test in pairs by how much they differ, as ``eqaudit compare`` does.

    Parameters
    ----------
    models
        Two to eight of what `audit` takes, which stay as they are; by names of yours, or under their own.
    weights
        A file of weights for each model, or None for one that has its own.
    options
        Of `audit`: ``group``, ``angles``, ``layers``, ``samples``, ... Limits are not for comparisons.

    Returns
    -------
    Comparison
        ``comparison.reports`` in the order of the models, ``comparison.differences`` between every two.

    Raises
    ------
    EqauditError
        A model or the images cannot be used, or a model cannot be given the images of the first; the text
        names the model by its letter.

    Examples
    --------
    >>> import eqaudit, torch
    >>> blurs = {f"blur {size}": torch.nn.AvgPool2d(size, 1, size // 2) for size in (3, 5)}
    >>> found = eqaudit.compare(blurs, torch.rand(16, 1, 8, 8), group="C4")
    >>> [report.model.spec for report in found.reports]
    ['blur 3', 'blur 5']
    """
    each = [*(models.values() if isinstance(models, Mapping) else models)]
    if not 1 < len(each) <= len(LETTERS):
        raise UsageError(f"compare takes 2 to {len(LETTERS)} models, not {len(each)}", "give a list of them")
    if weights and len(weights) != len(each):
        raise UsageError(
            f"there are {len(weights)} weights and {len(each)} models", "give None for a model without"
        )
    if refused := options.keys() & JUDGING:
        raise UsageError(f"a comparison takes no {', '.join(sorted(refused))}", "give it to eqaudit.audit")
    files = weights or [None] * len(each)
    specs = [_spec_of(model, file, strict=strict_weights) for model, file in zip(each, files, strict=True)]
    own = [type(model).__name__ if isinstance(model, nn.Module) else str(model) for model in each]
    names = list(models) if isinstance(models, Mapping) else own

    def audit_model(place: int, shape: Shape | None) -> Report:
        report = audit(
            each[place],
            data,
            targets=targets,
            task=task,
            weights=files[place],
            strict_weights=strict_weights,
            dtype=dtype,
            device=device,
            **options | {"input_shape": shape},
        )
        return msgspec.structs.replace(report, model=msgspec.structs.replace(report.model, spec=names[place]))

    reports = audit_each(names, options.get("input_shape"), audit_model)
    given = {name: options[name] for name in InputOptions.__struct_fields__ if name in options}
    inputs = _input_options(data, given | {"input_shape": reports[0].inputs.shape})
    run = _run_options(device, dtype)
    with ExitStack() as stack:
        loaded = [
            stack.enter_context(_loaded(model, spec, run)) for model, spec in zip(each, specs, strict=True)
        ]
        images = _open_images(data, targets, inputs)
        timing = engine.time_loaded(loaded, images, inputs, run, _silent).models
    return compare_reports(reports, task.threshold, timing, ())


def assert_equivariant(
    model: ModelSource,
    data: Array | str | Path = "builtin:photos",
    **options: Any,
) -> Report:
    """Audit a model, and fail a test where it does not pass; `audit` tells the options.

    Returns
    -------
    Report
        What was found, for further assertions.

    Raises
    ------
    AssertionError
        The group does not hold, or a limit is exceeded: says by how much, and which layer breaks first.
        It is raised under ``python -O`` too.
    EqauditError
        The model or the images cannot be used.

    Examples
    --------
    >>> import eqaudit, torch
    >>> blur = torch.nn.AvgPool2d(3, stride=1, padding=1)
    >>> eqaudit.assert_equivariant(blur, torch.rand(16, 1, 8, 8), group="C4").gate.passed
    True
    """
    __tracebackhide__ = True  # pytest then points at the test that called
    report = audit(model, data, **options)
    if report.gate is None or not report.gate.passed:
        raise AssertionError(render_failure(report))
    return report


def _spec_of(model: ModelSource, weights: str | Path | None, *, strict: bool) -> ModelSpec:
    if isinstance(model, nn.Module):
        spec: ModelSpec = PythonObject(type(model).__module__, type(model).__name__, is_file=False)
    else:
        spec = parse_model(str(model), [])
    return parse_weights(spec, None if weights is None else str(weights), strict=strict)


def _input_options(data: Array | str | Path, inputs: Mapping[str, Any]) -> InputOptions:
    if isinstance(data, (np.ndarray, torch.Tensor)):
        return InputOptions(**inputs)
    return InputOptions(data=parse_data(str(data)), **inputs)


def _run_options(device: str, dtype: str | torch.dtype | None) -> RunOptions:
    precision = None if dtype is None else parse_precision(str(dtype).removeprefix("torch."))
    return RunOptions(parse_device(device, "device"), dtype=precision)


def _open_images(data: Array | str | Path, targets: Array | None, options: InputOptions) -> Images:
    if isinstance(data, (np.ndarray, torch.Tensor)):
        return array_images(np.asarray(data), options, None if targets is None else np.asarray(targets))
    if targets is not None:
        raise UsageError("targets go with images in memory", "give --labels or --masks by InputOptions.truth")
    return open_images(options)


@contextmanager
def _loaded(model: ModelSource, spec: ModelSpec, run: RunOptions) -> Iterator[AuditModel]:
    """Load a model, or lend a module: afterwards it is where and in the mode that it was."""
    device = engine.choose_device(run)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        if not isinstance(model, nn.Module):
            yield load_model(spec, device)
            return
        name = type(model).__name__
        weights = spec.weights if isinstance(spec, PythonObject) else None
        if weights is not None:
            model = copy_module(model, name)
        home = next((weight.device for weight in model.parameters()), device)
        # A frozen TorchScript module has no mode.
        training = {module: module.training for module in model.modules() if hasattr(module, "training")}
        try:
            yield wrap_module(model, name, device, weights)
        finally:
            model.to(home)
            for module, mode in training.items():
                module.training = mode


def _silent(_stage: str, _done: int, _total: int) -> None:
    pass
