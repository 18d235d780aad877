"""Strain maps with their uncertainties."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diskern.bragg.vectors import BraggVectors
from diskern.bragg.vectors_calibration import VectorCalibration
from diskern.crystal.crystal import Crystal
from diskern.errors import DiskernError
from diskern.mapping import deformation
from diskern.mapping.deformation import COMPONENTS, Measure
from diskern.mapping.index import index_vectors
from diskern.mapping.lattice_map import LatticeMap, Reason
from diskern.mapping.strain_reference import References, known_reference, median_reference
from diskern.mapping.zone import zone_basis

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Reference = str | tuple[slice, slice] | ArrayLike | Crystal


@dataclass(frozen=True, eq=False, repr=False)
class StrainMap:
    """Strain and rotation of up to L lattices per scan position.

    A positive e_xx is a crystal stretched along x: its reciprocal lattice shrinks.  Without
    axes named, x runs along the image's columns and y along its rows; a positive rotation turns
    the lattice from +x towards +y.

    Attributes
    ----------
    values : (L, Y, X, 4) e_xx, e_yy, e_xy (no unit) and rotation (rad); NaN where unknown.
    covariance : (L, Y, X, 4, 4) of them, from the disks; the reference's own is apart.
    grain : (L, Y, X) as in `LatticeMap`.
    reason : (Y, X) `Reason` why the first lattice has no value.
    reference : the lattices compared with.
    reference_sigma : (G, 4) uncertainty that a grain's positions share through its reference.
    measure : ``finite`` or ``infinitesimal``.
    axes : "detector", "scan", or the angle of x' in degrees from the detector's +x.
    scan_step : (y, x) in Å, or None.
    provenance : what was done, ready for JSON.
    """

    values: Floats
    covariance: Floats
    grain: Ints
    reason: Ints
    reference: References
    reference_sigma: Floats
    measure: Measure
    axes: str | float
    scan_step: tuple[float, float] | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def component(self, name: str, lattice: int = 0) -> Floats:
        """(Y, X) e_xx, e_yy, e_xy or rotation, or one of them with ``sigma_`` before it."""
        bare = name.removeprefix("sigma_")
        if bare not in COMPONENTS:
            raise DiskernError(f"{name!r} is no component; use {', '.join(COMPONENTS)}")
        at = COMPONENTS.index(bare)
        if bare == name:
            return self.values[lattice, ..., at]
        return np.asarray(np.sqrt(self.covariance[lattice, ..., at, at]))

    @property
    def e_xx(self) -> Floats:
        """(Y, X) strain along x of the first lattice."""
        return self.component("e_xx")

    @property
    def e_yy(self) -> Floats:
        """(Y, X) strain along y of the first lattice."""
        return self.component("e_yy")

    @property
    def e_xy(self) -> Floats:
        """(Y, X) tensor shear strain (half the engineering shear) of the first lattice."""
        return self.component("e_xy")

    @property
    def rotation(self) -> Floats:
        """(Y, X) rotation of the first lattice in radians, from +x towards +y."""
        return self.component("rotation")

    @property
    def sigma_e_xx(self) -> Floats:
        """(Y, X) standard uncertainty of e_xx."""
        return self.component("sigma_e_xx")

    @property
    def sigma_e_yy(self) -> Floats:
        """(Y, X) standard uncertainty of e_yy."""
        return self.component("sigma_e_yy")

    @property
    def sigma_e_xy(self) -> Floats:
        """(Y, X) standard uncertainty of e_xy."""
        return self.component("sigma_e_xy")

    @property
    def sigma_rotation(self) -> Floats:
        """(Y, X) standard uncertainty of the rotation in radians."""
        return self.component("sigma_rotation")

    @property
    def principal(self) -> tuple[Floats, Floats, Floats]:
        """Larger and smaller principal strain and the angle in degrees of the larger, (Y, X)
        each, from +x towards +y."""
        mean, half = (self.e_xx + self.e_yy) / 2, (self.e_xx - self.e_yy) / 2
        size = np.hypot(half, self.e_xy)
        return mean + size, mean - size, np.degrees(np.arctan2(self.e_xy, half)) / 2

    def __repr__(self) -> str:
        ny, nx = self.values.shape[1:3]
        known = np.isfinite(self.e_xx)
        lines = [
            f"StrainMap({ny}×{nx}: {known.mean():.1%} with a value, {self.measure}, axes "
            f"{self.axes}, against the {self.reference.words})"
        ]
        for name in COMPONENTS if known.any() else ():
            value, sigma = self.component(name), self.component(f"sigma_{name}")
            scale, unit = (1e3, "mrad") if name == "rotation" else (100, "%")
            low, middle, high = np.nanpercentile(value, [2, 50, 98]) * scale
            lines.append(
                f"  {name:8}  {low:+.3f} … {middle:+.3f} … {high:+.3f} {unit}, "
                f"σ {np.nanmedian(sigma) * scale:.3f} {unit}"
            )
        return "\n".join(lines)


def strain_map(
    vectors: BraggVectors | LatticeMap,
    reference: Reference = "median",
    *,
    zone_axis: ArrayLike | None = None,
    calibration: VectorCalibration | None = None,
    measure: Measure = "finite",
    axes: str | float = "detector",
) -> StrainMap:
    """Strain tensor and rotation at every scan position, with their uncertainties.

    Parameters
    ----------
    vectors : Bragg vectors, or their lattices from `index_vectors`.
    reference : what counts as unstrained: ``"median"`` of each grain; a region, as a tuple of
        two slices or a (Y, X) mask; a (2, 2) basis in px, rows as (row, column); or a `Crystal`,
        which needs ``zone_axis`` and the calibration's pixel size (and ellipse: an ellipse that
        is not corrected is taken for strain).
    calibration : pixel size, ellipse, rotation; the vectors' own by default.
    measure : ``finite`` (polar decomposition) or ``infinitesimal``.
    axes : ``"detector"``, ``"scan"`` (needs the calibration's rotation), or the angle in degrees
        of x' from the detector's +x towards +y.

    Raises
    ------
    DiskernError
        For a reference without positions in it, or one that lacks its calibration.
    """
    deformation.check_measure(measure)
    if isinstance(vectors, LatticeMap):
        lattices, known = vectors, calibration or VectorCalibration()
    else:
        lattices, known = index_vectors(vectors), calibration or vectors.calibration
    undistorted = np.eye(2) if known.ellipse is None else known.ellipse
    basis = lattices.basis @ undistorted
    spread = _undistorted(lattices.covariance[..., 2:, 2:], undistorted)
    refs = _references(lattices, basis, reference, zone_axis, known, undistorted)
    turn = _axes_matrix(axes, known)
    values, covariance, shared = _compare(lattices, basis, spread, refs, measure)
    reason = _reasons(lattices, refs)
    return StrainMap(
        values @ turn.T,
        turn @ covariance @ turn.T,
        lattices.grain,
        reason,
        refs,
        np.sqrt(np.diagonal(turn @ shared @ turn.T, axis1=1, axis2=2)),
        measure,
        axes,
        known.scan_step,
        {"reference": refs.words, "measure": measure, "axes": axes, "ellipse": _plain(known)},
    )


def _compare(
    lattices: LatticeMap, basis: Floats, spread: Floats, refs: References, measure: Measure
) -> tuple[Floats, Floats, Floats]:
    """Values, their covariance, and (G, 4, 4) what the references add to every position."""
    values = np.full((*lattices.label.shape, 4), np.nan)
    covariance = np.full((*lattices.label.shape, 4, 4), np.nan)
    held = lattices.grain >= 0
    held[held] = (refs.reason == Reason.INDEXED)[lattices.grain[held]]
    xy, against = basis[held][..., ::-1], refs.basis[lattices.grain[held]][..., ::-1]
    gradient = deformation.deformation_gradient(xy, against)
    derivative = deformation.gradient_derivative(xy, gradient)
    values[held] = deformation.strain(gradient, measure)
    covariance[held] = deformation.strain_covariance(
        gradient, derivative, _as_xy(spread[held]), measure
    )
    # A small change of the reference acts like the opposite change of the lattice.
    same = np.broadcast_to(np.eye(2), refs.basis.shape)
    safe = np.where(np.isfinite(refs.basis), refs.basis, np.eye(2))[..., ::-1]
    shared = deformation.strain_covariance(
        same, deformation.gradient_derivative(safe, same), _as_xy(refs.covariance), measure
    )
    return values, covariance, shared


def _references(
    lattices: LatticeMap,
    basis: Floats,
    reference: Reference,
    zone_axis: ArrayLike | None,
    known: VectorCalibration,
    undistorted: Floats,
) -> References:
    if isinstance(reference, str):
        if reference != "median":
            raise DiskernError(
                f"reference={reference!r} is unknown; use median, a region, a basis or a crystal"
            )
        return median_reference(lattices, basis, None)
    if isinstance(reference, Crystal):
        if zone_axis is None or known.pixel_size is None:
            lacking = "zone_axis" if zone_axis is None else "pixel size"
            raise DiskernError(f"a crystal as reference needs its {lacking}; give it")
        zone = zone_basis(reference, zone_axis) / known.pixel_size
        words = (
            f"crystal {reference.name or reference.formula} along {np.ravel(zone_axis).tolist()}"
        )
        return known_reference(lattices, basis, zone, words, turn=True)
    if isinstance(reference, tuple) and all(isinstance(part, slice) for part in reference):
        region = np.zeros(lattices.scan_shape, dtype=bool)
        region[reference] = True
    else:
        array = np.asarray(reference)
        if array.shape == (2, 2) and array.dtype != bool:
            given = array.astype(np.float64) @ undistorted
            return known_reference(lattices, basis, given, "given basis", turn=False)
        region = array
    if region.shape != lattices.scan_shape or region.dtype != bool:
        raise DiskernError(
            f"the reference region has shape {region.shape}; the scan is {lattices.scan_shape}"
        )
    if not (region & lattices.indexed).any():
        raise DiskernError("no position of the reference region is indexed; choose another region")
    return median_reference(lattices, basis, region)


def _reasons(lattices: LatticeMap, refs: References) -> Ints:
    reason = lattices.reason.copy()
    first = lattices.grain[0]
    held = (first >= 0) & (reason == Reason.INDEXED)
    reason[held] = refs.reason[first[held]]
    return reason


def _axes_matrix(axes: str | float, known: VectorCalibration) -> Floats:
    """(4, 4) matrix that takes the components to the axes asked for."""
    if isinstance(axes, str):
        if axes == "detector":
            return np.eye(4)
        if axes != "scan":
            raise DiskernError(f"axes={axes!r} are unknown; use detector, scan or an angle")
        if known.rotation is None:
            raise DiskernError(
                "axes='scan' need the rotation between scan and detector; give it in the "
                "calibration, or use axes='detector'"
            )
        swap = np.eye(4)
        if known.flip:
            swap = np.diag([0.0, 0.0, 1.0, -1.0])
            swap[0, 1] = swap[1, 0] = 1.0
        return deformation.rotation_of_components(-known.rotation) @ swap
    return deformation.rotation_of_components(float(np.radians(axes)))


def _undistorted(covariance: Floats, matrix: Floats) -> Floats:
    """(…, 4, 4) covariance of basis @ matrix."""
    jacobian = np.kron(np.eye(2), matrix.T)
    return np.asarray(jacobian @ covariance @ jacobian.T)


def _as_xy(covariance: Floats) -> Floats:
    """(…, 4, 4) covariance of (a_x, a_y, b_x, b_y) from (a_row, a_col, b_row, b_col)."""
    order = np.array([1, 0, 3, 2])
    return covariance[..., order[:, None], order]


def _plain(known: VectorCalibration) -> Any:
    return None if known.ellipse is None else known.ellipse.tolist()
