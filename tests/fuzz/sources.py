"""Python code of a model or of images that has hostile names, says them, raises them, or ends its process."""

from collections.abc import Iterator
from random import Random

from . import values

SOURCE = """
from collections import OrderedDict
from torch import nn
import fcntl, functools, numpy as np, os, sys, torch, traceback

torch.manual_seed(0)
NAME = {name!r}
IMAGE = np.arange(192, dtype=np.float32).reshape(3, 8, 8) / 192


def called():
    stack = traceback.extract_stack()
    return {{frame.name for frame in stack}} | {{os.path.basename(frame.filename) for frame in stack}}


def pipes():
    found = [number for number in range(3, 99) if "pipe" in os.path.realpath(f"/proc/self/fd/{{number}}")]
    return [number for number in found if fcntl.fcntl(number, fcntl.F_GETFL) & os.O_WRONLY]


class Net(nn.Sequential):
    def forward(self, x):
        {forward}
        return super().forward(x).mean((2, 3))


def make():
    {make}
    return Net(OrderedDict([(NAME.replace(".", "") or "x", nn.Conv2d(3, 2, 3)), ("b", nn.ReLU())]))


def images():
    {images}
    return [IMAGE, IMAGE.transpose(0, 2, 1)]


made = {made}
"""
ACTS = (
    "print(NAME)",
    "os.write(2, NAME.encode('utf-8', 'replace') * 9)",
    "raise ValueError(NAME)",
    "raise KeyError(NAME)",
    "raise SystemExit(0)",
    "os._exit(0)",
    "sys.exit(NAME)",
    "raise KeyboardInterrupt",
    "os.kill(os.getpid(), 11)",
    "[os.write(pipe, b'{\\n') for pipe in pipes()]",
    "raise type(NAME.replace(chr(0), '')[:9] or 'E', (Exception,), {})(NAME)",
)
OUTPUTS = (
    "return {NAME: super().forward(x).mean((2, 3)), 'b': x}",
    "return None",
    "return NAME",
    "return x * float('nan')",
    "return x.double().to(torch.complex64)",
    "return [[x]] if x.sum() else {}",
    "return x.new_zeros(0)",
    "return functools.reduce(lambda nested, _: [nested], range(99), x)",
    "return torch.empty(1 << 45)",
    "return x.mean()",
    "if 'memory.py' in called(): raise RuntimeError('not enough memory')",
    "if 'network.py' in called(): return x.new_zeros(len(x), 2)",
    "if 'steps.py' in called(): return None",
    "if 'network.py' in called() and 'steps.py' not in called(): return None",
    "if '_seconds' in called(): raise ValueError(NAME)",
    "if 'loop.py' in called(): return x.new_zeros(len(x), 0)",
    "if 'loop.py' in called(): x = x[:1]",
    "assert x.shape[-1] == 16",
    "x.mul_(2)",
)
MODELS = (
    "return 5",
    "return Net",
    "return lambda x: x",
    "return {NAME: 1}",
    "Net.__deepcopy__ = lambda *_: 1 / 0",
    "Net.forward = lambda _, x: x[:, :, :, 0]",
    "Net.forward = lambda _, x: x[..., 0:4]",
    "Net.forward = lambda _, x: x.flatten(2)[..., :5]",
    "Net.forward = lambda _, x: x[:1]",
    "return torch.jit.script(nn.ReLU())",
)
IMAGES = (
    "return NAME",
    "return []",
    "return {}",
    "return [IMAGE[0, 0]]",
    "return [NAME]",
    "return [(IMAGE, NAME)]",
    "return 5",
    "return (IMAGE for _ in range(10**6))",
    "return [(IMAGE, 1), IMAGE]",
    "return [(IMAGE, 1), (IMAGE, IMAGE[0] > 0.5)]",
    "return [(IMAGE, 1), (IMAGE.transpose(0, 2, 1), 0)]",
    "return np.stack([IMAGE, IMAGE]), np.array([0, 1])",
    "return np.stack([IMAGE, IMAGE]), np.array([[0], [-1]])",
    "return IMAGE.astype(object)",
    "return [IMAGE * np.nan, IMAGE[:, :4]]",
    "return (IMAGE for _ in [])",
    "return [IMAGE, IMAGE.astype(complex)]",
)
FACTORIES = ("make", "made", "Net", "NAME", "images", "missing")


OWN = {"forward": OUTPUTS, "make": MODELS, "images": IMAGES}
"""What code of each kind does, beside `ACTS`."""


def source(random: Random) -> tuple[bytes, str, str]:
    """Return the source, the name of its model, and that of its images."""
    role = random.choice(tuple(OWN))
    act = random.choice((random.choice(OWN[role]), random.choice(ACTS), "pass"))
    made = random.choice(("make", "make()", "5", "None", "NAME"))
    factory = "make" if random.random() < 0.8 else random.choice(FACTORIES)
    images = "images" if role == "images" or random.random() < 0.3 else ""
    return written(role, act, values.string(random), made), factory, images


def every() -> Iterator[tuple[bytes, str, str]]:
    """Give each act of each kind of code once, likewise."""
    for role, own in OWN.items():
        for act in (*own, *ACTS):
            yield written(role, act), "make", "images" * (role == "images")
    for factory in FACTORIES:
        yield written("make", "Net.__deepcopy__ = lambda *_: 1 / 0", made="make()"), factory, ""


def written(role: str, act: str, name: str = "x", made: str = "make") -> bytes:
    """Return the source in which one function acts."""
    acts = dict.fromkeys(OWN, "pass") | {role: act}
    return SOURCE.format(name=name, made=made, **acts).encode("utf-8", "backslashreplace")
