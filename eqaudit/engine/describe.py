"""What a report says of the tool, the model and the poses."""

from __future__ import annotations

import platform
import sys

import torch

from eqaudit.groups import IDENTITY, Group, Pose, spanned_group
from eqaudit.loader import AuditModel
from eqaudit.plan import AUTO, AuditPlan
from eqaudit.report import GroupElement, GroupRecord, Model, Tool
from eqaudit.version import __version__


def describe_tool(plan: AuditPlan, device: torch.device) -> Tool:
    """Write down what measures: versions, device, threads, seed."""
    return Tool(
        version=__version__,
        torch=str(torch.__version__),
        python=platform.python_version(),
        platform=f"{sys.platform}-{platform.machine()}",
        device=str(device),
        dtype="float32",
        tf32=device.type == "cuda" and torch.backends.cuda.matmul.allow_tf32,
        threads=torch.get_num_threads(),
        seed=plan.inputs.seed,
        command=list(plan.command),
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
