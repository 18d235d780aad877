"""Virtual images: for each scan position, what its disks add up to."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diskern.bragg.vectors import BraggVectors
from diskern.errors import DiskernError
from diskern.mapping.lattice_map import LatticeMap
from diskern.mapping.points import Points, per_pattern_sum

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Weight = Literal["intensity", "v_g", "count"]


def virtual_image(
    vectors: BraggVectors | Points,
    aperture: tuple[float, float, float] | ArrayLike,
    *,
    weight: Weight = "intensity",
) -> Floats:
    """Sum of the disks that fall into an aperture on the detector.

    Parameters
    ----------
    aperture : row, column and radius of a circle in px; or a (Q_y, Q_x) mask, True where open.
    weight : what a disk counts: its intensity, its structure-factor amplitude V_g (disks without
        one count nothing), or one.

    Returns
    -------
    (Y, X); 0 where a pattern has no disk in the aperture.

    Raises
    ------
    DiskernError
        For an aperture of another form, or V_g that no disk has.
    """
    points = Points.of(vectors)
    return _summed(points, _inside(points, aperture), weight)


def virtual_image_of(
    lattices: LatticeMap,
    indices: ArrayLike,
    *,
    label: int | None = None,
    weight: Weight = "intensity",
) -> Floats:
    """Sum of the disks of some lattice nodes (a dark-field image that follows the lattice).

    Parameters
    ----------
    indices : (M, 2) or (2,) nodes (m, n); (0, 0) is the direct beam.
    label : only disks of this lattice of ``lattices.bases``; of any lattice by default.
    weight : as in `virtual_image`.

    Returns
    -------
    (Y, X); NaN where the pattern is not indexed, 0 where it is and shows none of the nodes.

    Raises
    ------
    DiskernError
        For indices that are not whole pairs, or a lattice that does not exist.
    """
    wanted = np.atleast_2d(np.asarray(indices))
    if wanted.ndim != 2 or wanted.shape[1] != 2 or not (wanted == np.rint(wanted)).all():
        raise DiskernError(f"indices={np.asarray(indices).tolist()}; give whole pairs (m, n)")
    if label is not None and not 0 <= label < len(lattices.bases):
        raise DiskernError(f"lattice {label} does not exist; there are {len(lattices.bases)}")
    points, slot = lattices.points, lattices.slot
    use = (slot >= 0) & (lattices.indices[:, None] == wanted).all(axis=2).any(axis=1)
    shown = lattices.label >= 0 if label is None else lattices.label == label
    if label is not None:
        flat = lattices.label.reshape(len(lattices.label), -1)
        use &= flat[np.maximum(slot, 0), points.pattern] == label
    image = _summed(points, use, weight)
    image[~shown.any(axis=0)] = np.nan
    return image


def _summed(points: Points, use: Bools, weight: Weight) -> Floats:
    if weight not in get_args(Weight):
        raise DiskernError(f"weight={weight!r} is unknown; use intensity, v_g or count")
    amount = np.ones(len(points)) if weight == "count" else getattr(points, weight)
    if weight == "v_g" and not np.isfinite(amount).any():
        raise DiskernError("no disk has a V_g; find the vectors with the network first")
    total = per_pattern_sum((np.nan_to_num(amount) * use)[None], points.offsets)[0]
    return np.asarray(total.reshape(points.scan_shape))


def _inside(points: Points, aperture: tuple[float, float, float] | ArrayLike) -> Bools:
    shape = np.asarray(aperture)
    if shape.shape == (3,):
        row, col, radius = (float(v) for v in shape)
        if not radius > 0:
            raise DiskernError(f"aperture radius={radius} px must be above 0")
        away = points.position - [row, col]
        return np.asarray((away**2).sum(axis=1) <= radius**2)
    if shape.shape != points.pattern_shape or shape.dtype != bool:
        raise DiskernError(
            f"the aperture has shape {shape.shape}; give row, column, radius or a mask of "
            f"{points.pattern_shape}"
        )
    cell = np.rint(points.position).astype(np.int64)
    on = ((cell >= 0) & (cell < np.array(points.pattern_shape))).all(axis=1)
    flat = np.where(on, cell[:, 0] * points.pattern_shape[1] + cell[:, 1], 0)
    return np.asarray(on & shape.reshape(-1)[flat])
