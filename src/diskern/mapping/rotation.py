"""The rotation between scan and detector, from a strain map that varies over the scan.

Displacements are single-valued, so the displacement gradient β = F − I is the gradient of a field:
each row of it is free of curl.  Its components are known along the detector's axes, its changes
along the scan's; only with the right angle between the two does the curl vanish.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diskern.errors import DiskernError
from diskern.mapping.strain import StrainMap

Floats = NDArray[np.float64]

_FEWEST = 50  # pairs of neighbouring positions
_CONTRAST = 5.0  # signal over noise in the curl below which the angle is not told


@dataclass(frozen=True)
class ScanRotation:
    """Angle in rad by which the detector's axes are turned against the scan's, modulo π.

    ``sigma`` is its standard uncertainty; ``contrast`` how much the curl varies with the angle,
    over what noise alone would do.
    """

    angle: float
    sigma: float
    contrast: float


def scan_rotation(strain: StrainMap) -> ScanRotation:
    """Find the rotation between scan and detector as the angle at which the strain is compatible.

    Dislocations and steps at grain boundaries have curl of their own; gradients across
    boundaries are left out.  A half turn more is as good, and a mirrored detector is not
    noticed.

    Parameters
    ----------
    strain : in detector axes.

    Raises
    ------
    DiskernError
        Where the strain is in other axes, or too uniform to tell the angle from noise.
    """
    if strain.axes != "detector":
        raise DiskernError(f"the strain is along axes={strain.axes!r}; map it in detector axes")
    e_xx, e_yy, e_xy, theta = np.moveaxis(strain.values[0], -1, 0)
    gradient = np.stack([e_xx, e_xy - theta, e_xy + theta, e_yy])  # β_xx, β_xy, β_yx, β_yy
    by_y, by_x, ok = _derivatives(gradient, strain)
    if ok.sum() < _FEWEST:
        raise DiskernError(f"{ok.sum()} neighbouring positions are too few for the scan rotation")
    by_y, by_x = by_y[:, ok], by_x[:, ok]
    # Scan axes lie at −φ in the detector's; curl of row i is then cos φ · even_i + sin φ · odd_i,
    # and the vector of least curl is (cos φ, −sin φ).
    even = np.stack([by_x[1] - by_y[0], by_x[3] - by_y[2]])
    odd = np.stack([by_y[1] + by_x[0], by_y[3] + by_x[2]])
    moments = np.array(
        [[(even**2).sum(), -(even * odd).sum()], [-(even * odd).sum(), (odd**2).sum()]]
    )
    values, vectors = np.linalg.eigh(moments)
    c, s = vectors[:, 0] * (1 if vectors[0, 0] >= 0 else -1)
    count = even.size
    noise = values[0] / count
    contrast = float((values[1] - values[0]) / (np.sqrt(2 * count) * max(noise, 1e-30)))
    if contrast < _CONTRAST:
        raise DiskernError(
            "the strain is too uniform to tell the rotation between scan and detector from noise; "
            "give it instead"
        )
    sigma = float(np.sqrt(noise * values[1] / (values[1] - values[0]) ** 2))
    return ScanRotation(float(np.arctan2(-s, c)), sigma, contrast)


def _derivatives(gradient: Floats, strain: StrainMap) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """(4, Y−1, X−1) changes per step along scan y and x, and where all four corners are one grain.

    Taken at the middle of four positions, so both are at the same place.
    """
    a, b = gradient[:, :-1, :-1], gradient[:, :-1, 1:]
    c, d = gradient[:, 1:, :-1], gradient[:, 1:, 1:]
    step_y, step_x = strain.scan_step or (1.0, 1.0)
    unit = np.sqrt(step_y * step_x)
    by_y, by_x = (c + d - a - b) / 2 * unit / step_y, (b + d - a - c) / 2 * unit / step_x
    grain = strain.grain[0]
    corner = grain[:-1, :-1]
    same = (corner == grain[:-1, 1:]) & (corner == grain[1:, :-1]) & (corner == grain[1:, 1:])
    return by_y, by_x, same & np.isfinite(by_y).all(axis=0) & np.isfinite(by_x).all(axis=0)
