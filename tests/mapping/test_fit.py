"""Least-squares fits of one lattice per pattern: unbiased, efficient, honest about their errors."""

from __future__ import annotations

import numpy as np
import pytest
from mapping_scans import SQUARE, deformations, scan

from diskern.mapping import fit
from diskern.mapping.fit import Noise, fit_lattice
from diskern.mapping.points import Points


def starts(truth):
    count = truth.points.patterns
    return np.concatenate(
        [truth.origin.reshape(-1, 1, 2), np.broadcast_to(SQUARE, (count, 2, 2))], axis=1
    )


def fitted(truth, **noise):
    settings = {"excess": 1e-8, "pulled": 0.002, **noise}
    sigma = np.full(truth.points.patterns, 1.0)
    return fit_lattice(truth.points, starts(truth), sigma, Noise(**settings))


def strained(shape=(25, 25), seed=3):
    rng = np.random.default_rng(seed)
    e = 0.012 * rng.normal(size=(4, *shape))
    return deformations(shape, *e)


def test_bases_are_unbiased_and_their_errors_calibrated():
    truth = scan((25, 25), deformation=strained(), missing=0.3, spurious=0.15)
    fits = fitted(truth)
    error = (fits.parameters[:, 1:] - truth.basis.reshape(-1, 2, 2)).reshape(-1, 4)
    sigma = np.sqrt(np.diagonal(fits.covariance, axis1=1, axis2=2)[:, 2:])
    z = error / sigma
    assert np.abs(z.mean(axis=0)).max() < 4 / np.sqrt(len(z))
    assert z.std(axis=0) == pytest.approx(1.0, abs=0.1)


def test_error_reaches_the_bound_of_the_known_members():
    """As small as a weighted fit that is told which disks belong and what their indices are."""
    truth = scan((25, 25), deformation=strained(), missing=0.3, spurious=0.15)
    fits = fitted(truth)
    points, good = truth.points, np.isfinite(truth.indices[:, 0])
    error, bound = [], []
    for p in range(points.patterns):
        here = np.arange(points.offsets[p], points.offsets[p + 1])
        here = here[good[here]]
        design = np.concatenate([np.ones((len(here), 1)), truth.indices[here]], axis=1)
        weight = 1 / points.covariance[here, 0]
        bound.append(np.linalg.inv((design * weight[:, None]).T @ design)[1, 1])
        error.append(fits.parameters[p, 1, 0] - truth.basis.reshape(-1, 2, 2)[p, 0, 0])
    assert np.sqrt(np.mean(np.square(error)) / np.mean(bound)) == pytest.approx(1, abs=0.08)


def test_chi2_is_that_of_the_freedom_left():
    truth = scan((20, 20), missing=0.3)
    fits = fitted(truth)
    assert (fits.chi2.sum() / (2 * fits.count - 6).sum()) == pytest.approx(1, abs=0.03)


def test_clutter_is_left_out():
    truth = scan((10, 10), spurious=0.4, seed=8)
    fits = fitted(truth)
    clutter = ~np.isfinite(truth.indices[:, 0])
    assert (fits.member[clutter] > 0.5).mean() < 0.02
    assert (fits.member[~clutter] > 0.5).mean() > 0.995


def test_indices_are_found_in_spite_of_large_strain():
    truth = scan((6, 6), deformation=deformations((6, 6), e_xx=0.05, e_yy=-0.04, rotation=0.05))
    fits = fitted(truth, deformation=0.03)
    assert (fits.indices == truth.indices).all()


def test_pulled_disks_do_not_pull_the_lattice():
    """A tenth of the disks is off by many sigma (dynamical contrast): little of it arrives."""
    truth = scan((20, 20), sigma=0.05, unequal=False, seed=4)
    rng = np.random.default_rng(0)
    points = truth.points
    off = rng.random(len(points)) < 0.1
    moved = points.position + np.where(off[:, None], rng.normal(0, 0.5, (len(points), 2)), 0)
    from dataclasses import replace

    disturbed = replace(points, position=moved)
    start = starts(truth)
    robust = fit_lattice(disturbed, start, np.ones(points.patterns), Noise(1e-8, 0.1))
    plain = fit_lattice(disturbed, start, np.ones(points.patterns), Noise(0.25, 1e-9, 1e-9))

    def error(fits):
        return (fits.parameters[:, 1:] - truth.basis.reshape(-1, 2, 2)).std()

    clean = fit_lattice(points, start, np.ones(points.patterns), Noise(1e-8, 0.002))
    assert error(robust) < 1.15 * error(clean)
    assert error(plain) > 2 * error(clean)


def test_correlated_errors_are_weighted_as_such():
    """Disks smeared along one diagonal: using the covariance beats ignoring it."""
    truth = scan((20, 20), noise=False, reach=70)
    rng = np.random.default_rng(1)
    n = len(truth.points)
    diagonal = np.where(rng.random(n) < 0.5, 1.0, -1.0)
    along = rng.normal(0, 0.3, n)
    across = rng.normal(0, 0.03, n)
    shift = np.stack([along + across, diagonal * (along - across)], axis=1) / np.sqrt(2)
    variance, mixed = (0.3**2 + 0.03**2) / 2, diagonal * (0.3**2 - 0.03**2) / 2
    covariance = np.stack([np.full(n, variance), np.full(n, variance), mixed], axis=1)
    from dataclasses import replace

    smeared = replace(truth.points, position=truth.points.position + shift, covariance=covariance)
    blind = replace(smeared, covariance=covariance * [1, 1, 0])

    def error(points):
        fits = fit_lattice(points, starts(truth), np.ones(points.patterns), Noise(1e-8, 0.002))
        return (fits.parameters[:, 1:] - SQUARE).std()

    assert error(smeared) < 0.7 * error(blind)


def test_blocks_change_nothing(monkeypatch):
    truth = scan((8, 8), missing=0.3, spurious=0.1)
    whole = fitted(truth)
    monkeypatch.setattr(fit, "_BLOCK", 100)
    parts = fitted(truth)
    assert np.allclose(whole.parameters, parts.parameters, atol=1e-9)
    assert np.array_equal(whole.indices, parts.indices)


def test_empty_patterns_and_single_disks_pass_through():
    points = Points.from_columns(
        (1, 3), (64, 64), [1], {"row": [32.0], "col": [32.0], "intensity": [5.0]}
    )
    start = np.broadcast_to(np.array([[32.0, 32.0], [0, 10], [10, 0]]), (3, 3, 2)).copy()
    fits = fit_lattice(points, start, np.ones(3), Noise())
    assert fits.count[[0, 2]] == pytest.approx(0)
    assert np.isfinite(fits.parameters).all()
    assert fits.evidence[[0, 2]] == pytest.approx(0, abs=1e-6)
