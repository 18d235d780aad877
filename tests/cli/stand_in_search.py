"""A quick search that stands in for the real one, so that the verbs are tested alone."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from scipy import ndimage

from diskern.bragg.disk_probe import Probe
from diskern.bragg.disks import Disks


def install(patch: pytest.MonkeyPatch) -> None:
    """Put this module in the place of the search, and take images of probes as they are."""
    patch.setitem(sys.modules, "diskern.bragg.disk_search", sys.modules[__name__])
    patch.setattr("diskern.bragg.find.measure_probe", probe_of)


def probe_of(image) -> Probe:
    return Probe(image / image.sum(), 3.0, 0.6, True)


def find_disks(patterns, probe, *, mask=None, options=None, proposer=None) -> Disks:
    """Maxima of the cross-correlation above 0.3 % of the largest, by a parabola."""
    kernel = np.fft.rfft2(np.fft.ifftshift(probe.image)).conj()
    maps = np.fft.irfft2(np.fft.rfft2(patterns) * kernel, patterns.shape[1:])
    size = (1, *(2 * round(probe.radius) + 1,) * 2)
    floor = 0.003 * maps.max(axis=(1, 2), keepdims=True)
    inside = np.zeros(maps.shape, bool)
    edge = round(probe.radius) + 2
    inside[:, edge:-edge, edge:-edge] = True
    peak = (ndimage.maximum_filter(maps, size) == maps) & (maps > floor) & inside
    p, r, c = np.nonzero(peak)
    centre = maps[p, r, c]

    def parabola(low, high):
        return (high - low) / (2 * (2 * centre - high - low))

    row = r + parabola(maps[p, r - 1, c], maps[p, r + 1, c])
    col = c + parabola(maps[p, r, c - 1], maps[p, r, c + 1])
    sigma = np.full(len(p), 0.05)
    return Disks.from_columns(
        p, row, col, intensity=centre * np.pi * probe.radius**2, sigma_row=sigma, sigma_col=sigma,
        covariance=0 * sigma, sigma_intensity=np.sqrt(np.maximum(centre, 1)),
    )  # fmt: skip
