"""The probe from the patterns of a scan themselves: no vacuum region is needed.

A network tells about how large the disks are (`diskern.nets.probe_radius`).  With that they are
found and measured, which tells radius and rim better (`diskern.bragg.disk_probe_fit`), and the
brightest that stand alone are stacked on each other, which shows whether the probe is another than
a round, evenly lit disk.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from diskern.bragg.disk_gain import estimate_response
from diskern.bragg.disk_probe import Probe
from diskern.bragg.disk_probe_fit import fitted_probe, is_better
from diskern.bragg.disk_probe_measure import cut_windows, probe_of_windows
from diskern.bragg.disk_search import find_disks
from diskern.bragg.disks import DiskOptions, Disks
from diskern.errors import DiskernError
from diskern.nets.probe_radius import probe_radius
from diskern.nets.registry import load

Floats = NDArray[np.float64]

WEIGHTS = "probe_radius"
LOOKED_AT = 24
"""Patterns that the network looks at."""
SPOTS = 0.995
"""Quantile of a pattern's level, over squares of 3 px, that tells how bright its disks are."""
SURE = 0.3
"""Least probability of disks of about one radius."""
AROUND = 5
"""px of the squares that tell what a pixel without counts would hold."""
STACKED = 150
"""Disks stacked, at most."""
DETAILED, OUTLINE = 4.0, 0.35
"""px of the smallest probe whose shape is told from the scan, and how far, in ln of the radius, its
outline may lie from that of the round one."""
FIRST = 0.7
"""px: the rim that disks are first found with."""
STRONG = 8.0
"""Least signal-to-noise ratio of a disk that is stacked."""
ROUNDS = 2
"""Times that disks are measured with the last probe."""


def estimate_probe(
    patterns: NDArray[np.float32],
    mask: NDArray[np.bool_] | None = None,
    dark: float | None = None,
) -> Probe:
    """The probe that a sample of patterns was taken with.

    Parameters
    ----------
    patterns : (B, H, W) counts, a few dozen spread over the scan.
    mask : (H, W) True where a pixel may be used.
    dark : counts of a pixel that no electron meets, where they are known.

    Raises
    ------
    DiskernError
        Where no disk stands out.
    """
    shape = (patterns.shape[1], patterns.shape[2])
    good = np.ones(shape, bool) if mask is None else mask
    response = estimate_response(patterns, good, dark)
    usable = good.astype(np.float32)
    counted = response.electrons(patterns) * usable
    radius = _radius(np.maximum(counted, np.float32(0)), good)
    electrons = np.maximum(counted + np.float32(response.dim_light) * usable, np.float32(0))
    probe = Probe.synthetic(shape, radius, min(FIRST, 0.4 * radius))
    disks = find_disks(electrons, probe, mask=good, options=DiskOptions(gain=1.0))
    if len(disks) == 0:
        return probe
    probe = fitted_probe(electrons, good, disks, radius)
    for _ in range(ROUNDS):
        disks = find_disks(electrons, probe, mask=good, options=DiskOptions(gain=1.0))
        measured = _stacked(electrons, good, disks, probe)
        # What diffraction draws may be alike in many disks, at a zone axis in all: dark middles
        # do not make an annular aperture.
        if measured is None or not is_better(electrons, good, disks, measured, probe):
            break
        probe = measured
    return probe


def _stacked(
    electrons: NDArray[np.float32], good: NDArray[np.bool_], disks: Disks, probe: Probe
) -> Probe | None:
    """What the brightest single disks share beyond a round probe; None where it is no probe."""
    chosen, half = _single(disks, probe, good)
    if len(chosen) == 0:
        return None
    centre = np.stack([chosen.row, chosen.col], 1)
    middle = np.rint(centre).astype(int)
    windows = cut_windows(electrons, chosen.pattern, middle, half)
    windows -= chosen.background[:, None, None]
    alike = _reflections(centre, probe.radius)
    offset, flux, shape = centre - middle, chosen.intensity, electrons.shape[1:]
    _, measured = probe_of_windows(windows, offset, flux, shape, alike=alike)
    if measured is None or measured.radius < DETAILED:
        return None
    return measured if abs(np.log(measured.radius / probe.radius)) < OUTLINE else None


def _radius(electrons: NDArray[np.float32], good: NDArray[np.bool_]) -> float:
    """Radius in px that the network tells, of the brightest patterns."""
    radius, sure = probe_radius(load(WEIGHTS), _filled(_brightest(electrons), good))
    if sure < SURE:
        raise DiskernError("the patterns show no disk; give an image of the beam in vacuum")
    return radius


def _brightest(electrons: NDArray[np.float32]) -> NDArray[np.float32]:
    """The patterns with the brightest spots: others of a scan may show a hole or no crystal."""
    smooth = uniform_filter(electrons, (0, 3, 3)).reshape(len(electrons), -1)
    # Not the very brightest spot, which may be a few hot pixels.
    level = np.quantile(smooth, SPOTS, axis=1)
    return electrons[np.sort(np.argsort(-level, kind="stable")[:LOOKED_AT])]


def _filled(electrons: NDArray[np.float32], good: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Lines and single pixels that cannot be used with the mean of what lies around them."""
    share = uniform_filter(good.astype(np.float32), AROUND)
    around = uniform_filter(electrons * good, (0, AROUND, AROUND)) / np.maximum(share, 1e-6)
    return np.where(good, electrons, np.where(share > 0.1, around, 0)).astype(np.float32)


def _reflections(places: Floats, apart: float) -> NDArray[np.int64]:
    """(N,) numbers of (N, 2) places: those nearer than ``apart`` px, in a chain, share theirs."""
    pairs = cKDTree(places).query_pairs(apart, output_type="ndarray")
    graph = coo_matrix((np.ones(len(pairs)), pairs.T), shape=(len(places), len(places)))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def _single(disks: Disks, probe: Probe, good: NDArray[np.bool_]) -> tuple[Disks, int]:
    """Bright disks that stand alone, wholly on good pixels; and half their windows."""
    reach = probe.radius + 3 * probe.edge + 2
    place = np.stack([disks.row, disks.col], 1)
    strength = disks.intensity / disks.sigma_intensity
    bad = np.argwhere(~good)
    clear = cKDTree(bad).query(place)[0] if len(bad) and len(disks) else np.full(len(disks), np.inf)
    tree = cKDTree(np.column_stack([place, disks.pattern * 10.0 * sum(good.shape)]))
    near = np.full(len(disks), np.inf)
    if len(disks) > 1:
        near = np.asarray(tree.query(tree.data, k=2)[0])[:, 1]
    for room in (1.4, 1.2, 1.0):
        half = int(np.ceil(room * reach))
        on = (place >= half).all(1) & (place <= np.array(good.shape) - 1 - half).all(1)
        alone = (near > half + probe.radius) & (clear > reach)
        kept = np.flatnonzero(on & alone & (strength > STRONG))
        if len(kept):
            return disks.select(kept[np.argsort(-strength[kept])][:STACKED]), half
    return Disks.empty(), half
