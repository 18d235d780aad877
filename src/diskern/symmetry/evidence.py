"""What one pattern testifies: the shape of its net and the state of every node in view."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diskern.bragg.analysis import Analysis
from diskern.bragg.lattice import Lattice2D
from diskern.bragg.lattice_relation import relation
from diskern.errors import DiskernError
from diskern.patterns.geometry import Ellipse, Flaw
from diskern.simulate.spot_pattern import SpotPattern
from diskern.symmetry.evidence_photometry import aperture_sums, local_noise

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

DISTORTION = 0.003
"""Standard deviation of each component of the strain that a lens left in the image.

Ellipticities of 0.5 to 1 % are usual where none was measured."""
DOUBT, MOST_DOUBT = 0.03, 0.95
"""Probability that a net is none of the crystal's zones: of one that explains its pattern, and of
one that explains hardly any of its spots."""
HALF_EXPLAINED, PASSAGE = 0.57, 0.05
"""Part of the spots that a net must explain to be as likely right as wrong, and how fast that
changes: of 234 nets on simulated images 15 of 18 that explained less than 0.6 were none, and 13 of
the rest."""
EDGE = 2.0
"""Apertures from a beam stop within which a spot may be lost in its edge."""
FLOODED = 0.1
"""Part of an aperture that is saturated in which a spot may be lost."""


class NodeState(IntEnum):
    """What is known of a lattice node."""

    OBSERVED = 0
    DARK = 1
    HIDDEN = 2


@dataclass(frozen=True, eq=False, repr=False)
class PatternEvidence:
    """The testimony of one zone-axis pattern.

    Attributes
    ----------
    basis : (2, 2) rows are the reduced basis vectors in px, |a| ≤ |b|, 60° ≤ γ ≤ 120°.
    covariance : (3, 3) of (ln|a|, ln|b|, γ in rad).
    indices : (N, 2) nodes (m, n) within ``radius``, the origin not among them.
    intensity, sigma : (N,) integrated intensity and its standard uncertainty, any unit.
    limit : (N,) intensity below which the node could not have been seen.
    state : (N,) of `NodeState`.
    radius : px; nodes beyond it are not spoken of.
    pixel_size : 1/Å per px, or None.
    pixel_size_error : relative standard uncertainty.
    camera : patterns with the same label were taken at one camera length, so that one scale
        (known or not) holds for all of them.
    number : by which the pattern is spoken of; by default its place among those given.
    doubt : prior probability that the net is none of the crystal's zones: misread, of another
        grain, or of spots of several Laue zones.
    """

    basis: Floats
    covariance: Floats
    indices: Ints
    intensity: Floats
    sigma: Floats
    limit: Floats
    state: NDArray[np.int8]
    radius: float
    pixel_size: float | None = None
    pixel_size_error: float = 0.03
    camera: str | None = None
    source: str = ""
    number: int | None = None
    doubt: float = DOUBT

    @classmethod
    def from_nodes(
        cls,
        basis: ArrayLike,
        indices: ArrayLike,
        intensity: ArrayLike,
        *,
        sigma: ArrayLike | None = None,
        limit: ArrayLike | float = 0.0,
        hidden: ArrayLike | None = None,
        covariance: ArrayLike | None = None,
        radius: float | None = None,
        **known: object,
    ) -> PatternEvidence:
        """Build from measured nodes of any basis; nodes at or below ``limit`` count as dark.

        The basis is reduced and the indices follow.  Node (0, 0) is dropped.

        Parameters
        ----------
        basis : (2, 2) rows in px.
        indices : (N, 2) whole numbers.
        intensity, sigma, limit : (N,) or one number.
        covariance : (3, 3) as the attribute, of the *reduced* basis; `DISTORTION` by default.

        Raises
        ------
        DiskernError
            Where the basis is degenerate, shapes disagree or a value is not finite.
        """
        vectors = np.asarray(basis, dtype=np.float64)
        nodes = np.asarray(indices)
        values = np.asarray(intensity, dtype=np.float64)
        count = len(values)
        if vectors.shape != (2, 2) or not np.isfinite(vectors).all():
            raise DiskernError(f"basis has shape {vectors.shape}; give two finite vectors in px")
        if nodes.shape != (count, 2):
            raise DiskernError(
                f"indices has shape {nodes.shape}; {count} intensities need ({count}, 2)"
            )
        floor = np.broadcast_to(np.asarray(limit, dtype=np.float64), (count,))
        spread = 0.05 * np.abs(values) if sigma is None else np.asarray(sigma, dtype=np.float64)
        spread = np.broadcast_to(spread, (count,))
        if not (
            np.isfinite(values).all() and np.isfinite(floor).all() and np.isfinite(spread).all()
        ):
            raise DiskernError("intensity, sigma or limit holds a value that is not finite")
        change = reduce_basis(vectors)
        reduced = change @ vectors
        moved = np.rint(nodes @ np.linalg.inv(change)).astype(np.int64)
        state = np.where(values > floor, NodeState.OBSERVED, NodeState.DARK).astype(np.int8)
        if hidden is not None:
            state[np.asarray(hidden, dtype=bool)] = NodeState.HIDDEN
        length = np.linalg.norm(moved @ reduced, axis=1)
        reach = float(length.max(initial=0.0) if radius is None else radius)
        keep = moved.any(1) & (length <= reach * (1 + 1e-9))
        shape_covariance = distortion_covariance(reduced) if covariance is None else covariance
        return cls(
            basis=reduced,
            covariance=np.asarray(shape_covariance, dtype=np.float64),
            indices=moved[keep],
            intensity=values[keep],
            sigma=spread[keep].copy(),
            limit=floor[keep].copy(),
            state=state[keep],
            radius=reach,
            **known,  # type: ignore[arg-type]
        )

    @cached_property
    def shape(self) -> Floats:
        """(3,) ln|a|, ln|b| (lengths in px) and γ in rad."""
        a, b = self.basis
        la, lb = np.linalg.norm(a), np.linalg.norm(b)
        return np.array([np.log(la), np.log(lb), np.arccos(np.clip(a @ b / la / lb, -1, 1))])

    @cached_property
    def observed(self) -> NDArray[np.bool_]:
        """(N,) nodes that were seen."""
        return np.asarray(self.state == NodeState.OBSERVED)

    @cached_property
    def visible(self) -> NDArray[np.bool_]:
        """(N,) nodes that were seen or seen to be dark."""
        return np.asarray(self.state != NodeState.HIDDEN)

    def __len__(self) -> int:
        return len(self.intensity)

    def __repr__(self) -> str:
        a, b, gamma = np.exp(self.shape[0]), np.exp(self.shape[1]), np.degrees(self.shape[2])
        counts = [int((self.state == s).sum()) for s in NodeState]
        return (
            f"PatternEvidence({self.source or 'net'}: a={a:.2f} b={b:.2f} px γ={gamma:.2f}°, "
            f"{counts[0]} nodes seen, {counts[1]} dark, {counts[2]} hidden)"
        )

    def with_scale(
        self, pixel_size: float | None, error: float = 0.03, camera: str | None = None
    ) -> PatternEvidence:
        """A copy with another calibration."""
        return replace(self, pixel_size=pixel_size, pixel_size_error=error, camera=camera)


def _area(a: Floats, b: Floats) -> float:
    """Signed area of the parallelogram of two plane vectors."""
    return float(a[0] * b[1] - a[1] * b[0])


def reduce_basis(basis: Floats) -> Ints:
    """(2, 2) unimodular change that makes a basis reduced: |a| ≤ |b|, 60° ≤ γ ≤ 120°.

    The handedness of the basis is kept.

    Raises
    ------
    DiskernError
        Where the two vectors are parallel.
    """
    lengths = np.linalg.norm(basis, axis=1)
    if not abs(np.linalg.det(basis)) > 1e-6 * lengths.prod():
        raise DiskernError("the two basis vectors are parallel; a zone needs two directions")
    change = np.eye(2, dtype=np.int64)
    for _ in range(100):
        a, b = change @ basis
        if a @ a > (b @ b) * (1 + 1e-12):
            change = np.array([change[1], -change[0]])
            continue
        step = int(np.rint(a @ b / (a @ a) * (1 - 1e-12)))
        if step == 0:
            break
        change[1] -= step * change[0]
    return change


def distortion_covariance(basis: Floats, spread: float = DISTORTION) -> Floats:
    """(3, 3) covariance of a net's shape from an unknown small elliptical distortion."""
    angle = np.arctan2(basis[:, 1], basis[:, 0])
    cosine, sine = np.cos(2 * angle), np.sin(2 * angle)
    slope = np.array(
        [
            [cosine[0], sine[0]],
            [cosine[1], sine[1]],
            [-sine[1] + sine[0], cosine[1] - cosine[0]],
        ]
    )
    if _area(*basis) < 0:
        slope[2] *= -1
    # A floor keeps the matrix regular: centring errors and aberrations of higher order.
    return np.asarray(spread**2 * slope @ slope.T + (spread / 2) ** 2 * np.eye(3))


def evidence_from(analysis: Analysis, lattice: Lattice2D) -> PatternEvidence:
    """The testimony of one lattice found on an image.

    Every node within reach of the outermost indexed spot is measured by an aperture, whether a
    spot was found there or not; places between the nodes give the noise.  Nodes under a beam
    stop, an overlay or outside the detector are hidden, and those at its edge or in a part of the
    image that is flooded, unless a spot was found there.

    Raises
    ------
    DiskernError
        Where only one row of spots was found.
    """
    if lattice.rank < 2 or not np.isfinite(lattice.basis).all():
        raise DiskernError("only one row of spots was found; a zone axis needs two directions")
    pattern = analysis.pattern
    radius_px = _aperture(analysis, lattice)
    bad = (analysis.flaws & ~np.uint16(Flaw.SATURATED)) != 0
    flooded = (analysis.flaws & np.uint16(Flaw.SATURATED)) != 0
    residual = np.nan_to_num(pattern.image.astype(np.float64) - analysis.background)
    indices, position = lattice.nodes(pattern.shape)
    members = {tuple(i) for i in lattice.indices.tolist()}
    reach = np.linalg.norm(lattice.indices @ lattice.basis, axis=1).max(initial=0.0) * 1.02
    away = position - lattice.origin
    keep = (np.linalg.norm(away, axis=1) <= reach) & indices.any(1)
    indices, position = indices[keep], position[keep]
    value, share = aperture_sums(residual, bad, position, radius_px)
    null_position = _between(lattice, indices, pattern.shape)
    null_value, null_share = aperture_sums(residual, bad | flooded, null_position, radius_px)
    clean = null_share > 0.9
    level, noise = local_noise(position, null_position[clean], null_value[clean])
    value = value - level
    found = np.array([tuple(i) in members for i in indices.tolist()], dtype=bool)
    seen = found | (value > 5 * noise)
    # A node that the lattice fit claimed counts as seen even if the aperture hardly agrees.
    value = np.where(found, np.maximum(value, 3 * noise), value)
    limit = np.maximum(value, 0.0) + 2 * noise
    shadow = (analysis.flaws & np.uint16(Flaw.BEAM_STOP)) != 0
    beside = aperture_sums(residual, shadow, position, EDGE * radius_px)[1] < 1
    drowned = aperture_sums(residual, flooded, position, radius_px)[1] < 1 - FLOODED
    evidence = PatternEvidence.from_nodes(
        undistorted(lattice.basis, analysis.ellipse),
        indices,
        value,
        sigma=noise + 0.05 * np.abs(value),
        limit=np.where(seen, np.minimum(limit, 0.99 * value), np.maximum(limit, value)),
        hidden=(share < 0.8) | (~seen & (beside | drowned)),
        pixel_size=pattern.pixel_size,
        pixel_size_error=pattern.pixel_size_error,
        source=pattern.source,
        doubt=doubt_of(_explained(analysis, lattice)),
    )
    return replace(evidence, covariance=_fit_covariance(lattice, evidence, analysis.ellipse))


def doubt_of(explained: float) -> float:
    """Prior probability that a net is none of the crystal's zones, from the part of spots on it.

    Off the zone axes, spots of several Laue zones make nets that are planes of no reciprocal
    lattice, or of one that nobody looks along.
    """
    share = 1 / (1 + np.exp((explained - HALF_EXPLAINED) / PASSAGE))
    return float(DOUBT + (MOST_DOUBT - DOUBT) * share)


def _explained(analysis: Analysis, lattice: Lattice2D) -> float:
    """Part of the spots on a net, or on one that a turn or a mirror makes of it: a twin's."""
    members = set(lattice.members.tolist())
    for other in analysis.lattices:
        if other is lattice or other.rank < 2:
            continue
        if relation(lattice, other).kind in ("rotation", "mirror", "twin"):
            members |= set(other.members.tolist())
    return len(members) / max(len(analysis.spots), 1)


def evidence_of_simulation(
    pattern: SpotPattern, threshold: float = 1e-3, covariance: ArrayLike | None = None
) -> PatternEvidence:
    """The testimony of an ideal simulated zone-axis pattern, in 1/Å.

    The net is the one that spots above ``threshold`` (relative to the strongest) generate; its
    nodes that are weaker, or missing from the list, are dark.

    Raises
    ------
    DiskernError
        Where the visible spots lie on one row.
    """
    strong = pattern.intensity > threshold * pattern.intensity.max(initial=0.0)
    if strong.sum() < 2:
        raise DiskernError("fewer than two simulated spots are above the threshold")
    basis = generated_basis(pattern.q[strong])
    reach = float(np.linalg.norm(pattern.q[strong], axis=1).max()) * 1.001
    size = int(np.ceil(reach / np.linalg.svd(basis, compute_uv=False).min())) + 1
    side = np.arange(-size, size + 1)
    nodes = np.stack(np.meshgrid(side, side, indexing="ij"), -1).reshape(-1, 2)
    nodes = nodes[nodes.any(1) & (np.linalg.norm(nodes @ basis, axis=1) <= reach)]
    table = dict(zip(map(tuple, nodes.tolist()), range(len(nodes)), strict=True))
    intensity = np.zeros(len(nodes))
    place = pattern.q @ np.linalg.inv(basis)
    on = np.abs(place - np.rint(place)).max(1) < 0.05
    for node, value in zip(
        np.rint(place[on]).astype(int).tolist(), pattern.intensity[on], strict=True
    ):
        if tuple(node) in table:
            intensity[table[tuple(node)]] += value
    floor = threshold * pattern.intensity.max()
    return PatternEvidence.from_nodes(
        basis,
        nodes,
        intensity,
        sigma=0.03 * intensity + 0.2 * floor,
        limit=floor,
        covariance=covariance,
        pixel_size=1.0,
        pixel_size_error=0.01,
    )


def generated_basis(vectors: Floats, tolerance: float = 0.02) -> Floats:
    """(2, 2) basis of the lattice that exact plane vectors generate (Euclid's algorithm).

    ``tolerance`` is relative to the shortest vector.

    Raises
    ------
    DiskernError
        Where all vectors lie on one row.
    """
    lengths = np.linalg.norm(vectors, axis=1)
    order = np.argsort(lengths, kind="stable")
    small = tolerance * lengths[order[0]]
    basis: Floats | None = None
    first = vectors[order[0]]
    for v in vectors[order[1:]]:
        if basis is None:
            if abs(_area(first, v)) > small * np.linalg.norm(v):
                basis = np.array([first, v])
                basis = reduce_basis(basis) @ basis
            continue
        rest = v - np.rint(v @ np.linalg.inv(basis)) @ basis
        while np.linalg.norm(rest) > small:
            # The remainder is shorter than a basis vector: it replaces one, by Euclid.
            areas = [(abs(_area(rest, b)), k) for k, b in enumerate(basis)]
            _, k = min((a, k) for a, k in areas if a > small * np.linalg.norm(rest))
            old = basis[1 - k]
            basis = np.array([rest, basis[k]])
            basis = reduce_basis(basis) @ basis
            rest = old - np.rint(old @ np.linalg.inv(basis)) @ basis
    if basis is None:
        raise DiskernError("all visible spots lie on one row; a zone needs two directions")
    return basis


def undistorted(basis: Floats, ellipse: Ellipse) -> Floats:
    """Basis rows (row, column) with a measured elliptical distortion taken out."""
    phi = np.radians(ellipse.angle)
    axis = np.array([np.sin(phi), np.cos(phi)])  # (row, column) of the major axis
    # Areas are kept: the major axis shrinks and the minor one grows.
    half = np.sqrt(ellipse.ratio)
    along = np.outer(axis, axis)
    return np.asarray(basis @ (along / half + (np.eye(2) - along) * half))


def _aperture(analysis: Analysis, lattice: Lattice2D) -> float:
    radius = analysis.spots.radius[lattice.members] if len(analysis.spots) else np.zeros(0)
    usual = float(np.median(radius)) if len(radius) else 1.5
    # Twice the rms radius holds most of a spot; neighbours must not touch.
    return float(np.clip(2 * usual, 1.5, 0.3 * min(lattice.lengths)))


def _between(lattice: Lattice2D, indices: Ints, shape: tuple[int, int]) -> Floats:
    """Places half-way between nodes, inside the image."""
    halves = np.array([[0.5, 0.5], [0.5, 0.0], [0.0, 0.5]])
    where = (indices[:, None] + halves).reshape(-1, 2)
    position = lattice.origin + where @ lattice.basis
    inside = ((position >= 0) & (position <= np.array(shape) - 1)).all(1)
    return np.asarray(position[inside])


def _fit_covariance(lattice: Lattice2D, evidence: PatternEvidence, ellipse: Ellipse) -> Floats:
    """Covariance of the shape: that of the fit, and a distortion of which nobody knows."""
    known = ellipse.sigma > 0
    # Half the ellipticity is the strain; a measured ellipse leaves its own uncertainty.
    spread = max(ellipse.sigma / 2, 0.001) if known else DISTORTION
    total = distortion_covariance(evidence.basis, spread)
    fitted = lattice.covariance[2:, 2:]
    if not np.isfinite(fitted).all():
        return total
    # Length and direction errors of each vector, from the covariance of its components.
    change = evidence.basis @ np.linalg.inv(undistorted(lattice.basis, ellipse))
    mixed = np.kron(change, np.eye(2))
    components = mixed @ fitted @ mixed.T
    slope = np.zeros((3, 4))
    sign = 1.0 if _area(*evidence.basis) > 0 else -1.0
    for i, (row, col) in enumerate(evidence.basis):
        square = row * row + col * col
        slope[i, 2 * i : 2 * i + 2] = np.array([row, col]) / square
        turn = np.array([-col, row]) / square
        slope[2, 2 * i : 2 * i + 2] = sign * (turn if i else -turn)
    return np.asarray(total + slope @ components @ slope.T)
