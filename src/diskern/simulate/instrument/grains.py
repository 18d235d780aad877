"""What the specimen brings: grains on top of each other, twins, and a zone axis missed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from diskern.crystal.crystal import Crystal
from diskern.crystal.orientation import tilted
from diskern.errors import DiskernError
from diskern.simulate.spot_pattern import SpotPattern


def overlapped(patterns: Sequence[SpotPattern], weights: ArrayLike | None = None) -> SpotPattern:
    """The patterns of several grains under one beam, strongest reflection first.

    Parameters
    ----------
    weights : (N,) share of the illuminated volume of each grain; equal by default.

    Raises
    ------
    DiskernError
        For no pattern, or weights that are not one positive number each.
    """
    if not patterns:
        raise DiskernError("there is no pattern to overlap; give at least one")
    share = np.ones(len(patterns)) if weights is None else np.asarray(weights, dtype=np.float64)
    if share.shape != (len(patterns),) or not np.isfinite(share).all() or share.min() < 0:
        raise DiskernError(f"weights={weights!r} must be one positive number for each pattern")
    share = share / share.sum()
    intensity = np.concatenate([w * p.intensity for w, p in zip(share, patterns, strict=True)])
    order = np.argsort(-intensity, kind="stable")
    direct = [p.direct for p in patterns]
    return replace(
        patterns[0],
        hkl=np.concatenate([p.hkl for p in patterns])[order],
        q=np.concatenate([p.q for p in patterns])[order],
        s_g=np.concatenate([p.s_g for p in patterns])[order],
        intensity=intensity[order],
        direct=None if None in direct else float(share @ np.array(direct, dtype=np.float64)),
    )


def rotated(pattern: SpotPattern, degrees: float) -> SpotPattern:
    """The pattern of the same grain turned about the beam, from +x towards +y."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return replace(pattern, q=pattern.q @ np.array([[c, s], [-s, c]]))


def twin_orientation(crystal: Crystal, orientation: Rotation, hkl: ArrayLike) -> Rotation:
    """Orientation of the reflection twin on the plane (hkl): half a turn about its normal.

    For a centrosymmetric crystal this is the mirror image on the twin plane.
    """
    normal = orientation.apply(np.asarray(hkl, dtype=np.float64) @ crystal.reciprocal)
    length = np.linalg.norm(normal)
    if not length > 0:
        raise DiskernError(f"hkl={hkl!r} is no plane; give three indices, not all zero")
    return Rotation.from_rotvec(np.pi * normal / length) * orientation


def mistilted(
    orientation: Rotation, rng: np.random.Generator, spread: float = 0.8, most: float = 3.0
) -> tuple[Rotation, NDArray[np.float64]]:
    """An operator's zone axis: tilted by a random angle about a random axis.

    Parameters
    ----------
    spread : rms tilt in degrees about each of the two axes.
    most : largest tilt in degrees; beyond it the tilt is drawn again.

    Returns
    -------
    The tilted orientation, and (2,) tilt in mrad and azimuth in degrees of the tilt axis.
    """
    if not (spread >= 0 and most > 0):
        raise DiskernError(f"spread={spread} and most={most} degrees must be positive")
    angle = np.inf
    while angle > most:
        first, second = rng.normal(0, spread, 2)
        angle = float(np.hypot(first, second))
    azimuth = float(np.degrees(np.arctan2(second, first)))
    mrad = float(np.radians(angle) * 1e3)
    return tilted(orientation, mrad, azimuth), np.array([mrad, azimuth])
