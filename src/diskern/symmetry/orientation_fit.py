"""How well an orientation explains a spot pattern, and the fit that improves it.

Spots are taken as a Poisson process: each reflection g shows up with the probability D_g that
its intensity clears the detection limit, scattered about its place with the position's
uncertainty; anything may show up anywhere at a low even rate.  With ρ the rate of stray spots,

    ln L = Σ_i ln(ρ + Σ_g D_g N(p_i - p_g)) - ρ A - Σ_g D_g.

The last sum charges a crystal for every reflection it predicts and the pattern lacks, so a dense
reciprocal lattice, which finds a node near any spot, pays for its nodes.  The fit minimises
in-plane distances and excitation errors together; excitation errors of the spots that are lit are
what fixes the tilt.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from diskern.symmetry.indexing_view import SpotView
from diskern.symmetry.kinematic_table import KinematicTable

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

RODS = (0.004, 0.012)
"""1/Å, half-width at half-maximum of a reflection along the beam: foils of some 10 and 3 nm, or
thicker and bent ones.  A pattern is judged by the better of them."""
ROD = RODS[0]
ROD_END = 0.06
"""1/Å, beyond which nothing is expected however strong the reflection."""
MOSAIC = 3e-3
"""rad, spread of orientations within the area (bending, grains, drift of a 3D-ED frame)."""
EXPOSURES = (0.4, 0.15, 0.05, 0.015, 0.005)
"""Intensities, relative to the strongest reflection at s = 0, that are found every other time."""
USUAL_EXPOSURE = EXPOSURES[3]
RESIDUAL_DISTORTION = 0.004
"""Relative error of a position that no ellipse takes up."""
LEAST_STRAY = 0.1
"""Share of the spots that is expected to be stray even where all fit."""
MULTIPLE_SCATTERING = 0.4
"""Prior probability that a pattern shows much multiple scattering."""
LOG_INTENSITY_SIGMA = 1.0
"""Scatter of ln(intensity) about |F| times the rod's profile: dynamical diffraction, bending."""
WORST_INTENSITY = 2.0
LEAST_RELATIVE = 0.03
"""Spots weaker than this against the best-excited one say no less about their excitation."""
ON_A_ZONE = 0.7
"""Prior probability that the crystal was tilted to a zone axis."""
TILTED_TO = 0.03
"""rad, how near an operator gets to it."""
FLAT_SCALE = np.log(100.0)
"""Width of the even prior on ln(scale) where nothing is known of it."""
CHUNK = 1_500_000
"""Orientation × reflection products held at a time."""


@dataclass(frozen=True, eq=False)
class Fit:
    """Refined orientations of one crystal against one pattern, H of them.

    Attributes
    ----------
    matrix : (H, 3, 3) crystal → lab.
    scale : (H,) 1/Å per px.
    strain : (H, 2) residual ellipse (e_xx = -e_yy, e_xy) applied to the spots.
    covariance : (H, 6, 6) of the rotation vector (rad, lab frame), ln scale, and the strain.
    log_likelihood : (H,) natural log, relative to "all spots are stray".
    evidence : (H,) the same with every prior and with the volume of the parameters.
    exposure : (H,) the detection limit that fits best, one of `EXPOSURES`.
    """

    matrix: Floats
    scale: Floats
    strain: Floats
    covariance: Floats
    log_likelihood: Floats
    evidence: Floats
    exposure: Floats

    def __len__(self) -> int:
        return len(self.scale)

    def select(self, keep: Ints | NDArray[np.bool_]) -> Fit:
        """Some of them, in that order."""
        return Fit(
            self.matrix[keep],
            self.scale[keep],
            self.strain[keep],
            self.covariance[keep],
            self.log_likelihood[keep],
            self.evidence[keep],
            self.exposure[keep],
        )


def ewald_vectors(p: Floats, scale: Floats, wavelength: float) -> Floats:
    """(H, N, 3) points of the Ewald sphere in 1/Å above (H, N, 2) or (N, 2) positions in px."""
    q = p * scale[:, None, None]
    k = 1.0 / wavelength
    out = np.empty((*q.shape[:-1], 3))
    out[..., :2] = q
    out[..., 2] = np.sqrt(np.maximum(k * k - squared_norm(q), 0.0)) - k
    return out


def squared_norm(vectors: Floats) -> Floats:
    """(...) squared lengths of (..., n) short vectors; a sum over so short an axis is slow."""
    return np.asarray(np.einsum("...i,...i->...", vectors, vectors))


def rod_profile(s_g: Floats, length: Floats, rod: float = ROD) -> Floats:
    """Intensity at an excitation error relative to that at s = 0."""
    width = rod**2 + (MOSAIC * length) ** 2
    return np.asarray(np.where(np.abs(s_g) < ROD_END, width / (width + s_g * s_g), 0.0))


def strained(p: Floats, strain: Floats) -> Floats:
    """(H, N, 2) positions after the residual ellipse (H, 2) is applied to (N, 2)."""
    xx, xy = strain[:, 0, None], strain[:, 1, None]
    x, y = p[:, 0], p[:, 1]
    return np.stack([x * (1 + xx) + y * xy, y * (1 - xx) + x * xy], axis=-1)


@dataclass(frozen=True, eq=False)
class Match:
    """Spots against their nearest reflections, for H orientations and N spots.

    Attributes
    ----------
    row : (H, N) row of the table, -1 where the nearest node does not diffract.
    node : (H, N, 3) its lab-frame vector in 1/Å.
    offset : (H, N, 2) measured minus predicted position in 1/Å.
    s_g : (H, N) its excitation error in 1/Å.
    visibility : (H, N) its relative |F|, 0 where it does not diffract.
    length : (H, N) its |g| in 1/Å.
    """

    row: Ints
    node: Floats
    offset: Floats
    s_g: Floats
    visibility: Floats
    length: Floats

    def intensity(self, rod: float = ROD) -> Floats:
        """(H, N) expected intensity, relative to the strongest reflection at s = 0."""
        return self.visibility * rod_profile(self.s_g, self.length, rod)


def match_spots(
    table: KinematicTable,
    view: SpotView,
    matrix: Floats,
    scale: Floats,
    strain: Floats | None = None,
) -> Match:
    """Find the reflection nearest to every spot (see `Match`)."""
    p = view.p[None] if strain is None else strained(view.p, strain)
    points = ewald_vectors(p, scale, view.wavelength)
    row, node = table.nearest(points @ matrix)
    lab = node @ np.swapaxes(matrix, 1, 2)
    squared = squared_norm(lab)
    s_g = -lab[..., 2] - 0.5 * view.wavelength * squared
    visibility = np.where(row < 0, 0.0, table.visibility[row])
    offset = points[..., :2] - lab[..., :2]
    return Match(row, lab, offset, s_g, visibility, np.sqrt(squared))


def position_density(view: SpotView, match: Match, scale: Floats, distortion: float) -> Floats:
    """(H, N) Gaussian density in 1/px² of each spot about its reflection."""
    variance = view.sigma**2 + (distortion**2) * squared_norm(view.p)
    squared = squared_norm(match.offset) / scale[:, None] ** 2
    return np.asarray(np.exp(-0.5 * squared / variance) / (2 * np.pi * variance))


def quick_score(table: KinematicTable, view: SpotView, matrix: Floats, scale: Floats) -> Floats:
    """(H,) gain over stray spots without the charge for missing reflections; for ranking only."""
    match = match_spots(table, view, matrix, scale)
    density = position_density(view, match, scale, 1.5 * max(view.distortion, 0.008))
    intensity = match.intensity()
    found = intensity / (intensity + USUAL_EXPOSURE)
    rate = max(len(view), 1) * 0.5 / view.area
    return np.asarray(np.log1p(found * density / rate).sum(-1))


def log_likelihood(
    table: KinematicTable,
    view: SpotView,
    matrix: Floats,
    scale: Floats,
    strain: Floats | None = None,
    distortion: float = RESIDUAL_DISTORTION,
    rods: tuple[float, ...] = RODS,
) -> tuple[Floats, Floats]:
    """Natural-log likelihood relative to "all spots are stray", at the best exposure and rod.

    Whether multiple scattering lights weak and forbidden reflections is a matter of the whole
    pattern, not of each spot, so every case is tried.

    Returns
    -------
    (H,) likelihood and (H,) exposure, one of `EXPOSURES`.
    """
    match = match_spots(table, view, matrix, scale, strain)
    density = position_density(view, match, scale, distortion)
    cases = [table, *table.multiple]
    prior = np.log([1 - MULTIPLE_SCATTERING] + [MULTIPLE_SCATTERING / (len(cases) - 1)] * 2)
    # The geometry is the same in all; only the visibilities differ.
    counts = _expected_counts(cases, view, matrix, scale, rods)
    found = []
    for case, expected, weight in zip(cases, counts, prior, strict=False):
        lit = replace(match, visibility=np.where(match.row < 0, 0.0, case.visibility[match.row]))
        likelihood, exposure = _log_likelihood(view, lit, density, expected, rods)
        found.append((likelihood + weight, exposure))
    likelihoods, exposures = (np.array(column) for column in zip(*found, strict=True))
    best = likelihoods.argmax(0)[None]
    return (
        np.take_along_axis(likelihoods, best, 0)[0],
        np.take_along_axis(exposures, best, 0)[0],
    )


def _log_likelihood(
    view: SpotView, match: Match, density: Floats, expected: Floats, rods: tuple[float, ...]
) -> tuple[Floats, Floats]:
    """`log_likelihood` of one strength of multiple scattering."""
    n, area = len(view), view.area
    null = n * np.log(max(n, 1) / area) - n
    limits = np.array(EXPOSURES)[:, None, None]
    total = []
    for rod, count in zip(rods, expected, strict=True):
        intensity = match.intensity(rod)
        hits = intensity / (intensity + limits) * density
        stray = np.full(hits.shape[:2], 0.5 * n)
        for _ in range(2):
            rate = np.clip(stray, LEAST_STRAY * n + 0.2, max(n, 1)) / area
            either = rate[..., None] + hits
            member = hits / either
            stray = n - member.sum(-1)
        gain = np.log(either).sum(-1) - rate * area - count - null
        total.append(gain + _intensity_gain(view, intensity, member))
    best = np.concatenate(total)
    return best.max(0), np.array(EXPOSURES * len(rods))[best.argmax(0)]


def _intensity_gain(view: SpotView, intensity: Floats, member: Floats) -> Floats:
    """(E, H) how much better the predicted intensities account for the observed than chance.

    Weak evidence by design: ln(intensity) scatters by `LOG_INTENSITY_SIGMA` about the prediction,
    and no spot counts against an orientation more than a stray one would.

    Parameters
    ----------
    intensity : (H, N) predicted.
    member : (E, H, N) probability that a spot is not stray.
    """
    observed = view.log_intensity
    spread = max(float(np.std(observed)) if len(view) else 0.0, LOG_INTENSITY_SIGMA)
    excess = observed - np.log(np.maximum(intensity, 1e-6))
    weight = member + 1e-9
    shift = (weight * excess).sum(-1) / weight.sum(-1)
    misfit = (excess - shift[..., None]) / LOG_INTENSITY_SIGMA
    chance = (observed - observed.mean()) / spread
    gain = 0.5 * (chance**2 - misfit**2) + np.log(spread / LOG_INTENSITY_SIGMA)
    return np.asarray((member * np.maximum(gain, -WORST_INTENSITY)).sum(-1))


def expected_counts(
    table: KinematicTable,
    view: SpotView,
    matrix: Floats,
    scale: Floats,
    rods: tuple[float, ...] = RODS,
) -> Floats:
    """(R, E, H) number of reflections expected in sight, for each rod and each of `EXPOSURES`."""
    return np.asarray(_expected_counts([table], view, matrix, scale, rods)[0])


def _expected_counts(
    tables: list[KinematicTable],
    view: SpotView,
    matrix: Floats,
    scale: Floats,
    rods: tuple[float, ...],
) -> Floats:
    """(V, R, E, H) `expected_counts` of tables that differ in their visibilities alone."""
    within = int(np.searchsorted(tables[0].length, view.reach * scale.max(initial=0.0)))
    g, length = tables[0].g[:within], tables[0].length[:within]
    sag = 0.5 * view.wavelength * length**2
    total = np.zeros((len(tables), len(rods), len(EXPOSURES), len(matrix)))
    step = max(1, CHUNK // max(within, 1))
    for start in range(0, len(matrix), step):
        part = matrix[start : start + step]
        s_g = part[:, 2] @ g.T
        s_g += sag
        # Only a thin slab of the ball lies near the Ewald sphere.
        flat = np.flatnonzero(np.abs(s_g) < ROD_END)
        which, reflection = np.divmod(flat, max(within, 1))
        pixels = scale[start + which]
        x, y = ((part[:, i] @ g.T).ravel()[flat] / pixels for i in (0, 1))
        seen = view.sees(x, y)
        which, reflection, near = which[seen], reflection[seen], s_g.ravel()[flat[seen]]
        for r, rod in enumerate(rods):
            profile = rod_profile(near, length[reflection], rod)
            for v, table in enumerate(tables):
                intensity = table.visibility[reflection] * profile
                for e, exposure in enumerate(EXPOSURES):
                    found = intensity / (intensity + exposure)
                    count = np.bincount(which, found, minlength=len(part))
                    total[v, r, e, start : start + step] = count
    return total


def refine(
    table: KinematicTable,
    view: SpotView,
    matrix: Floats,
    scale: Floats,
    strain: Floats | None = None,
    *,
    rounds: int = 3,
    leash: float | None = None,
) -> Fit:
    """Fit rotation, scale and residual ellipse of H starting orientations at once.

    Parameters
    ----------
    leash : standard deviation in rad within which the start is known already (a stage angle);
        the evidence then holds the likelihood and this prior alone.
    """
    start = matrix
    scale = scale.copy()
    strain = np.zeros((len(scale), 2)) if strain is None else strain.copy()
    covariance: Floats = np.zeros((len(scale), 6, 6))
    for width in [*np.geomspace(2.5, 1.0, rounds), 1.0]:
        normal, right = normal_equations(table, view, matrix, scale, strain, float(width))
        precision, pull = priors(view, scale, strain)
        if leash is not None:
            precision[:3] = 1.0 / leash**2
            pull[:, :3] = -precision[:3] * _rotvec(matrix @ np.swapaxes(start, 1, 2))
        normal[:, range(6), range(6)] += precision
        covariance = np.asarray(np.linalg.inv(normal), dtype=np.float64)
        step = np.einsum("hij,hj->hi", covariance, right + pull)
        matrix = turn_matrices(step[:, :3]) @ matrix
        scale = scale * np.exp(np.clip(step[:, 3], -0.1, 0.1))
        strain = strain + step[:, 4:]
    likelihood, exposure = log_likelihood(table, view, matrix, scale, strain)
    if leash is None:
        evidence = likelihood + prior_and_volume(table, view, matrix, scale, strain, covariance)
    else:
        turned = _rotvec(matrix @ np.swapaxes(start, 1, 2)) / leash
        volume = 0.5 * np.linalg.slogdet(covariance[:, :3, :3] / leash**2)[1]
        evidence = likelihood - 0.5 * (turned**2).sum(-1) + volume
    return Fit(matrix, scale, strain, covariance, likelihood, np.asarray(evidence), exposure)


def normal_equations(
    table: KinematicTable,
    view: SpotView,
    matrix: Floats,
    scale: Floats,
    strain: Floats,
    width: float,
) -> tuple[Floats, Floats]:
    """Least squares at the present match of the spots, without priors.

    Parameters
    ----------
    width : factor on the allowance for distortion when spots are given to reflections.

    Returns
    -------
    (H, 6, 6) normal matrix and (H, 6) right-hand side, for the rotation vector in the lab frame,
    ln scale, and the two strains.
    """
    match = match_spots(table, view, matrix, scale, strain)
    weight = _membership(view, match, scale, width)
    q = strained(view.p, strain) * scale[:, None, None]
    n = match.node
    jacobian = np.zeros((*match.row.shape, 3, 6))
    # Turning the crystal by ω moves a node by ω × n; offset = measured - predicted.
    jacobian[..., 0, 1], jacobian[..., 0, 2] = -n[..., 2], n[..., 1]
    jacobian[..., 1, 0], jacobian[..., 1, 2] = n[..., 2], -n[..., 0]
    jacobian[..., 2, 0], jacobian[..., 2, 1] = -n[..., 1], n[..., 0]
    jacobian[..., :2, 3] = q
    jacobian[..., 0, 4], jacobian[..., 1, 4] = q[..., 0], -q[..., 1]
    jacobian[..., 0, 5], jacobian[..., 1, 5] = q[..., 1], q[..., 0]
    residual = np.concatenate([match.offset, match.s_g[..., None]], axis=-1)
    inverse_variance = _inverse_variance(view, match, scale) * weight[..., None]
    # One matrix product per orientation over all residuals of all spots.
    flat = jacobian.reshape(len(scale), -1, 6)
    weighted = flat * inverse_variance.reshape(len(scale), -1, 1)
    normal = np.swapaxes(weighted, 1, 2) @ flat
    right = -np.einsum("hmk,hm->hk", weighted, residual.reshape(len(scale), -1))
    return normal, right


def _membership(view: SpotView, match: Match, scale: Floats, width: float) -> Floats:
    """(H, N) probability that a spot belongs to its nearest reflection."""
    distortion = width * max(view.distortion, RESIDUAL_DISTORTION)
    hits = position_density(view, match, scale, distortion)
    intensity = match.intensity()
    hits = hits * intensity / (intensity + USUAL_EXPOSURE)
    rate = 0.3 * max(len(view), 1) / view.area
    return np.asarray(hits / (hits + rate))


def _inverse_variance(view: SpotView, match: Match, scale: Floats) -> Floats:
    """(H, N, 3) of the two offsets and of the excitation error, in Å²."""
    in_plane = view.sigma**2 + RESIDUAL_DISTORTION**2 * squared_norm(view.p)
    squared = squared_norm(match.node)
    out = np.empty((*match.row.shape, 3))
    out[..., :2] = 1.0 / (in_plane * scale[:, None] ** 2)[..., None]
    # On a Lorentzian rod s² ≈ width² / (I / I(s = 0)): spots that are bright for their structure
    # factor lie close to the Ewald sphere, faint ones may lie anywhere near it.
    bright = view.intensity / np.maximum(match.visibility, 1e-3) * (match.row >= 0)
    top = np.quantile(bright, 0.9, axis=1, keepdims=True)
    relative = np.clip(bright / np.maximum(top, 1e-30), LEAST_RELATIVE, 1.0)
    out[..., 2] = 0.5 * relative / (ROD**2 + MOSAIC**2 * squared)
    return out


def priors(view: SpotView, scale: Floats, strain: Floats) -> tuple[Floats, Floats]:
    """(6,) precisions of the Gaussian priors and (H, 6) their pull on the next step."""
    precision = np.zeros(6)
    precision[:3] = 1.0
    precision[4:] = 1.0 / view.distortion**2
    pull = np.zeros((len(scale), 6))
    if view.scale is not None:
        precision[3] = 1.0 / view.scale_error**2
        pull[:, 3] = -precision[3] * np.log(scale / view.scale)
    else:
        precision[3] = 1e-6
    pull[:, 4:] = -precision[4:] * strain
    return precision, pull


def prior_and_volume(
    table: KinematicTable,
    view: SpotView,
    matrix: Floats,
    scale: Floats,
    strain: Floats,
    covariance: Floats,
) -> Floats:
    """(H,) log of prior density times the volume the data leave to the parameters (Laplace)."""
    _, logdet = np.linalg.slogdet(covariance)
    out = 0.5 * logdet + 3.0 * np.log(2 * np.pi)
    # Orientations: SO(3) has the volume 8π², met once per symmetry rotation.
    out += np.log(len(table.rotations) / (8 * np.pi**2))
    out += np.log(orientation_preference(table, matrix))
    out -= 0.5 * (strain**2).sum(-1) / view.distortion**2
    out -= np.log(2 * np.pi * view.distortion**2)
    if view.scale is None:
        return np.asarray(out - np.log(FLAT_SCALE))
    deviation = np.log(scale / view.scale) / view.scale_error
    return np.asarray(out - 0.5 * deviation**2 - np.log(np.sqrt(2 * np.pi) * view.scale_error))


def orientation_preference(table: KinematicTable, matrix: Floats) -> Floats:
    """(H,) how much likelier orientations are than if crystals lay at random.

    Most patterns are taken near a zone axis with a dense net, the rest anywhere.
    """
    axes, share = table.zones
    # 1 - cos θ ≈ θ²/2: a Gaussian on the sphere, of density 4π/(2π σ²) over that of an even spread.
    height = np.exp((matrix[:, 2] @ axes.T - 1.0) / TILTED_TO**2) @ share
    return np.asarray(1.0 - ON_A_ZONE + ON_A_ZONE * height * 2.0 / TILTED_TO**2)


def turn_matrices(rotvec: Floats) -> Floats:
    """(H, 3, 3) rotation matrices of (H, 3) rotation vectors, at most 0.2 rad."""
    angle = np.linalg.norm(rotvec, axis=1, keepdims=True)
    limited = rotvec * np.minimum(1.0, 0.2 / np.maximum(angle, 1e-12))
    return np.asarray(Rotation.from_rotvec(limited).as_matrix(), dtype=np.float64)


def _rotvec(matrix: Floats) -> Floats:
    return np.asarray(Rotation.from_matrix(matrix).as_rotvec(), dtype=np.float64)
