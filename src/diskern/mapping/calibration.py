"""Calibration of a scan from its own Bragg vectors: origin, pixel size, ellipse, rotation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diskern.bragg.vectors import BraggVectors
from diskern.bragg.vectors_calibration import VectorCalibration
from diskern.crystal.crystal import Crystal
from diskern.errors import DiskernError
from diskern.mapping.calibration_crystal import Scale, ellipse_of_grains, scale_of_known
from diskern.mapping.descan import DescanModel, fit_descan
from diskern.mapping.index import index_vectors
from diskern.mapping.lattice_map import LatticeMap
from diskern.mapping.origin import Origins, find_origins
from diskern.mapping.strain_reference import SMALLEST
from diskern.mapping.zone import zone_basis

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_GRAINS = 40  # grains that take part in the ellipse


class OriginSource(IntEnum):
    """What an origin was taken from."""

    NONE = 0
    BEAM = 1
    LATTICE = 2


@dataclass(frozen=True, eq=False, repr=False)
class ScanCalibration:
    """What the vectors of a scan say about the instrument, and what they cannot.

    Attributes
    ----------
    origin : (Y, X, 2) row and column in px of the direct beam; NaN where neither the beam nor a
        lattice was seen.
    origin_sigma : (Y, X, 2) in px.
    origin_source : (Y, X) `OriginSource`.
    direct_beam : whether the scan shows its direct beam; without it the origin is the node of the
        lattice nearest to the centre of Friedel symmetry.
    descan : smooth model of the origin with its residual, or None where too few are known.
    scale : pixel size and ellipse with their covariance, as far as they were found.
    pixel_size, sigma_pixel_size : 1/Å per px, or None.
    ellipse : (2, 2) matrix that undoes the ellipse, as in `VectorCalibration`, or None.
    ellipse_ratio, sigma_ellipse : major over minor axis, and its uncertainty, or None.
    rotation, flip, energy, scan_step : as in `VectorCalibration`; given, not measured.
    notes : sentences on what could not be told apart.
    """

    origin: Floats
    origin_sigma: Floats
    origin_source: Ints
    direct_beam: bool
    descan: DescanModel | None
    scale: Scale | None
    pixel_size: float | None
    sigma_pixel_size: float | None
    ellipse: Floats | None
    ellipse_ratio: float | None
    sigma_ellipse: float | None
    rotation: float | None
    flip: bool
    energy: float | None
    scan_step: tuple[float, float] | None
    notes: tuple[str, ...]

    def vector_calibration(self, *, smooth_origin: bool = False) -> VectorCalibration:
        """The calibration as Bragg vectors carry it.

        Parameters
        ----------
        smooth_origin : take the descan model for every origin, also where none was measured;
            otherwise origins stay NaN where unknown.
        """
        origin = self.origin
        if smooth_origin:
            if self.descan is None:
                raise DiskernError("there is no smooth origin: too few were measured")
            origin = self.descan.at((origin.shape[0], origin.shape[1]))
        return VectorCalibration(
            self.pixel_size,
            self.energy,
            self.scan_step,
            origin,
            self.ellipse,
            self.rotation,
            self.flip,
        )

    def apply(self, vectors: BraggVectors, *, smooth_origin: bool = False) -> BraggVectors:
        """The vectors with this calibration in place of their own."""
        return replace(vectors, calibration=self.vector_calibration(smooth_origin=smooth_origin))

    def __repr__(self) -> str:
        known = self.origin_source != OriginSource.NONE
        ny, nx = known.shape
        lines = [f"ScanCalibration({ny}×{nx}: origin of {known.mean():.1%} of the patterns)"]
        if known.any():
            row, col = np.nanmedian(self.origin, axis=(0, 1))
            spread = np.nanmedian(self.origin_sigma)
            lines.append(f"  origin      {row:.2f}, {col:.2f} px, σ {spread:.3f} px")
        if self.descan is not None:
            r, c = self.descan.residual
            lines.append(f"  descan      order {self.descan.order}, residual {r:.3f}, {c:.3f} px")
        if self.pixel_size is not None:
            sigma = f" ± {self.sigma_pixel_size:.2g}" if self.sigma_pixel_size else ""
            lines.append(f"  pixel size  {self.pixel_size:.6g}{sigma} 1/Å")
        if self.ellipse_ratio is not None:
            sigma = f" ± {self.sigma_ellipse:.2g}" if self.sigma_ellipse else ""
            lines.append(f"  ellipse     axes {self.ellipse_ratio:.5f}{sigma}")
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])


def calibrate(
    vectors: BraggVectors,
    lattices: LatticeMap | None = None,
    *,
    crystal: Crystal | None = None,
    zone_axis: ArrayLike | None = None,
    region: tuple[slice, slice] | ArrayLike | None = None,
    descan_order: int = 2,
) -> ScanCalibration:
    """Calibrate a scan from its Bragg vectors.

    Parameters
    ----------
    vectors : their own calibration counts as given: pixel size, energy, rotation, scan step.
    lattices : from `index_vectors`, where it has been done already.
    crystal, zone_axis : a known crystal, unstrained in ``region``: gives pixel size and ellipse.
    region : two slices or a (Y, X) mask where it is; everywhere by default.
    descan_order : order of the smooth model of the origin, 0 to 3.

    Returns
    -------
    Without a crystal the ellipse is found only where several grains of one lattice lie in
    different orientations.  The rotation between scan and detector does not show in Bragg vectors;
    `diskern.mapping.rotation.scan_rotation` finds it from a strain map that varies enough.

    Raises
    ------
    DiskernError
        For a crystal without zone axis, a region without lattices, an impossible order.
    """
    if (crystal is None) != (zone_axis is None):
        lacking = "zone_axis" if zone_axis is None else "crystal"
        raise DiskernError(f"{lacking} is missing; a known crystal needs its zone axis")
    lattices = index_vectors(vectors) if lattices is None else lattices
    given = vectors.calibration
    start = find_origins(lattices.points)
    origin, sigma, source = _origins(lattices, start)
    notes: list[str] = []
    if not start.direct:
        notes.append(
            "the direct beam is hidden: the origin is the lattice node nearest to the centre of "
            "Friedel symmetry, certain only up to a lattice vector"
        )
    try:
        descan = fit_descan(origin, sigma, descan_order)
    except DiskernError:
        if not 0 <= descan_order <= 3:
            raise
        descan = None
        notes.append("too few origins for a model of the descan")
    scale = None
    if crystal is not None:
        basis, covariance = _grain_means(lattices, _region(region, lattices))
        scale = scale_of_known(basis, covariance, zone_basis(crystal, np.asarray(zone_axis)))
        notes.append(_about_crystal(len(basis)))
    elif given.ellipse is None:
        basis, covariance = _grain_means(lattices, None)
        scale = ellipse_of_grains(basis, covariance) if len(basis) > 1 else None
        notes.append(_about_ellipse(scale, len(basis)))
    if given.rotation is None:
        notes.append("the rotation between scan and detector is not known; strain is in detector "
                     "axes")  # fmt: skip
    return _assembled(given, (origin, sigma, source), start.direct, descan, scale, notes)


def _assembled(
    given: VectorCalibration,
    origins: tuple[Floats, Floats, Ints],
    direct: bool,
    descan: DescanModel | None,
    scale: Scale | None,
    notes: list[str],
) -> ScanCalibration:
    pixel_size, sigma_pixel, ellipse = given.pixel_size, None, given.ellipse
    ratio = sigma_ratio = None
    if ellipse is not None:
        ratio = float(np.linalg.cond(ellipse))
    if scale is not None:
        # The ellipse matrix has a larger eigenvalue of 1, which belongs to the pixel size.
        largest = float(np.linalg.eigvalsh(scale.matrix).max())
        ellipse = scale.matrix / largest
        ratio, sigma_ratio = _ratio(scale)
        if np.isfinite(scale.covariance[0, 0]):
            pixel_size = largest
            gradient = np.array([1.0, *_direction(scale)])
            sigma_pixel = largest * float(np.sqrt(gradient @ scale.covariance @ gradient))
    return ScanCalibration(
        *origins,
        direct,
        descan,
        scale,
        pixel_size,
        sigma_pixel,
        ellipse,
        ratio,
        sigma_ratio,
        given.rotation,
        given.flip,
        given.energy,
        given.scan_step,
        tuple(notes),
    )


def _origins(lattices: LatticeMap, start: Origins) -> tuple[Floats, Floats, Ints]:
    """Origin from the lattice where there is one, else the direct beam itself, else NaN."""
    shape = lattices.scan_shape
    seen = start.seen.reshape(shape)
    origin = np.where(seen[..., None], start.position.reshape(*shape, 2), np.nan)
    sigma = np.where(seen, start.sigma.reshape(shape), np.nan)[..., None].repeat(2, axis=-1)
    source = np.where(seen, int(OriginSource.BEAM), int(OriginSource.NONE))
    held = lattices.indexed
    origin[held] = lattices.origin[0][held]
    variance = np.diagonal(lattices.covariance[0], axis1=-2, axis2=-1)[..., :2]
    sigma[held] = np.sqrt(variance[held])
    source[held] = int(OriginSource.LATTICE)
    if not start.direct and held.any():
        _same_node(origin, lattices)
    return origin, sigma, source


def _same_node(origin: Floats, lattices: LatticeMap) -> None:
    """Move origins by lattice vectors to the node nearest to where most patterns have theirs."""
    middle = np.nanmedian(origin.reshape(-1, 2), axis=0)
    held = lattices.indexed
    basis = lattices.basis[0][held]
    away = np.einsum("pi,pij->pj", middle - origin[held], np.linalg.inv(basis))
    origin[held] += np.einsum("pi,pij->pj", np.rint(away), basis)


def _grain_means(lattices: LatticeMap, region: Bools | None) -> tuple[Floats, Floats]:
    """(K, 2, 2) mean basis of each grain and (K, 4, 4) its covariance, largest grains first."""
    use = lattices.grain >= 0
    if region is not None:
        use = use & region
        if not use.any():
            raise DiskernError("no position of the region is indexed; choose another region")
    number = lattices.grain[use]
    spread = lattices.covariance[use][:, 2:, 2:]
    basis = lattices.basis[use]
    sizes = np.bincount(number)
    least = min(SMALLEST, int(sizes.max(initial=0)))
    chosen = np.argsort(-sizes, kind="stable")[:_GRAINS]
    means, covariances = [], []
    for g in chosen[sizes[chosen] >= least]:
        mine = number == g
        count = int(mine.sum())
        middle = np.median(basis[mine], axis=0)
        # Scatter within the grain (strain) counts beside the noise of the single positions.
        scatter = np.atleast_2d(np.cov((basis[mine] - middle).reshape(count, 4).T))
        inner = scatter if count > SMALLEST else spread[mine].mean(axis=0)
        means.append(middle)
        covariances.append(np.pi / 2 * inner / count)
    return np.array(means).reshape(-1, 2, 2), np.array(covariances).reshape(-1, 4, 4)


def _region(region: tuple[slice, slice] | ArrayLike | None, lattices: LatticeMap) -> Bools | None:
    if region is None:
        return None
    if isinstance(region, tuple) and all(isinstance(part, slice) for part in region):
        mask = np.zeros(lattices.scan_shape, dtype=bool)
        mask[region] = True
        return mask
    mask = np.asarray(region)
    if mask.shape != lattices.scan_shape or mask.dtype != bool:
        raise DiskernError(f"the region has shape {mask.shape}; the scan is {lattices.scan_shape}")
    return mask


def _direction(scale: Scale) -> Floats:
    """(2,) unit vector of the ellipse's two parts."""
    pair = scale.parameters[1:]
    return pair / max(float(np.hypot(*pair)), 1e-12)


def _ratio(scale: Scale) -> tuple[float, float]:
    """Major over minor axis, and its standard uncertainty."""
    ratio = float(np.exp(2 * np.hypot(*scale.parameters[1:])))
    along = _direction(scale)
    if not along.any():
        along = np.array([1.0, 0.0])
    return ratio, float(2 * ratio * np.sqrt(along @ scale.covariance[1:, 1:] @ along))


def _about_crystal(grains: int) -> str:
    if grains == 1:
        return (
            "pixel size and ellipse are those that make the region's mean lattice the crystal's: "
            "a uniform strain of the region would look the same"
        )
    return f"pixel size and ellipse are the mean over {grains} grains of the crystal"


def _about_ellipse(scale: Scale | None, grains: int) -> str:
    if scale is not None:
        return f"the ellipse is the one that gives {grains} grains one lattice"
    return (
        "an elliptical distortion cannot be told from the lattice's own shape without a known "
        "crystal or grains in different orientations"
    )
