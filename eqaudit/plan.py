"""What is asked, parsed and checked before anything heavy is imported."""

from fractions import Fraction
from typing import Any, Literal

import msgspec

from eqaudit.groups import Element, Group, Pose, angle_poses, element_poses, group_poses, spanned_group


class FileModel(msgspec.Struct, frozen=True, tag="file"):
    """A model file; its kind is found from its content."""

    path: str

    def __str__(self) -> str:
        return self.path


class WeightsFile(msgspec.Struct, frozen=True):
    """A file of weights for a model made by Python code; ``strict``: every tensor must find its place."""

    path: str
    strict: bool = True


class PythonObject(msgspec.Struct, frozen=True, tag="python"):
    """Something named in Python code: a factory, a class or an instance.

    ``source`` is a dotted module name, or the path of a ``.py`` file when ``is_file``. ``weights`` are loaded
    onto a model.
    """

    source: str
    attribute: str
    is_file: bool
    arguments: dict[str, Any] = {}
    weights: WeightsFile | None = None

    def __str__(self) -> str:
        return f"{self.source}:{self.attribute}"


class BuiltinData(msgspec.Struct, frozen=True, tag="builtin"):
    """Pictures that come with the installation: ``photos`` or ``tissue``."""

    name: str


class PathData(msgspec.Struct, frozen=True, tag="path"):
    """A folder of images, or a ``.npy`` / ``.npz`` file; ``array`` names one array of an archive."""

    path: str
    array: str = ""


ModelSpec = FileModel | PythonObject
MaskValues = Literal["index", "binary", "instances"]
Method = Literal["nearest", "bilinear", "bicubic", "spline"]
Extension = Literal["reflect", "zeros", "blank"]
Boundary = Literal["disc", "reflect", "zeros"]
PointsName = Literal["some", "all"]
TaskName = Literal["auto", "classification", "segmentation", "dense", "embedding"]
Scores = Literal["auto", "logits", "probabilities"]
Precision = Literal["float32", "float64", "bfloat16", "float16"]
Taps = Literal["modules", "operations"]
NO_LAYERS = "none"
USUAL_ORDERS = (8, 12, 16, 24)
AUTO = "auto"
AUTO_GROUPS = ("D1", "C2", "C4", "D4", "C8", "D8", "C16")
DataSpec = BuiltinData | PathData | PythonObject


class TruthOptions(msgspec.Struct, frozen=True):
    """Where labels or masks are; empty strings for none.

    ``labels`` is ``folders``, a CSV file with the header ``file,label``, or an array: ``FILE.npy``,
    ``FILE.npz:ARRAY``. ``masks`` is a folder of label images, paired with the images by stem.
    ``ignore_index`` is a mask value that never counts.
    """

    labels: str = ""
    masks: str = ""
    mask_values: MaskValues = "index"
    ignore_index: int | None = None


class InputOptions(msgspec.Struct, frozen=True):
    """How images become batches. ``samples`` 0 is all, ``batch_size`` 0 is measured; sizes are in pixels."""

    data: DataSpec = BuiltinData("photos")
    samples: int = 64
    seed: int = 0
    batch_size: int = 16
    input_shape: tuple[int, int, int] | None = None
    resize: tuple[int, int] | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    truth: TruthOptions = TruthOptions()


class RunOptions(msgspec.Struct, frozen=True):
    """Where and how the model runs. ``threads`` 0 leaves the default, ``dtype`` None the model as it is."""

    device: str = "cpu"
    threads: int = 0
    dtype: Precision | None = None
    tf32: bool = False


class SpaceOptions(msgspec.Struct, frozen=True):
    """How images and features are turned by angles that are no multiple of 90 degrees.

    ``margin`` is in pixels of the image; None for the boundary's own: a tenth of the inscribed circle for
    ``disc``, else the receptive radius. ``floor_samples`` 0 measures no floor. ``points`` says where layers
    are compared: at some cells of large maps, spread evenly, or at all.
    """

    boundary: Boundary = "disc"
    interpolation: Method = "spline"
    feature_interpolation: Method = "spline"
    margin: float | None = None
    floor_samples: int = 8
    floor_factor: float = 2.0
    points: PointsName = "some"


class TaskOptions(msgspec.Struct, frozen=True):
    """What the model is for, and how its output is read."""

    task: TaskName = "auto"
    scores: Scores = "auto"
    threshold: float = 0.5
    with_background: bool = False


class LayoutRule(msgspec.Struct, frozen=True):
    """What the dimensions of some layers are: one letter for each, of the layers that match a pattern."""

    pattern: str
    letters: str


class AuditPlan(msgspec.Struct, frozen=True, tag="audit"):
    """One audit: the model, the images, how they are turned, and what is measured.

    ``angles``, in degrees, make a sweep; without them the elements of ``group`` are measured. The group
    ``auto`` is all of `AUTO_GROUPS`. ``layouts`` fix what the dimensions of layers are. With ``taps``
    ``operations`` functions called inside modules are layers too. Each of
    ``limited_layers`` is the pattern of a limit, and must match a layer that is measured. Of the first image
    of ``drawn`` feature maps are returned for pictures; None for none. ``pooled``: of the unmoved image only,
    pooled over channels and over the image. ``diagnose`` asks too where and why
    the group breaks.
    """

    model: ModelSpec
    inputs: InputOptions = InputOptions()
    run: RunOptions = RunOptions()
    group: str = "D4"
    angles: tuple[Fraction, ...] = ()
    mirror: bool = False
    space: SpaceOptions = SpaceOptions()
    task: TaskOptions = TaskOptions()
    layers: tuple[str, ...] = ()
    layouts: tuple[LayoutRule, ...] = ()
    taps: Taps = "modules"
    limited_layers: tuple[str, ...] = ()
    output: str = ""
    command: tuple[str, ...] = ()
    drawn: InputOptions | None = None
    pooled: bool = False
    diagnose: bool = False

    @property
    def poses(self) -> tuple[Pose, ...]:
        """Every pose that is compared with the unmoved image."""
        if self.angles:
            return angle_poses(self.angles, mirror=self.mirror)
        if self.group == AUTO:
            tried = [Group.named(name) for name in AUTO_GROUPS]
            return element_poses(element for group in tried for element in group.moving)
        return group_poses(Group.named(self.group))

    @property
    def spanned(self) -> Group:
        """The smallest Cn or Dn that holds every pose, and of a sweep the quarter turns too."""
        elements = [pose.element for pose in self.poses]
        return spanned_group([*elements, *Group(4).elements] if self.angles else elements)

    @property
    def base_turns(self) -> tuple[Element, ...]:
        """The resampled turns at which the action of channels is fitted: it is composed at all others.

        A sweep does not say which turns its model knows, so the usual ones are tried.
        """
        if all(pose.exact for pose in self.poses):
            return ()
        orders = {self.spanned.rotations}
        if self.angles:
            orders = {order for order in orders if order <= max(USUAL_ORDERS)} | set(USUAL_ORDERS)
        turns = [Element(mirrored=False, k=1, n=order) for order in sorted(orders)]
        return tuple(turn for turn in turns if not turn.exact)


class LayersPlan(msgspec.Struct, frozen=True, tag="layers"):
    """List the layers of a model, without measuring."""

    model: ModelSpec
    inputs: InputOptions = InputOptions()
    run: RunOptions = RunOptions()
    taps: Taps = "modules"


class TimingPlan(msgspec.Struct, frozen=True, tag="timing"):
    """Measure how long each of several models takes for the same images; only the model differs."""

    models: tuple[ModelSpec, ...]
    inputs: InputOptions
    run: RunOptions


Plan = AuditPlan | LayersPlan | TimingPlan
