"""The Python interface: the same engine in the caller's process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from eqaudit import diagnosis, engine
from eqaudit.data import Images, array_images, open_images
from eqaudit.errors import UsageError
from eqaudit.gate import Limits, judge
from eqaudit.limits import limited_layers, parse_limit_expression, shorthand_limits
from eqaudit.loader import AuditModel, copy_module, load_model, wrap_module
from eqaudit.plan import (
    AuditPlan,
    InputOptions,
    ModelSpec,
    PythonObject,
    RunOptions,
    SpaceOptions,
    Taps,
    TaskOptions,
    parse_angles,
    parse_data,
    parse_group,
    parse_layout,
    parse_model,
    parse_precision,
    parse_weights,
    require_exact_elements,
)
from eqaudit.report import Audited, Report
from eqaudit.reporters.terminal import render_failure

SPACE, TASK = SpaceOptions(), TaskOptions()


def audit(
    model: nn.Module | str | Path,
    data: NDArray[Any] | torch.Tensor | str | Path = "builtin:photos",
    *,
    targets: NDArray[Any] | torch.Tensor | None = None,
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
    path = None if weights is None else str(weights)
    spec = parse_weights(_spec_of(model), path, strict=strict_weights)
    precision = None if dtype is None else parse_precision(str(dtype).removeprefix("torch."))
    given = isinstance(data, (np.ndarray, torch.Tensor))
    options = InputOptions(**inputs) if given else InputOptions(data=parse_data(str(data)), **inputs)
    plan = AuditPlan(
        model=spec,
        inputs=options,
        run=RunOptions(device, dtype=precision),
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
    if diagnose:
        require_exact_elements(plan.group)
    if targets is not None and not given:
        raise UsageError("targets go with images in memory", "give --labels or --masks by InputOptions.truth")
    truth = None if targets is None else np.asarray(targets)
    images = array_images(np.asarray(data), options, truth) if given else open_images(options)
    where = engine.choose_device(plan.run)
    with torch.random.fork_rng(devices=[where] if where.type == "cuda" else []):
        if isinstance(model, nn.Module):
            audited = _audit_module(model, where, images, plan)
        else:
            audited = _run(load_model(spec, where), images, plan)
    return judge(audited.report, Limits(asked))


def _spec_of(model: nn.Module | str | Path) -> ModelSpec:
    if isinstance(model, nn.Module):
        return PythonObject(type(model).__module__, type(model).__name__, is_file=False)
    return parse_model(str(model), [])


def assert_equivariant(
    model: nn.Module | str | Path,
    data: NDArray[Any] | torch.Tensor | str | Path = "builtin:photos",
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


def _audit_module(model: nn.Module, device: torch.device, images: Images, plan: AuditPlan) -> Audited:
    name = type(model).__name__
    weights = plan.model.weights if isinstance(plan.model, PythonObject) else None
    if weights is not None:
        model = copy_module(model, name)
    home = next((weight.device for weight in model.parameters()), device)
    # A frozen TorchScript module has no mode.
    training = {module: module.training for module in model.modules() if hasattr(module, "training")}
    try:
        return _run(wrap_module(model, name, device, weights), images, plan)
    finally:
        model.to(home)
        for module, mode in training.items():
            module.training = mode


def _run(model: AuditModel, images: Images, plan: AuditPlan) -> Audited:
    return engine.audit(model, images, plan, _silent, diagnosis.explain if plan.diagnose else None)


def _silent(_stage: str, _done: int, _total: int) -> None:
    pass
