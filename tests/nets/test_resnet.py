"""Residual networks: the published sizes and names, and weights from files."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from diskern.errors import DiskernError
from diskern.nets.registry import build
from diskern.nets.resnet import (
    BasicBlock,
    Bottleneck,
    ResNet,
    load_pretrained,
    parameter_count,
    unit_images,
)

PUBLISHED = {18: 11_689_512, 34: 21_797_672, 50: 25_557_032, 101: 44_549_160, 152: 60_192_808}


@pytest.mark.parametrize(("depth", "count"), PUBLISHED.items())
def test_published_parameter_counts(depth: int, count: int) -> None:
    with torch.device("meta"):
        assert parameter_count(ResNet(depth)) == count


@pytest.mark.parametrize(
    ("depth", "shapes"),
    [
        (
            18,
            {
                "conv1.weight": (64, 3, 7, 7),
                "bn1.running_mean": (64,),
                "layer1.0.conv1.weight": (64, 64, 3, 3),
                "layer2.0.downsample.0.weight": (128, 64, 1, 1),
                "layer2.0.downsample.1.running_var": (128,),
                "layer4.1.bn2.weight": (512,),
                "fc.weight": (1000, 512),
                "fc.bias": (1000,),
            },
        ),
        (
            50,
            {
                "layer1.0.conv1.weight": (64, 64, 1, 1),
                "layer1.0.conv3.weight": (256, 64, 1, 1),
                "layer1.0.downsample.0.weight": (256, 64, 1, 1),
                "layer3.5.conv2.weight": (256, 256, 3, 3),
                "layer4.2.bn3.bias": (2048,),
                "fc.weight": (1000, 2048),
            },
        ),
    ],
)
def test_names_and_shapes_of_published_weights(depth: int, shapes: dict[str, tuple]) -> None:
    with torch.device("meta"):
        state = ResNet(depth).state_dict()
    assert {k: tuple(state[k].shape) for k in shapes} == shapes
    # 5 values of every normalisation, one of every convolution, two of the last layer.
    assert len(state) == {18: 122, 50: 320}[depth]
    assert "layer1.0.downsample.0.weight" in state or depth == 18
    assert "layer1.1.downsample.0.weight" not in state


def test_strides_halve_the_image_five_times() -> None:
    net = ResNet(50, 7, 8).eval()
    sizes: list[int] = []
    for stage in range(1, 5):
        net.get_submodule(f"layer{stage}").register_forward_hook(
            lambda m, i, out: sizes.append(out.shape[-1])
        )
    assert net(torch.zeros(2, 3, 64, 64)).shape == (2, 7)
    assert sizes == [16, 8, 4, 2]
    # The stride is in the 3×3 convolution, where the published weights expect it.
    first = net.get_submodule("layer2.0")
    assert isinstance(first, Bottleneck)
    assert (first.conv1.stride, first.conv2.stride) == ((1, 1), (2, 2))


def test_a_block_adds_its_input() -> None:
    block = BasicBlock(8, 8, 1).eval()
    torch.nn.init.zeros_(block.bn2.weight)
    x = torch.rand(1, 8, 5, 5)
    assert torch.equal(block(x), x)


def test_grey_and_unit_images() -> None:
    net = ResNet(18, 5, 8).eval()
    grey = torch.rand(2, 32, 32)
    coloured = grey[:, None].expand(-1, 3, -1, -1)
    assert torch.equal(net(grey), net(coloured))
    unit = unit_images(torch.full((1, 2, 2), 0.485))
    assert unit.shape == (1, 3, 2, 2)
    assert unit[0, 0].abs().max() < 1e-6
    assert unit[0, 1, 0, 0] == pytest.approx((0.485 - 0.456) / 0.224)


def test_pretrained_weights_but_for_other_classes(tmp_path: Path) -> None:
    torch.manual_seed(1)
    given = ResNet(18, 1000, 8)
    path = tmp_path / "imagenet.safetensors"
    save_file(given.state_dict(), path)
    torch.manual_seed(2)
    own, same = ResNet(18, 61, 8), ResNet(18, 1000, 8)
    last = own.fc.weight.clone()
    assert load_pretrained(own, path) is False
    assert torch.equal(own.get_parameter("layer4.1.conv2.weight"), given.layer4[1].conv2.weight)
    assert torch.equal(own.fc.weight, last)
    assert load_pretrained(same, path) is True
    assert torch.equal(same.fc.bias, given.fc.bias)


def test_early_weights_without_counters(tmp_path: Path) -> None:
    given = ResNet(18, 3, 8)
    state = {k: v for k, v in given.state_dict().items() if "num_batches" not in k}
    save_file(state, tmp_path / "old.safetensors")
    assert load_pretrained(ResNet(18, 3, 8), tmp_path / "old.safetensors")


def test_other_files_are_refused(tmp_path: Path) -> None:
    pickled = tmp_path / "resnet18.pth"
    pickled.write_bytes(pickle.dumps({"fc.weight": 1}))
    with pytest.raises(DiskernError, match=r"\.safetensors only.*weights_only=True"):
        load_pretrained(ResNet(18, 5, 8), pickled)
    renamed = tmp_path / "resnet18.safetensors"
    renamed.write_bytes(pickled.read_bytes())
    with pytest.raises(DiskernError, match="cannot be read as safetensors"):
        load_pretrained(ResNet(18, 5, 8), renamed)
    with pytest.raises(DiskernError, match="cannot be read"):
        load_pretrained(ResNet(18, 5, 8), tmp_path / "missing.safetensors")


@pytest.mark.parametrize(("depth", "width"), [(34, 8), (18, 16), (50, 8)])
def test_weights_of_another_network_are_refused(tmp_path: Path, depth: int, width: int) -> None:
    save_file(ResNet(depth, 5, width).state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(DiskernError, match="another network"):
        load_pretrained(ResNet(18, 5, 8), tmp_path / "other.safetensors")


def test_built_by_name() -> None:
    assert isinstance(build("resnet", {"depth": 18, "classes": 4, "width": 8}), ResNet)
    with pytest.raises(DiskernError, match="depth=19"):
        build("resnet", {"depth": 19})
    with pytest.raises(DiskernError, match="positive"):
        ResNet(18, 0)
