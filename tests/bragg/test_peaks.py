"""Peaks of profiles: known shapes, and agreement with scipy.signal."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import signal

from diskern.bragg.peaks import find_peaks_1d
from diskern.errors import DiskernError


def test_a_gaussian_has_its_height_and_width():
    x = np.arange(201.0)
    found = find_peaks_1d(5 * np.exp(-0.5 * ((x - 100) / 8) ** 2))
    assert found.at.tolist() == [100]
    assert found.prominence[0] == pytest.approx(5, rel=1e-3)
    assert found.width[0] == pytest.approx(2.355 * 8, rel=2e-3)


def test_a_small_peak_on_the_flank_of_a_big_one_is_measured_from_its_saddle():
    line = [0.0, 9.0, 4.0, 6.0, 1.0, 0.0]
    found = find_peaks_1d(line)
    assert found.at.tolist() == [1, 3]
    assert found.prominence.tolist() == [9.0, 2.0]
    assert find_peaks_1d(line, prominence=3.0).at.tolist() == [1]


def test_a_flat_top_counts_once_and_the_ends_never():
    assert find_peaks_1d([3.0, 0.0, 2.0, 2.0, 2.0, 0.0, 5.0]).at.tolist() == [3]
    assert len(find_peaks_1d([1.0, 1.0, 1.0])) == 0
    assert len(find_peaks_1d([])) == 0


@pytest.mark.parametrize("levels", [0, 12])
def test_agrees_with_scipy(levels):
    rng = np.random.default_rng(3)
    for _ in range(20):
        line = np.convolve(rng.normal(size=300), np.ones(7) / 7, "same")
        if levels:  # plateaus and equal heights
            line = np.round(line * levels)
        least = 0.4 * np.ptp(line) / 2
        peaks, facts = signal.find_peaks(line, prominence=least)
        _, _, left, right = signal.peak_widths(line, peaks, rel_height=0.5)
        found = find_peaks_1d(line, least)
        np.testing.assert_array_equal(found.at, peaks)
        np.testing.assert_allclose(found.prominence, facts["prominences"], atol=1e-12)
        np.testing.assert_allclose(found.left, left, atol=1e-9)
        np.testing.assert_allclose(found.right, right, atol=1e-9)


@pytest.mark.parametrize("bad", [[[1.0, 2.0]], [1.0, np.nan, 0.0]])
def test_refuses_what_is_no_profile(bad):
    with pytest.raises(DiskernError, match="one row of finite"):
        find_peaks_1d(bad)
