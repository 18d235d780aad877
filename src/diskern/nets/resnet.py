"""Residual networks on images, with the names and shapes of torchvision's weights.

He, Zhang, Ren & Sun, CVPR 2016, doi:10.1109/CVPR.2016.90, in the variant whose bottleneck
strides in its 3×3 convolution.  The names let ImageNet weights be read from a file that a user
has; nothing of torchvision is needed for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from diskern.errors import DiskernError

DEPTHS: dict[int, tuple[int, int, int, int]] = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
"""Blocks in each of the four stages."""
BOTTLENECK_FROM = 50
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_SPREAD = (0.229, 0.224, 0.225)
"""Of the channels of natural images in [0, 1]; the published weights expect inputs made unit by
them."""


class _Block(nn.Module):
    """What both kinds of block share: a branch that is added to the (projected) input."""

    expansion: ClassVar[int] = 1

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None

    def branch(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        same = x if self.downsample is None else self.downsample(x)
        out: Tensor = self.relu(self.branch(x) + same)
        return out


class BasicBlock(_Block):
    """Two 3×3 convolutions, for depths 18 and 34."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _convolution(inputs, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _convolution(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _projection(inputs, width, stride)

    def branch(self, x: Tensor) -> Tensor:
        """The residual."""
        x = self.relu(self.bn1(self.conv1(x)))
        out: Tensor = self.bn2(self.conv2(x))
        return out


class Bottleneck(_Block):
    """1×1, 3×3 and 1×1 convolutions, for depths 50, 101 and 152."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        wide = width * self.expansion
        self.conv1 = _convolution(inputs, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _convolution(width, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = _convolution(width, wide, 1)
        self.bn3 = nn.BatchNorm2d(wide)
        self.downsample = _projection(inputs, wide, stride)

    def branch(self, x: Tensor) -> Tensor:
        """The residual."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        out: Tensor = self.bn3(self.conv3(x))
        return out


class ResNet(nn.Module):
    """Images to logits.

    Parameters
    ----------
    depth : 18, 34, 50, 101 or 152.
    classes : number of logits.
    width : channels of the first stage; 64 is the published network.

    Raises
    ------
    DiskernError
        For a depth that is none of these, or no classes.
    """

    def __init__(self, depth: int = 18, classes: int = 1000, width: int = 64) -> None:
        super().__init__()
        if depth not in DEPTHS:
            known = ", ".join(map(str, DEPTHS))
            raise DiskernError(f"depth={depth} is no published ResNet; use {known}")
        if classes < 1 or width < 1:
            raise DiskernError(f"classes={classes} and width={width} must be positive")
        block = Bottleneck if depth >= BOTTLENECK_FROM else BasicBlock
        self.conv1 = _convolution(3, width, 7, 2)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        inputs = width
        for stage, count in enumerate(DEPTHS[depth]):
            inner = width * 2**stage
            blocks = []
            for place in range(count):
                stride = 2 if stage and not place else 1
                blocks.append(block(inputs, inner, stride))
                inputs = inner * block.expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(inputs, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """(B, classes) logits of (B, H, W) or (B, 3, H, W) images.

        Grey images are seen by all three input channels alike.
        """
        if images.ndim == 3:
            images = images[:, None].expand(-1, 3, -1, -1)
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        for stage in range(1, 5):
            x = self.get_submodule(f"layer{stage}")(x)
        out: Tensor = self.fc(self.avgpool(x).flatten(1))
        return out


def unit_images(images: Tensor) -> Tensor:
    """(B, 3, H, W) inputs of the published weights from (B, H, W) grey images in [0, 1]."""
    mean, spread = (
        torch.tensor(v, dtype=images.dtype, device=images.device)[:, None, None]
        for v in (IMAGENET_MEAN, IMAGENET_SPREAD)
    )
    return (images[:, None] - mean) / spread


def parameter_count(net: nn.Module) -> int:
    """Number of trained values."""
    return sum(p.numel() for p in net.parameters())


def load_pretrained(net: ResNet, path: str | Path) -> bool:
    """Load weights with torchvision's names, such as those trained on ImageNet, into a network.

    Parameters
    ----------
    path : a ``.safetensors`` file.

    Returns
    -------
    Whether the last layer fitted too; where the number of classes differs it keeps its random
    start, to be trained.

    Raises
    ------
    DiskernError
        For another kind of file (pickles are never opened), or weights of another network.
    """
    source = Path(path)
    if source.suffix != ".safetensors":
        raise DiskernError(
            f"{source.name}: weights are read from .safetensors only, for other files can run "
            "code; convert it once where you trust it: safetensors.torch.save_file("
            f"torch.load({source.name!r}, weights_only=True), 'resnet.safetensors')"
        )
    try:
        given = load_file(source)
    except (OSError, SafetensorError) as error:
        raise DiskernError(f"{source} cannot be read as safetensors: {error}") from error
    own = net.state_dict()
    fits = given.get("fc.weight", Tensor()).shape == own["fc.weight"].shape
    body = {k: v for k, v in given.items() if fits or not k.startswith("fc.")}
    _check_fit(source, body, own, whole=fits)
    net.load_state_dict(body, strict=False)
    return bool(fits)


def _check_fit(
    source: Path, given: Mapping[str, Tensor], own: Mapping[str, Tensor], *, whole: bool
) -> None:
    """Every weight of the network is there in its shape, and none besides."""
    # Counters of batches came to the format later; they change nothing in use.
    wanted = {
        k: v.shape
        for k, v in own.items()
        if not k.endswith("num_batches_tracked") and (whole or not k.startswith("fc."))
    }
    for name, shape in wanted.items():
        if name not in given or given[name].shape != shape:
            found = tuple(given[name].shape) if name in given else "nothing"
            raise DiskernError(
                f"{source} holds another network: {name} is {found}, not {tuple(shape)}; "
                "choose the depth it was trained with"
            )
    odd = sorted(set(given) - set(own))
    if odd:
        raise DiskernError(
            f"{source} holds another network: {odd[0]} has no place; choose the depth it was "
            "trained with"
        )


def _convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)


def _projection(inputs: int, outputs: int, stride: int) -> nn.Module | None:
    """To the branch's size, where that differs."""
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(_convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))
