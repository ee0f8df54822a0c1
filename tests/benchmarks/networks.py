"""The networks that are timed: LeNet at 28 px, a ResNet of 48 layers at 96 px, a U-Net at 128 px."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional


class Block(nn.Module):
    """Two convolutions beside a shortcut without parameters: every second pixel, new channels zero."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(after)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)
        self.stride, self.grown = stride, after - before

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features, (B, after, H / stride, W / stride)."""
        inner = self.norm2(self.conv2(self.relu(self.norm1(self.conv1(x)))))
        shortcut = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.grown))
        return functional.relu(inner + shortcut)


def lenet() -> nn.Module:
    """Return LeNet-5 for one channel of 28 x 28."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 120, 5, padding=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(120 * 7 * 7, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, 10),
    )


def resnet() -> nn.Module:
    """Return a residual network of 48 layers."""
    widths = (64, 64, 64, 128, 128, 256, 256)
    blocks = [
        Block(before, after, 1 if before == after else 2)
        for before, after in zip((64, *widths), widths, strict=False)
    ]
    stem = [nn.Conv2d(3, 64, 5, 2, 2, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 10))


class Double(nn.Sequential):
    """Two convolutions, each with its norm and rectifier."""

    def __init__(self, before: int, after: int) -> None:
        parts = [
            part
            for channels in (before, after)
            for part in (nn.Conv2d(channels, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU())
        ]
        super().__init__(*parts)


class UNet(nn.Module):
    """An encoder and a decoder of four steps; scores of one class."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        sizes = [width * 2**step for step in range(5)]
        self.down = nn.ModuleList(
            Double(before, after) for before, after in zip((3, *sizes), sizes, strict=False)
        )
        self.pool = nn.MaxPool2d(2)
        self.up = nn.ModuleList(Double(3 * size, size) for size in sizes[-2::-1])
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return scores of the image's size, (B, 1, H, W)."""
        kept = []
        for step, down in enumerate(self.down):
            x = down(self.pool(x) if step else x)
            kept.append(x)
        for up, beside in zip(self.up, kept[-2::-1], strict=True):
            larger = functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = up(torch.cat([larger, beside], dim=1))
        scores: torch.Tensor = self.head(x)
        return scores


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int]]] = {
    "lenet": (lenet, (1, 28, 28)),
    "resnet": (resnet, (3, 96, 96)),
    "unet": (UNet, (3, 128, 128)),
}


def make(name: str) -> tuple[nn.Module, tuple[int, int, int]]:
    """Return a network of random weights in eval mode, and its (C, H, W)."""
    build, shape = NETWORKS[name]
    torch.manual_seed(0)
    return build().eval(), shape
