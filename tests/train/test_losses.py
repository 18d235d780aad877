"""What the losses reward and what they leave alone."""

import pytest
import torch

from diskern.nets.disk_unet import Q_SOFT, DiskMaps
from diskern.train.losses import disk_loss, gaussian_nll, heat_loss, measurement_losses, read_at

RADIUS = torch.tensor([4.0])


def disks(*rows: tuple[float, ...]) -> torch.Tensor:
    out = torch.zeros(1, 8, 6)
    for i, row in enumerate(rows):
        out[0, i] = torch.tensor(row)
    return out


def maps(size: int = 32, **values: torch.Tensor) -> DiskMaps:
    blank = torch.zeros(1, size, size)
    names = ("heat", "log_w", "soft_q", "log_sigma_offset", "log_sigma_w", "log_sigma_q")
    table = {name: values.get(name, blank) for name in names}
    return DiskMaps(offset=values.get("offset", torch.zeros(1, 2, size, size)), **table)


def heat(*peaks: tuple[int, int, float], low: float = -5.0) -> torch.Tensor:
    out = torch.full((1, 32, 32), low)
    for row, col, value in peaks:
        out[0, row, col] = value
    return out


def test_a_found_disk_costs_less_than_a_missed_or_a_false_one() -> None:
    truth = disks((20.5, 30.5, 0, 0, 1.0, 1.0))  # the middle of cell (10, 15)
    found, missed = (heat_loss(h, truth, RADIUS) for h in (heat((10, 15, 5.0)), heat()))
    false = heat_loss(heat((10, 15, 5.0), (25, 3, 5.0)), truth, RADIUS)
    assert found < 0.1 * missed
    assert false > found + 1


def test_a_hardly_visible_disk_is_neither_taught_nor_punished() -> None:
    faint = disks((20.5, 30.5, 0, 0, 0.45, 1.0))
    said, unsaid = (heat_loss(h, faint, RADIUS) for h in (heat((10, 15, 5.0)), heat()))
    assert float(said - unsaid) == pytest.approx(0, abs=0.05)
    nothing = disks()
    assert heat_loss(heat((10, 15, 5.0)), nothing, RADIUS) > 1


def test_visibility_is_the_weight_of_a_disk() -> None:
    sure, half = (
        heat_loss(heat(), disks((20.5, 30.5, 0, 0, 1.0, 1), (50.5, 50.5, 0, 0, v, 1)), RADIUS)
        for v in (1.0, 0.5)
    )
    # Both are divided by the sum of the weights.
    assert float(sure) == pytest.approx(float(half), rel=0.05)
    assert torch.isfinite(heat_loss(heat(), disks((63.4, -0.4, 0, 0, 1, 1)), RADIUS))


def test_measurements_are_read_between_cells() -> None:
    rows = torch.arange(32.0)[None, :, None].expand(1, 32, 32)
    cols = torch.arange(32.0)[None, None, :].expand(1, 32, 32)
    truth = disks((21.3, 30.9, 0, 0, 1.0, 1.0))
    read, offset, weight = read_at(maps(log_w=rows, soft_q=cols), truth)
    position = (truth[0, 0, :2] + 0.5) / 2 - 0.5
    assert weight[0, 0].sum() == pytest.approx(1)
    assert (read["log_w"] * weight)[0, 0].sum() == pytest.approx(float(position[0]), abs=1e-5)
    assert (read["soft_q"] * weight)[0, 0].sum() == pytest.approx(float(position[1]), abs=1e-5)
    corners = torch.stack([read["log_w"], read["soft_q"]], -1)[0, 0] + offset[0, 0]
    assert corners == pytest.approx(position.expand(4, 2), abs=1e-5)


def test_truth_has_the_least_loss_and_direct_beams_no_excitation_error() -> None:
    q = 7.0
    truth = disks((20.5, 30.5, 1.5, q, 1.0, 1.0))
    exact = torch.full((1, 32, 32), float(torch.asinh(torch.tensor(q / Q_SOFT))))
    right = maps(log_w=torch.full((1, 32, 32), 1.5), soft_q=exact)
    assert [float(v) for v in measurement_losses(right, truth)] == pytest.approx(
        [0, 0, 0], abs=1e-6
    )
    wrong = maps(log_w=torch.full((1, 32, 32), 2.5), soft_q=-exact)
    assert all(float(v) > 0.4 for v in measurement_losses(wrong, truth)[1:])
    direct = disks((20.5, 30.5, 0, 0, 1.0, 0.0))
    assert [float(v) for v in measurement_losses(wrong, direct)[1:]] == [0, 0]


def test_likelihood_is_largest_at_the_true_spread() -> None:
    generator = torch.Generator().manual_seed(1)
    errors = 0.3 * torch.randn(20000, generator=generator)
    levels = torch.linspace(-2.5, 0.5, 61)
    losses = [float(gaussian_nll(errors.square(), s.expand_as(errors)).mean()) for s in levels]
    best = float(levels[losses.index(min(losses))].exp())
    assert best == pytest.approx(0.3, rel=0.05)


def test_total_is_the_weighted_sum_and_trains_every_map() -> None:
    truth = disks((20.5, 30.5, 1.5, 7.0, 1.0, 1.0))
    given = {
        name: torch.zeros(1, 32, 32, requires_grad=True)
        for name in ("heat", "log_w", "soft_q", "log_sigma_offset", "log_sigma_w", "log_sigma_q")
    }
    offset = torch.full((1, 2, 32, 32), 0.1, requires_grad=True)
    loss = disk_loss(maps(**given, offset=offset), truth, RADIUS, (1.0, 2.0, 3.0))
    sum_of_parts = loss.heat + loss.offset + 2 * loss.w + 3 * loss.q
    assert float(loss.total.detach()) == pytest.approx(float(sum_of_parts.detach()), rel=1e-5)
    loss.total.backward()
    assert all(t.grad is not None and bool(t.grad.any()) for t in (*given.values(), offset))
