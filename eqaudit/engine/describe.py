"""What a report says of the tool, the model and the poses."""

from __future__ import annotations

import platform
import sys

import torch

from eqaudit import allocator
from eqaudit.engine.precision import uses_tf32
from eqaudit.groups import IDENTITY, Group, Pose, spanned_group
from eqaudit.loader import AuditModel
from eqaudit.plan import AUTO, AuditPlan
from eqaudit.report import GroupElement, GroupRecord, Model, Tool
from eqaudit.version import __version__


def describe_tool(plan: AuditPlan, model: AuditModel) -> Tool:
    """Write down what measures: versions, device, threads, seed."""
    return Tool(
        version=__version__,
        torch=str(torch.__version__),
        python=platform.python_version(),
        platform=f"{sys.platform}-{platform.machine()}",
        device=str(model.device),
        dtype=str(model.dtype or torch.float32).removeprefix("torch."),
        tf32=uses_tf32(model.device),
        threads=torch.get_num_threads(),
        seed=plan.inputs.seed,
        command=list(plan.command),
        allocator=allocator.describe(),
    )


def describe_model(model: AuditModel) -> Model:
    """Write down what is measured."""
    note = "; ".join(model.notes) or None
    return Model(model.spec, model.kind, model.sha256, model.parameters, note, model.weights_sha256)


def describe_poses(plan: AuditPlan) -> GroupRecord:
    """Write down the elements of the group, or the angles of a sweep and the group that they span."""
    if plan.angles:
        group = spanned_group(pose.element for pose in plan.poses)
        return GroupRecord(group.name, [_describe_pose(pose) for pose in plan.poses])
    if plan.group == AUTO:
        identity = Pose(str(IDENTITY), 0.0, IDENTITY)
        return GroupRecord(AUTO, [_describe_pose(pose) for pose in (identity, *plan.poses)])
    group = Group.named(plan.group)
    poses = [Pose(str(element), element.degrees, element) for element in group.elements]
    return GroupRecord(group.name, [_describe_pose(pose) for pose in poses])


def _describe_pose(pose: Pose) -> GroupElement:
    return GroupElement(pose.name, pose.degrees, pose.element.mirrored, pose.exact)
