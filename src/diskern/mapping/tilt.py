"""Tilt of the zone axis off the beam, without knowing the crystal.

For reflections of the zero-order Laue zone of a crystal tilted by the small rotation vector
(ω_x, ω_y), in radians about the x and y axes of the detector, the excitation error is

    s_g = ω_y g_x − ω_x g_y − λ g² / 2        (s_g > 0 inside the Ewald sphere),

a plane over the pattern, less the curvature of the sphere, which the energy fixes.  The reflections
on s_g = 0 lie on the Laue circle, whose centre is the projection of the zone axis.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from diskern.bragg.vectors import BraggVectors
from diskern.bragg.vectors_calibration import VectorCalibration
from diskern.errors import DiskernError
from diskern.mapping.index import index_vectors
from diskern.mapping.lattice_map import LatticeMap
from diskern.mapping.points import Points, per_pattern_sum
from diskern.physics import wavelength

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Method = Literal["q_z", "friedel"]

SHARED = 0.5
"""Chosen on simulated thick GaAs, where half of the errors are then below 0.7 σ; of other crystals
below 0.5 to 0.9."""
_STEPS = 12
_TUNING = 4.685  # Tukey's biweight: 95 % efficient for normal errors
_MAD = 0.67448975
_FEWEST = 3  # disks for two unknowns and something to check them by
_INTENSITY_SCATTER = 0.3  # ln intensity of a Friedel pair scatters by this much dynamically


@dataclass(frozen=True, eq=False, repr=False)
class TiltMap:
    """Tilt of the zone axis at each scan position.

    Attributes
    ----------
    tilt : (Y, X, 2) rotation vector in mrad about the detector's x (columns) and y (rows) axes
        that takes the zone axis from the beam to where it is; NaN where unknown.
    covariance : (Y, X, 2, 2) in mrad².
    chi2 : (Y, X) reduced χ² of the fit; count : (Y, X) disks in it.
    excess : scatter of q_z in 1/Å found beyond the disks' own uncertainties.
    method : "q_z", or "friedel": a rough estimate from intensities, good for its direction and
        for trends, not for its size.
    rough : True for the latter.
    scan_step : (y, x) in Å, or None.
    provenance : ready for JSON.
    """

    tilt: Floats
    covariance: Floats
    chi2: Floats
    count: Floats
    excess: float
    method: Method
    scan_step: tuple[float, float] | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rough(self) -> bool:
        """Whether the size of the tilt is an estimate only."""
        return self.method != "q_z"

    @property
    def sigma(self) -> Floats:
        """(Y, X, 2) standard uncertainties in mrad."""
        return np.sqrt(np.diagonal(self.covariance, axis1=-2, axis2=-1))

    @property
    def laue_centre(self) -> Floats:
        """(Y, X, 2) direction (x, y) in mrad in which the zone axis meets the detector.

        A rotation ω_y about y carries the zone axis [0 0 1] to +x, ω_x about x to −y.
        """
        return np.stack([self.tilt[..., 1], -self.tilt[..., 0]], axis=-1)

    @property
    def magnitude(self) -> Floats:
        """(Y, X) angle between zone axis and beam in mrad."""
        return np.asarray(np.hypot(self.tilt[..., 0], self.tilt[..., 1]))

    def __repr__(self) -> str:
        ny, nx = self.tilt.shape[:2]
        known = np.isfinite(self.magnitude)
        note = ", rough estimate from intensities" if self.rough else ""
        head = f"TiltMap({ny}×{nx}: {known.mean():.1%} with a value{note})"
        if not known.any():
            return head
        low, middle, high = np.percentile(self.magnitude[known], [2, 50, 98])
        sigma = np.median(self.sigma[known])
        return f"{head}\n  |tilt| {low:.2f} … {middle:.2f} … {high:.2f} mrad, σ {sigma:.2f} mrad"


def tilt_map(
    vectors: BraggVectors | LatticeMap,
    *,
    calibration: VectorCalibration | None = None,
    method: Method | Literal["auto"] = "auto",
    thickness: float | None = None,
    shared: float = SHARED,
) -> TiltMap:
    """Tilt of the zone axis against the beam at each scan position, no crystal given.

    Parameters
    ----------
    vectors : Bragg vectors, or their lattices from `index_vectors`; the disks of each
        pattern's first lattice count.
    calibration : pixel size and energy, both needed; the vectors' own by default.
    method : ``"q_z"`` fits the excitation errors of the vectors; ``"friedel"`` estimates the tilt
        from the intensities of Friedel pairs and needs the ``thickness`` in Å; ``"auto"`` takes
        q_z where the vectors have it.
    shared : correlation of the errors of q_z among the disks of one pattern, 0 to 1.  Those that
        the shipped network reads follow one tilt of its own, and are off together.

    Raises
    ------
    DiskernError
        Where pixel size or energy are unknown, neither q_z nor a thickness is there, or the
        crystal is too thick for intensities to tell.
    """
    if not 0 <= shared <= 1:
        raise DiskernError(f"shared={shared} is no correlation; give 0 to 1")
    if method != "auto" and method not in get_args(Method):
        raise DiskernError(f"method={method!r} is unknown; use auto, q_z or friedel")
    if isinstance(vectors, LatticeMap):
        lattices, known = vectors, calibration or VectorCalibration()
    else:
        known = calibration or vectors.calibration
        lattices = index_vectors(vectors)
    if known.pixel_size is None or known.energy is None:
        lacking = "pixel size" if known.pixel_size is None else "energy"
        raise DiskernError(f"a tilt map needs the {lacking}; give it in the calibration")
    spoken = bool(np.isfinite(lattices.points.q_z).any())
    chosen: Method = ("q_z" if spoken else "friedel") if method == "auto" else method
    if chosen == "q_z" and not spoken:
        raise DiskernError("no vector has a q_z; find the vectors with the network, or give "
                           "method='friedel' and a thickness")  # fmt: skip
    if chosen == "friedel" and thickness is None:
        raise DiskernError(
            "the vectors have no q_z, and intensities alone do not fix the size of a tilt; give "
            "thickness in Å for a rough estimate"
        )
    disks, g = reciprocal_positions(lattices, known)
    length = wavelength(known.energy)
    if chosen == "q_z":
        tilt, covariance, chi2, count, excess = _from_q_z(lattices.points, disks, g, length)
        covariance *= (1 + shared * np.maximum(count - 1, 0))[:, None, None]
    else:
        tilt, covariance, chi2, count = _from_friedel(
            lattices, disks, g, length, float(thickness or 0)
        )
        excess = 0.0
    ny, nx = lattices.scan_shape
    return TiltMap(
        tilt.reshape(ny, nx, 2) * 1e3,
        covariance.reshape(ny, nx, 2, 2) * 1e6,
        chi2.reshape(ny, nx),
        count.reshape(ny, nx),
        excess,
        chosen,
        known.scan_step,
        {"method": chosen, "thickness": thickness, "shared": shared, "excess_q_z": excess},
    )


def reciprocal_positions(lattices: LatticeMap, known: VectorCalibration) -> tuple[Bools, Floats]:
    """Disks of each pattern's first lattice, direct beam left out, and their g.

    Returns
    -------
    (N,) mask, and (N, 2) g as (x, y) in 1/Å from the fitted lattice (NaN outside the mask).
    """
    slot, indices = lattices.slot, lattices.indices
    disks = (slot == 0) & (indices != 0).any(axis=1)
    g = np.full((len(slot), 2), np.nan)
    basis = lattices.basis[0].reshape(-1, 2, 2)[lattices.points.pattern[disks]]
    offset = np.einsum("ni,nij->nj", indices[disks], basis)
    if known.ellipse is not None:
        offset = offset @ known.ellipse
    g[disks] = offset[:, ::-1] * (known.pixel_size or np.nan)
    return disks, g


def _from_q_z(
    points: Points, disks: Bools, g: Floats, length: float
) -> tuple[Floats, Floats, Floats, Floats, float]:
    """Robust weighted fit of q_z(g) + λ g²/2 = ω_y g_x − ω_x g_y, all patterns at once."""
    use = disks & np.isfinite(points.q_z)
    own = np.nan_to_num(points.sigma_q_z, nan=0.0) ** 2
    value = np.where(use, points.q_z + length * (g**2).sum(axis=1) / 2, 0.0)
    design = np.where(use, np.stack([-g[:, 1], g[:, 0]]), 0.0)
    excess = max(float(np.median(own[use])), 1e-10) if use.any() else 1e-10
    robust = use.astype(np.float64)
    for _ in range(_STEPS):
        variance = own + excess
        tilt, covariance = _solve(design, value, robust / variance, points.offsets)
        miss = value - (design * tilt[points.pattern].T).sum(axis=0)
        scaled = miss / np.sqrt(variance)
        robust = np.where(use & (np.abs(scaled) < _TUNING), (1 - (scaled / _TUNING) ** 2) ** 2, 0)
        near = use & (robust > 0)
        excess = _excess(miss[near], own[near], _freedom(near, points)[near])
    count = per_pattern_sum((use & (robust > 0.05)).astype(np.float64)[None], points.offsets)[0]
    # The last step's weights are hard: what is in counts fully, so its covariance is honest.
    member = (robust > 0.05).astype(np.float64)
    tilt, covariance = _solve(design, value, member / (own + excess), points.offsets)
    miss = value - (design * tilt[points.pattern].T).sum(axis=0)
    squared = per_pattern_sum((member * miss**2 / (own + excess))[None], points.offsets)[0]
    known = (count >= _FEWEST) & _determined(covariance)
    tilt[~known], covariance[~known] = np.nan, np.nan
    chi2 = squared / np.where(count > 2, count - 2, np.nan)
    return tilt, covariance, np.where(known, chi2, np.nan), count, float(np.sqrt(excess))


def _solve(design: Floats, value: Floats, weight: Floats, offsets: Ints) -> tuple[Floats, Floats]:
    """(P, 2) weighted least squares of (2, N) design and (P, 2, 2) covariance."""
    one, two = design
    sums = per_pattern_sum(
        np.stack([one * one, two * two, one * two, one * value, two * value]) * weight, offsets
    )
    a, b, c = sums[:3]
    determinant = a * b - c**2
    safe = np.where(determinant > 1e-9 * np.maximum(a * b, 1e-300), determinant, np.nan)
    covariance = np.stack([np.stack([b, -c], -1), np.stack([-c, a], -1)], -2) / safe[:, None, None]
    solved = np.einsum("pij,jp->pi", covariance, sums[3:])
    return np.nan_to_num(solved), covariance


def _freedom(use: Bools, points: Points) -> Floats:
    """(N,) share of a residual's variance that two fitted numbers leave."""
    count = per_pattern_sum(use.astype(np.float64)[None], points.offsets)[0]
    return np.asarray(np.clip(1 - 2 / np.maximum(count, 2.5), 0.2, 1)[points.pattern])


def _excess(miss: Floats, own: Floats, share: Floats) -> float:
    """Variance beyond the disks' own that makes the median squared residual what it must be."""
    if len(miss) < 20:
        return 1e-12
    low, high = 0.0, float(np.median(miss**2)) / _MAD**2 * 4 + 1e-12
    for _ in range(40):
        middle = (low + high) / 2
        ratio = np.median(miss**2 / ((own + middle + 1e-14) * share)) / _MAD**2
        low, high = (middle, high) if ratio > 1 else (low, middle)
    return max(high, 1e-12)


def _determined(covariance: Floats) -> Bools:
    """Whether both components follow from the disks: not where all lie on one row."""
    trace = covariance[:, 0, 0] + covariance[:, 1, 1]
    determinant = covariance[:, 0, 0] * covariance[:, 1, 1] - covariance[:, 0, 1] ** 2
    return np.asarray(np.isfinite(trace) & (determinant > 1e-4 * trace**2))


def _from_friedel(
    lattices: LatticeMap, disks: Bools, g: Floats, length: float, thickness: float
) -> tuple[Floats, Floats, Floats, Floats]:
    """Tilt from ln I(g)/I(−g), where the structure factors cancel.

    The rocking curve sinc²(π t s) is near exp(−(π t s)²/3), so the ratio's logarithm is
    −(π t)²/3 (s_g² − s_−g²) = (2/3) (π t)² λ g² (ω_y g_x − ω_x g_y).
    """
    points = lattices.points
    pair, other = friedel_pairs(points, lattices.indices, disks)
    steep = 2 / 3 * (np.pi * thickness) ** 2 * length * (g[pair] ** 2).sum(axis=1)
    ratio = np.log(np.maximum(points.intensity[pair], 1e-9)) - np.log(
        np.maximum(points.intensity[other], 1e-9)
    )
    sigma = [
        np.nan_to_num(points.sigma_intensity[k] / np.maximum(points.intensity[k], 1e-9), nan=0.1)
        for k in (pair, other)
    ]
    weight = np.zeros(len(points))
    # Half way to the first zero the exponential still stands for the rocking curve.
    inside = np.pi * thickness * length * (g[pair] ** 2).sum(axis=1) / 2 < np.pi / 2
    if len(pair) and not inside.any():
        raise DiskernError(
            f"thickness={thickness:g} Å puts every Friedel pair beyond its rocking curve's half "
            "width: intensities say nothing on the tilt; find the vectors with the network for q_z"
        )
    weight[pair] = inside / (_INTENSITY_SCATTER**2 + sigma[0] ** 2 + sigma[1] ** 2)
    value = np.zeros(len(points))
    value[pair] = ratio
    design = np.zeros((2, len(points)))
    design[:, pair] = steep * np.stack([-g[pair, 1], g[pair, 0]])
    tilt, covariance = _solve(design, value, weight, points.offsets)
    count = per_pattern_sum((weight > 0).astype(np.float64)[None], points.offsets)[0]
    miss = value - (design * tilt[points.pattern].T).sum(axis=0)
    squared = per_pattern_sum((weight * miss**2)[None], points.offsets)[0]
    known = (count >= 2) & _determined(covariance)
    chi2 = np.where(known, squared / np.where(count > 2, count - 2, np.nan), np.nan)
    tilt[~known], covariance[~known] = np.nan, np.nan
    # Where the pairs disagree more than expected the model is worse than assumed.
    covariance *= np.maximum(np.nan_to_num(chi2, nan=1.0), 1.0)[:, None, None]
    return tilt, covariance, chi2, count


def friedel_pairs(points: Points, indices: Ints, disks: Bools) -> tuple[Ints, Ints]:
    """Disks (m, n) and (−m, −n) of one pattern: (M,) and (M,) indices into all disks, each pair
    once."""
    chosen = np.flatnonzero(disks)
    reach = int(np.abs(indices[chosen]).max(initial=0))
    side = 2 * reach + 1
    mn = indices[chosen] + reach
    key = (points.pattern[chosen] * side + mn[:, 0]) * side + mn[:, 1]
    opposite = (points.pattern[chosen] * side + 2 * reach - mn[:, 0]) * side
    opposite += 2 * reach - mn[:, 1]
    order = np.argsort(key, kind="stable")
    at = np.searchsorted(key[order], opposite)
    at = np.minimum(at, max(len(key) - 1, 0))
    found = key[order][at] == opposite if len(key) else np.zeros(0, dtype=bool)
    first = found & (key > opposite)
    return chosen[first], chosen[order[at[first]]]
