"""The network's frame: sizes, speed-relevant shape, what it may and may not depend on."""

import pytest
import torch

from diskern.bragg.disk_probe import Probe
from diskern.nets.disk_inputs import disk_maps, kernel_ring
from diskern.nets.disk_unet import DiskUNet


def inputs(count: int = 2, size: int = 64, radius: float = 4.0) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    patterns = torch.poisson(torch.full((count, size, size), 2.0), generator=generator)
    probe = torch.tensor(Probe.synthetic((size, size), radius).image, dtype=torch.float32)
    r, e, f = (torch.full((count,), v) for v in (radius, 0.6, 1.0))
    return patterns, probe.expand(count, -1, -1), r, e, f


def test_the_network_is_small_and_halves_the_grid() -> None:
    net = DiskUNet(16)
    assert sum(p.numel() for p in net.parameters()) < 500_000
    for size in (64, 128):
        maps = net(*inputs(size=size))
        assert maps.heat.shape == (2, size // 2, size // 2)
        assert maps.offset.shape == (2, 2, size // 2, size // 2)


def test_every_parameter_is_used() -> None:
    net = DiskUNet(8)
    maps = net(*inputs())
    sum(getattr(maps, n).square().sum() for n in vars(maps)).backward()
    assert all(p.grad is not None for p in net.parameters())


@torch.no_grad()
def test_a_widened_network_says_nearly_the_same() -> None:
    torch.manual_seed(1)
    narrow = DiskUNet(8).eval()
    for weight in narrow.parameters():
        weight.data += 0.2 * torch.randn_like(weight)
    wide = narrow.widened(24).eval()
    first, second = narrow(*inputs()), wide(*inputs())
    assert wide.width == 24
    assert not torch.equal(first.heat, second.heat)
    for name, values in vars(first).items():
        off = getattr(second, name) - values
        assert float(off.square().mean().sqrt()) < 0.3 * float(values.std()), name


def test_copies_of_a_channel_can_part_ways() -> None:
    wide = DiskUNet(8).widened(16)
    first = wide.down[1][0][0].weight
    assert not torch.equal(first[0], first[1])


@torch.no_grad()
def test_half_the_digits_say_the_same() -> None:
    net = DiskUNet(16).eval()
    whole = net(*inputs())
    with torch.autocast("cpu", torch.bfloat16):
        half = net(*inputs())
    assert half.heat.dtype == torch.float32
    assert float((whole.heat - half.heat).abs().max()) < 0.05


def test_the_ring_lies_outside_the_disk() -> None:
    radius, edge = torch.tensor([3.0, 8.0]), torch.tensor([0.5, 1.0])
    ring = kernel_ring((64, 64), radius, edge)
    assert ring.sum((1, 2)) == pytest.approx([1, 1], abs=1e-5)
    rows = torch.arange(64) - 32
    r = torch.hypot(rows[:, None].float(), rows[None].float())
    for image, size in zip(ring, radius, strict=True):
        assert float(image[r < size].sum()) < 0.05


def test_signal_to_noise_map_is_that_of_a_matched_filter() -> None:
    # On an even background the map's values are normal deviates.
    generator = torch.Generator().manual_seed(2)
    patterns = torch.poisson(torch.full((4, 128, 128), 20.0), generator=generator)
    probe = torch.tensor(Probe.synthetic((128, 128), 5.0).image, dtype=torch.float32)
    r, e = torch.full((4,), 5.0), torch.full((4,), 0.6)
    compressed = 2 * disk_maps(patterns, probe.expand(4, -1, -1), r, e)[:, 1]
    ratio = 2 * torch.copysign(torch.expm1(compressed.abs()), compressed)
    assert float(ratio.std()) == pytest.approx(1, abs=0.15)
    assert float(ratio.mean()) == pytest.approx(0, abs=0.05)


def test_shifted_patterns_give_shifted_maps() -> None:
    patterns, probes, r, e, f = inputs(1, 128)
    patterns[0, 60:68, 50:58] += 400
    net = DiskUNet(8).eval()
    # The deepest level has cells of 16 px; whole ones leave nothing but the border to differ.
    with torch.inference_mode():
        here = net(patterns, probes, r, e, f).heat[0, 16:40, 16:40]
        there = net(patterns.roll((16, 16), (1, 2)), probes, r, e, f).heat[0, 24:48, 24:48]
    assert float((here - there).abs().max()) < 0.05 * float(here.abs().max())


def test_one_probe_serves_all_patterns() -> None:
    patterns, probes, r, e, f = inputs(3)
    net = DiskUNet(8).eval()
    with torch.inference_mode():
        each = net(patterns, probes, r, e, f)
        shared = net(patterns, probes[:1], r[:1], e[:1], f[:1])
    assert torch.allclose(each.heat, shared.heat, atol=1e-5)


def test_what_is_read_twice_turns_with_the_pattern() -> None:
    torch.manual_seed(4)
    patterns, probes, r, e, f = inputs()
    patterns[:, 20:28, 30:38] += 40
    net = DiskUNet(8).eval()
    # The middle of an even number of pixels lies between two: the probe's moves by one.
    upside_down = probes.flip(1, 2).roll((1, 1), (1, 2))
    with torch.inference_mode():
        for twice in (True, False):
            here = net(patterns, probes, r, e, f, twice=twice)
            there = net(patterns.flip(1, 2), upside_down, r, e, f, twice=twice)
            alike = torch.allclose(here.heat.flip(1, 2), there.heat, atol=1e-4)
            alike &= torch.allclose(-here.offset.flip(2, 3), there.offset, atol=1e-4)
            assert alike == twice
