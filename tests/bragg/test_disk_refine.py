"""Positions at the statistical limit, honest uncertainties, masks, shapes, neighbours."""

from typing import Any

import numpy as np
import pytest
import torch
from disk_patterns import grid_places, paired, probe_of, simulate

from diskern.bragg import disk_refine
from diskern.bragg.disk_probe import Probe
from diskern.bragg.disk_refine import refine_disks
from diskern.bragg.disks import Candidates


def near(place: np.ndarray, off: float = 0.4, seed: int = 5) -> Candidates:
    """Starts that are off by up to so many px."""
    rng = np.random.default_rng(seed)
    start = place + rng.uniform(-off, off, place.shape)
    pattern = np.repeat(np.arange(len(place)), place.shape[1])
    return Candidates.at(pattern, start[..., 0].ravel(), start[..., 1].ravel())


def test_no_candidates_no_disks() -> None:
    empty = np.zeros((1, 96, 96), np.float32)
    assert len(refine_disks(empty, probe_of(), Candidates.at([], [], []))) == 0


@pytest.mark.parametrize("electrons", [600.0, 6000.0, 200_000.0])
def test_uniform_disks_reach_the_bound_without_bias(electrons: float) -> None:
    place = grid_places(40, 96, 26)
    seen = simulate(place, np.full((40, 9), electrons))
    disks = refine_disks(seen.counts, probe_of(), near(place))
    error, sigma, _ = paired(seen, disks)
    relative = error / seen.bound[..., None]
    limit = 1.12 if electrons > 1000 else 1.3
    assert np.sqrt(np.mean(relative**2)) < limit
    assert np.abs(np.mean(relative, axis=(0, 1))).max() < 4 / np.sqrt(360)
    z = error / sigma
    assert 0.85 < 1.4826 * np.median(np.abs(z)) < 1.15
    assert 0.85 < z.std() < 1.2
    number = disks.intensity.reshape(40, 9)
    pull = (number - electrons) / disks.sigma_intensity.reshape(40, 9)
    assert abs(pull.mean()) < 0.3
    assert 0.8 < pull.std() < 1.25
    assert np.median(disks.chi2) == pytest.approx(1, abs=0.2)


def test_no_position_between_the_pixels_is_preferred() -> None:
    fractions = np.linspace(-0.5, 0.5, 41)
    place = np.stack([48 + fractions, 48 - fractions], axis=1)[:, None]
    seen = simulate(place, np.full((41, 1), 1e7))
    error, _, _ = paired(seen, refine_disks(seen.counts, probe_of(), near(place)))
    wave = np.exp(2j * np.pi * fractions)
    assert np.abs(np.mean(error[:, 0, 0] * wave)) < 1.5e-3


def test_fringes_move_nothing_and_are_owned_up_to() -> None:
    place = grid_places(30, 96, 26)
    seen = simulate(place, np.full((30, 9), 40_000.0), contrast=0.9)
    disks = refine_disks(seen.counts, probe_of(), near(place))
    error, sigma, _ = paired(seen, disks)
    assert np.sqrt(np.mean(error**2)) < 0.12
    assert 0.85 < 1.4826 * np.median(np.abs(error / sigma)) < 1.2
    assert np.median(disks.order) >= 2
    rigid = refine_disks(seen.counts, probe_of(), near(place), orders=0)
    stiff, _, _ = paired(seen, rigid)
    assert np.sqrt(np.mean(stiff**2)) > 3 * np.sqrt(np.mean(error**2))


def test_a_mask_hides_what_lies_under_it() -> None:
    place = grid_places(12, 96, 26)
    seen = simulate(place, np.full((12, 9), 6000.0))
    mask = np.ones((96, 96), bool)
    mask[44:49] = False
    spoilt = seen.counts.copy()
    spoilt[:, ~mask] = 1e6
    candidates = near(place)
    error, sigma, _ = paired(seen, refine_disks(spoilt, probe_of(), candidates, mask=mask))
    assert np.sqrt(np.mean((error / sigma) ** 2)) < 1.3
    clean = refine_disks(seen.counts, probe_of(), candidates)
    _, whole, _ = paired(seen, clean)
    middle = np.s_[:, 3:6]
    assert np.median(sigma[middle] / whole[middle]) > 1.05
    assert np.median(sigma[:, :3] / whole[:, :3]) == pytest.approx(1, abs=0.05)


def test_overlapping_disks_are_fitted_together() -> None:
    rng = np.random.default_rng(2)
    first = 48 + rng.uniform(-0.5, 0.5, (60, 2))
    angle = rng.uniform(0, 2 * np.pi, 60)
    second = first + 9.0 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    place = np.stack([first, second], axis=1)
    seen = simulate(place, np.tile([30_000.0, 10_000.0], (60, 1)))
    disks = refine_disks(seen.counts, probe_of(), near(place))
    error, _, _ = paired(seen, disks)
    alone = [refine_disks(seen.counts, probe_of(), near(place[:, k : k + 1])) for k in (0, 1)]
    apart = np.stack([np.stack([d.row, d.col], axis=1) for d in alone], axis=1) - place
    assert np.sqrt(np.mean(error**2)) < 0.08
    assert np.sqrt(np.mean(apart**2)) > 2 * np.sqrt(np.mean(error**2))


@pytest.mark.parametrize("electrons", [1e4, 1e6])
def test_crowds_of_overlapping_disks_do_not_run_away(electrons: float) -> None:
    rng = np.random.default_rng(3)
    m, n = (4.5 * 1.6 * x.ravel() for x in np.meshgrid(*[np.arange(-3.0, 4)] * 2, indexing="ij"))
    place = 48 + np.stack([m + 0.5 * n, 0.87 * n], 1) + rng.uniform(-0.3, 0.3, (6, 1, 2))
    number = electrons * 10 ** rng.uniform(-2, 0, place.shape[:2])
    seen = simulate(place, number, radius=4.5, contrast=0.9)
    disks = refine_disks(seen.counts, probe_of(radius=4.5), near(place), start=0.35)
    off = np.hypot(disks.row - place[..., 0].ravel(), disks.col - place[..., 1].ravel())
    ratio = disks.intensity / number.ravel()
    assert (off < 0.5 * 4.5).mean() > 0.95
    assert (np.abs(np.log(np.maximum(ratio, 1e-9))) < np.log(1.5)).mean() > 0.8
    assert np.abs(ratio).max() < 30


def test_a_misfit_widens_uncertainties_by_more_than_its_chi_square() -> None:
    place = grid_places(30, 96, 26)
    seen = simulate(place, np.full((30, 9), 1e5), contrast=0.9)
    disks = refine_disks(seen.counts, probe_of(), near(place), orders=2)
    error, sigma, _ = paired(seen, disks)
    assert np.median(disks.chi2) > 5
    # The root of chi-square alone leaves 5.4.
    assert 1.4826 * np.median(np.abs(error / sigma)) < 4


@pytest.mark.parametrize("kind", ["annular", "square", "bullseye"])
def test_probes_of_other_shapes(kind: str) -> None:
    rng = np.random.default_rng(3)
    fine, radius, edge = 8, 9.0, 0.8
    place = 48 + rng.uniform(-0.5, 0.5, (30, 1, 2))
    large = Probe.synthetic((96 * fine, 96 * fine), radius * fine, edge * fine, kind).image
    counts = np.zeros((30, 96, 96), np.float32)
    for n in range(30):
        # Shifted on the fine grid, then averaged over each pixel.
        whole = np.round((place[n, 0] - 48) * fine + (fine - 1) / 2).astype(int)
        place[n, 0] = 48 + (whole - (fine - 1) / 2) / fine
        moved = np.roll(large, whole, axis=(0, 1))
        pixel = moved.reshape(96, fine, 96, fine).sum((1, 3))
        counts[n] = rng.poisson(50_000 * pixel / pixel.sum() + 1)
    probe = Probe.synthetic((96, 96), radius, edge, kind)
    disks = refine_disks(counts, probe, near(place), orders=2)
    error = np.stack([disks.row, disks.col], axis=1) - place[:, 0]
    assert np.sqrt(np.mean(error**2)) < 0.05
    assert np.abs(error.mean(0)).max() < 0.02


def test_a_disk_cut_by_the_border_is_still_measured() -> None:
    place = np.array([[[3.0, 48.0], [60.0, 93.5]]]) + np.zeros((20, 1, 1))
    seen = simulate(place, np.full((20, 2), 20_000.0))
    disks = refine_disks(seen.counts, probe_of(), near(place))
    error, sigma, _ = paired(seen, disks)
    assert np.isfinite(error).all()
    assert np.sqrt(np.mean((error / sigma) ** 2)) < 1.6


def test_order_of_the_candidates_is_kept() -> None:
    place = grid_places(2, 96, 26)
    seen = simulate(place, np.full((2, 9), 6000.0))
    extra = np.array([[50.0, 40.0], [50.0, 40.0]])
    both = near(np.concatenate([place, extra[:, None]], axis=1))
    disks = refine_disks(seen.counts, probe_of(), both)
    assert np.abs(disks.row - both.row).max() < 3
    assert np.abs(disks.col - both.col).max() < 3
    assert disks.pattern.tolist() == both.pattern.tolist()


def test_blocks_do_not_change_what_is_measured() -> None:
    place = grid_places(6, 96, 26)
    seen = simulate(place, np.full((6, 9), 60_000.0))
    whole = refine_disks(seen.counts, probe_of(), near(place))
    first = whole.pattern < 2
    part = near(place).select(np.flatnonzero(first))
    again = refine_disks(seen.counts[:2], probe_of(), part)
    assert again.row == pytest.approx(whole.row[first], abs=0.003)


def test_places_that_count_as_measured() -> None:
    """They hold where hardly anything is seen, and where much is they say nothing."""
    place = grid_places(20, 96, 26)
    for electrons, least, most in ((25.0, 0.0, 0.5), (1e5, 0.99, 1.01)):
        seen = simulate(place, np.full((20, 9), electrons))
        free, held = (
            refine_disks(seen.counts, probe_of(), near(place, 0.1), start=start)
            for start in (None, 0.1)
        )
        errors = [
            np.sqrt(np.mean((disks.row - place[..., 0].ravel()) ** 2)) for disks in (free, held)
        ]
        assert least < errors[1] / errors[0] < most
        assert (held.sigma_row <= 1.0001 * np.maximum(free.sigma_row, 0.05)).mean() > 0.9


def test_a_fit_that_runs_away_stays_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of overlapping disks: what one of them makes of itself is not drawn over the others."""
    step = disk_refine.gauss_newton

    def wild(residual: torch.Tensor, *rest: Any) -> Any:
        made = step(residual, *rest)
        made.linear[0, 0] = 1e12
        made.shift[0] = torch.nan
        return made

    rng = np.random.default_rng(1)
    place = np.array([[[40.0, 40.0], [40.0, 49.0], [40.0, 58.0], [60.0, 49.0]]] * 3)
    place += rng.uniform(-0.3, 0.3, place.shape)
    seen = simulate(place, np.full((3, 4), 3e4))
    monkeypatch.setattr(disk_refine, "gauss_newton", wild)
    disks = refine_disks(seen.counts, probe_of(), near(place, 0.1))
    assert np.isfinite(disks.row).all()
    good = disks.intensity > 2e4
    assert 5 <= good.sum() < 12
    assert np.abs(disks.row[good] - place[..., 0].ravel()[good]).max() < 1.0
