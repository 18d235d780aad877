"""What the lattice fit looks at: points with variances, and where nodes could show."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from diskern.bragg.spots import Spots
from diskern.patterns.geometry import Centre, Flaw

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_HIDDEN = int(Flaw.MISSING | Flaw.BEAM_STOP | Flaw.OVERLAY | Flaw.BLOOMING)
_GRID = 128  # cells along the longer side of the region's raster
_FINEST = 0.02  # px; nobody centres a spot on a detector better than this
_REACH = 1.5  # spots less than two of these typical spacings apart belong to one lit part
_MARGIN = 0.4  # how far beyond its outermost spots a lit part is thought to reach, in spacings


@dataclass(frozen=True, eq=False)
class Region:
    """The lit part of the detector: the spots, the gaps between them, and a narrow margin.

    Off a zone axis only a crescent of nodes is lit, and intensity fades outwards, so an unlit
    node counts against a lattice only among spots that were seen (a morphological closing).

    Attributes
    ----------
    mask : (h, w) raster of the region, ``cell`` px a step.
    cell : raster step in px.
    """

    mask: Bools
    cell: float

    @cached_property
    def area(self) -> float:
        """Area in px²."""
        return max(float(self.mask.sum()), 1.0) * self.cell**2

    def contains(self, points: Floats) -> Bools:
        """(K,) whether (K, 2) positions in px lie in the region."""
        index = np.floor((points + 0.5) / self.cell)
        inside = np.asarray(((index >= 0) & (index < np.array(self.mask.shape))).all(axis=1))
        row, col = np.where(inside[:, None], index, 0).astype(np.int64).T
        return np.asarray(inside & self.mask[row, col])


@dataclass(frozen=True, eq=False)
class Sight:
    """Spots as the fit sees them.

    Attributes
    ----------
    position : (N, 2) in px, finite.
    variance : (N, 2) of the position in px².
    intensity : (N,) for coverage and for choosing seeds.
    width : smallest spacing that spots of this size could show, px.
    spacing : typical distance between neighbouring spots, px.
    taken : (T, 2) positions of spots that another lattice already explains.
    astray : probability that the centre is not where it is said to be, whatever its variance.
    loosest : largest position variance in px² beyond the spots' own.
    """

    position: Floats
    variance: Floats
    intensity: Floats
    centre: Floats
    centre_variance: float
    region: Region
    width: float
    spacing: float
    taken: Floats
    astray: float = 0.05
    loosest: float = np.inf

    def __len__(self) -> int:
        return len(self.position)

    @cached_property
    def isotropic(self) -> Floats:
        """(N,) variance of a coordinate, the mean of row and column."""
        return np.asarray(self.variance.mean(axis=1))

    def select(self, keep: Bools) -> Sight:
        """The same view of some of the spots; the others are explained already."""
        return replace(
            self,
            position=self.position[keep],
            variance=self.variance[keep],
            intensity=self.intensity[keep],
            taken=np.concatenate([self.taken, self.position[~keep]]),
        )


def look(
    spots: Spots, centre: Centre, shape: tuple[int, int], flaws: NDArray[np.uint16] | None
) -> tuple[Sight, NDArray[np.int64]]:
    """Sanitise the spots; returns the view and the (N,) indices of the usable ones."""
    usable = np.isfinite(spots.position).all(axis=1)
    index = np.flatnonzero(usable)
    position = spots.position[index].astype(np.float64)
    sigma = spots.sigma[index].astype(np.float64)
    fallback = np.median(sigma[np.isfinite(sigma)]) if np.isfinite(sigma).any() else 1.0
    sigma = np.maximum(np.where(np.isfinite(sigma), sigma, fallback), _FINEST)
    intensity = np.nan_to_num(np.maximum(spots.intensity[index], 0.0))
    diagonal = float(np.hypot(*shape))
    middle = centre.as_array().astype(np.float64)
    known = bool(np.isfinite(middle).all())
    middle = middle if known else (np.array(shape, dtype=np.float64) - 1) / 2
    doubt = float(centre.sigma) if known and np.isfinite(centre.sigma) else diagonal / 4
    doubt = float(np.clip(doubt, _FINEST, diagonal))
    spacing = _typical_spacing(np.concatenate([middle[None], position]))
    radius = spots.radius[index]
    radius = radius[np.isfinite(radius)]
    width = max(
        2.0 * float(np.median(radius)) if len(radius) else 0.0,
        5.0 * float(np.median(sigma)) if len(sigma) else 0.0,
    )
    sight = Sight(
        position,
        sigma**2,
        intensity,
        middle,
        doubt**2,
        _region(position, spacing, shape, flaws),
        width,
        spacing,
        np.zeros((0, 2)),
    )
    return sight, index


def _typical_spacing(points: Floats) -> float:
    """Median distance to the third neighbour: in a net with few gaps, the spacing."""
    if len(points) < 2:
        return 1.0
    near = min(3, len(points) - 1)
    distance = np.asarray(cKDTree(points).query(points, k=[near + 1])[0])
    return max(float(np.median(distance)), 1e-3)


def _region(
    position: Floats, spacing: float, shape: tuple[int, int], flaws: NDArray[np.uint16] | None
) -> Region:
    cell = max(max(shape) / _GRID, 1.0)
    size = int(np.ceil(shape[0] / cell)), int(np.ceil(shape[1] / cell))
    empty = np.ones(size, dtype=bool)
    if len(position):
        row, col = np.clip((position / cell).astype(int), 0, np.array(size) - 1).T
        empty[row, col] = False
        pad = int(np.ceil(_REACH * spacing / cell)) + 1
        pad = min(pad, 2 * _GRID)
        padded = np.pad(empty, pad, constant_values=True)
        away: Floats = np.asarray(ndimage.distance_transform_edt(padded)) * cell
        inside: Floats = np.asarray(ndimage.distance_transform_edt(away <= _REACH * spacing)) * cell
        empty = (inside < (_REACH - _MARGIN) * spacing)[pad:-pad, pad:-pad] & empty
    mask = ~empty
    if flaws is not None:
        centres = [
            np.minimum((np.arange(n) + 0.5) * cell, side - 1).astype(int)
            for n, side in zip(size, shape, strict=True)
        ]
        mask &= (flaws[np.ix_(*centres)] & _HIDDEN) == 0
    return Region(mask, cell)
