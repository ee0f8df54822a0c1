"""Python code of a model or of images that has hostile names, says them, raises them, or ends its process."""

from random import Random

from . import values

SOURCE = """
from collections import OrderedDict
from torch import nn
import numpy as np, os, sys, torch

NAME = {name!r}
IMAGE = np.arange(192, dtype=np.float32).reshape(3, 8, 8) / 192


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
    "x.mul_(2)",
)
MODELS = (
    "return 5",
    "return Net",
    "return lambda x: x",
    "return {NAME: 1}",
    "return torch.jit.script(nn.ReLU())",
)
IMAGES = (
    "return NAME",
    "return []",
    "return {}",
    "return [IMAGE[0, 0]]",
    "return [NAME]",
    "return [(IMAGE, NAME)]",
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


def source(random: Random) -> tuple[bytes, str, str]:
    """Return the source, the name of its model, and that of its images."""
    acts = dict.fromkeys(("forward", "make", "images"), "pass")
    role = random.choice(tuple(acts))
    own = {"forward": OUTPUTS, "make": MODELS, "images": IMAGES}[role]
    acts[role] = random.choice((random.choice(own), random.choice(ACTS), "pass"))
    made = random.choice(("make", "make()", "5", "None", "NAME"))
    text = SOURCE.format(name=values.string(random), made=made, **acts)
    factory = "make" if random.random() < 0.8 else random.choice(FACTORIES)
    images = "images" if role == "images" or random.random() < 0.3 else ""
    return text.encode("utf-8", "backslashreplace"), factory, images
