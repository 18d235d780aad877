"""One step of the Poisson fit of disks: rim × polynomial + background, all orders at once.

The counts of a disk at p are modelled as S(u − p) q(u) + b(u): S the probe's rim, q a polynomial
for what dynamical diffraction draws inside the disk, b a gently bent plane.  q and b are linear
and are eliminated (variable projection; Golub & Pereyra, Inverse Problems 19 (2003) R1,
doi:10.1088/0266-5611/19/2/201), p is found by Gauss–Newton steps with the weights of Poisson
noise.  One Cholesky factor serves polynomials of every degree, as the factors of nested models
are leading blocks of it; the degrees are averaged with their Bayesian evidence, so that a
uniform disk is measured as one and the spread between degrees is part of the uncertainty.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from diskern.bragg.disk_basis import count, disk_basis

BACKGROUND = 6
"""Linear terms of the background: a plane and how it bends."""
CONTRAST = 0.3
"""Prior rms of one polynomial's coefficient, of the disk's mean level: six of them make
the full contrast of dynamical fringes."""

TAPER = 0.5
"""Share of it from one degree to the next: smooth contrast is likelier than rough."""
SLOPE, BEND = 0.2, 0.03
"""Prior rms of the background's slope and curvature: these shares of it over a quarter of a disk's
diameter.  Without the second, a broad diffuse peak would be a disk."""


@dataclass(frozen=True, eq=False)
class Tables:
    """Polynomials on the pixels of a window, and their products.

    Attributes
    ----------
    order : largest degree inside the disk.
    row, col : (n,) px from the middle of the window.
    values : (n, count(2 · order)) polynomials.
    inside, beside, below : T for disk × disk, background × disk, background × background, each
        (polynomials, rows · columns), in double precision.
    degree : (count(order),).
    """

    order: int
    row: torch.Tensor
    col: torch.Tensor
    values: torch.Tensor
    inside: torch.Tensor
    beside: torch.Tensor
    below: torch.Tensor
    degree: torch.Tensor

    @classmethod
    def of(cls, radius: float, reach: float, order: int) -> Tables:
        """Tables of a circular window of ``reach`` px for disks of a radius."""
        basis = disk_basis(max(order, 2))
        half = int(reach)
        grid = torch.arange(-half, half + 1, dtype=torch.float64)
        rows, cols = torch.meshgrid(grid, grid, indexing="ij")
        keep = torch.hypot(rows, cols) <= reach
        row, col = rows[keep], cols[keep]
        values = torch.from_numpy(basis.evaluate(row.numpy() / radius, col.numpy() / radius))
        m, product = count(order), torch.from_numpy(basis.product)
        beside, widest = count(order + 2), count(max(2 * order, order + 2, 4))
        return cls(
            order,
            row.float(),
            col.float(),
            values[:, :widest].float().contiguous(),
            product[: count(2 * order), :m, :m].reshape(-1, m * m).contiguous(),
            product[:beside, :BACKGROUND, :m].reshape(-1, BACKGROUND * m).contiguous(),
            product[: count(4), :BACKGROUND, :BACKGROUND].reshape(-1, BACKGROUND**2).contiguous(),
            torch.from_numpy(basis.degree[:m]),
        )


@dataclass(eq=False)
class Step:
    """What one step says of N disks.

    Attributes
    ----------
    shift : (N, 2) px to move.
    covariance : (N, 2, 2) px² of the position.
    linear : (N, 6 + m) background and polynomial, at the shifted position.
    weights : (N, order + 1) posterior probability of every degree.
    flux, variance_flux : (N,) intensity.
    """

    shift: torch.Tensor
    covariance: torch.Tensor
    linear: torch.Tensor
    weights: torch.Tensor
    flux: torch.Tensor
    variance_flux: torch.Tensor


def model(
    tables: Tables, rim: torch.Tensor, linear: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(N, n) polynomial inside the disk, background, and the sum S q + b."""
    m = count(tables.order)
    values = tables.values
    inner = linear[:, BACKGROUND:].float() @ values[:, :m].T
    ground = linear[:, :BACKGROUND].float() @ values[:, :BACKGROUND].T
    return inner, ground, rim * inner + ground


def moments(weight: torch.Tensor, tables: Tables, size: int) -> torch.Tensor:
    """(…, size) Σ weight P_k over the pixels of (…, n), in double precision."""
    return (weight @ tables.values[:, :size]).double()


def normal_matrix(weight: torch.Tensor, rim: torch.Tensor, tables: Tables) -> torch.Tensor:
    """(N, 6 + m, 6 + m) of background and polynomial."""
    m, b = count(tables.order), BACKGROUND
    shaded = weight * rim
    matrix = weight.new_empty((len(weight), b + m, b + m), dtype=torch.float64)
    matrix[:, :b, :b] = (moments(weight, tables, count(4)) @ tables.below).view(-1, b, b)
    side = (moments(shaded, tables, count(tables.order + 2)) @ tables.beside).view(-1, b, m)
    matrix[:, :b, b:] = side
    matrix[:, b:, :b] = side.mT
    inside = moments(shaded * rim, tables, count(2 * tables.order)) @ tables.inside
    matrix[:, b:, b:] = inside.view(-1, m, m)
    return matrix


def project(image: torch.Tensor, rim: torch.Tensor, tables: Tables) -> torch.Tensor:
    """(…, 6 + m) products of (…, n) weighted images with background and polynomial."""
    m = count(tables.order)
    return torch.cat([moments(image, tables, BACKGROUND), moments(image * rim, tables, m)], dim=-1)


def gauss_newton(
    residual: torch.Tensor,
    weight: torch.Tensor,
    rim: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    inner: torch.Tensor,
    linear: torch.Tensor,
    tables: Tables,
    habit: torch.Tensor | None = None,
    drift: tuple[torch.Tensor, float] | None = None,
) -> Step:
    """One step of all disks.

    Parameters
    ----------
    residual : (N, n) counts less the model.
    weight : (N, n) one over the variance; 0 where there is no pixel.
    rim : (N, n) S and its derivatives to the row and the column of p.
    inner : (N, n) polynomial q of the model.
    linear : (N, 6 + m) background and polynomial of the model.
    habit : (order + 1,) logarithm of the prior probability of every degree; equal by default.
    drift : (N, 2) way from where each disk was expected, in px, and its variance.
    """
    S, S_row, S_col = rim
    matrix = normal_matrix(weight, S, tables)
    prior = _prior(linear, matrix, tables)
    matrix.diagonal(dim1=1, dim2=2).add_(prior)
    factor = torch.linalg.cholesky_ex(matrix)[0]
    images = torch.stack([residual, S_row * inner, S_col * inner], dim=1)
    weighted = images * weight[:, None]
    right = torch.stack(
        [*project(weighted, S[:, None], tables).unbind(1), _overlap(S, tables)], dim=2
    )
    right[:, :, 0] -= prior * linear
    solved = torch.linalg.solve_triangular(factor, right, upper=False)
    y = solved[:, :, 0] + (factor.mT @ linear[:, :, None])[:, :, 0]
    z, s = solved[:, :, 1:3], solved[:, :, 3]
    dots = (weighted[:, 1:] @ images.mT).double()
    own = torch.stack([dots[:, 0, 1], dots[:, 0, 2], dots[:, 1, 2]], dim=1)
    slope = dots[:, :, 0] + (right[:, :, 1:3] * linear[:, :, None]).sum(1)
    own = torch.cat([own, slope], dim=1)
    if drift is not None:
        way, variance = drift
        own[:, [0, 2]] += 1 / variance
        own[:, 3:] -= way / variance
    return _average(factor, prior, own, y, z, s, tables, habit)


def _prior(linear: torch.Tensor, matrix: torch.Tensor, tables: Tables) -> torch.Tensor:
    """(N, 6 + m) inverse prior variances of the linear terms; 0 where nothing is known."""
    b = BACKGROUND
    level = linear[:, b].abs()
    # A level below its own noise says nothing of the contrast it may have.
    noise = matrix[:, b, b].clamp(min=1e-30).rsqrt()
    prior = torch.zeros_like(linear)
    scale = 1 / (CONTRAST * torch.maximum(level, noise)) ** 2
    prior[:, b + 1 :] = scale[:, None] * TAPER ** (-2.0 * (tables.degree[1:] - 1))
    # Keeps a disk that the detector's border cuts solvable; far below what one count tells.
    tiny = 1e-9 * matrix.diagonal(dim1=1, dim2=2)[:, : b + 1].amax(1, keepdim=True)
    prior[:, : b + 1] = tiny.clamp(min=1e-30)
    ground = torch.maximum(linear[:, 0].abs(), matrix[:, 0, 0].clamp(min=1e-30).rsqrt())
    prior[:, 1:3] = (1 / (SLOPE * ground) ** 2)[:, None]
    prior[:, 3:b] = (1 / (BEND * ground) ** 2)[:, None]
    return prior


def _overlap(S: torch.Tensor, tables: Tables) -> torch.Tensor:
    """(N, 6 + m) of which the disk's intensity is the product with the linear terms."""
    m = count(tables.order)
    flux = (S @ tables.values[:, :m]).double()
    return torch.cat([flux.new_zeros(len(flux), BACKGROUND), flux], dim=1)


def _average(
    factor: torch.Tensor,
    prior: torch.Tensor,
    own: torch.Tensor,
    y: torch.Tensor,
    z: torch.Tensor,
    s: torch.Tensor,
    tables: Tables,
    habit: torch.Tensor | None,
) -> Step:
    """Steps of all degrees, weighted with their evidence.

    Evidence of a degree: its least squares, less the volume that prior and data leave its linear
    terms and the position (Laplace's integral).
    """
    ends = BACKGROUND - 1 + torch.tensor([count(k) for k in range(tables.order + 1)])

    def upto(terms: torch.Tensor) -> torch.Tensor:
        return terms.cumsum(1)[:, ends]

    zz = torch.stack([z[..., 0] ** 2, z[..., 0] * z[..., 1], z[..., 1] ** 2], dim=2)
    fisher = own[:, None, :3] - upto(zz)
    slope = own[:, None, 3:] - upto(z * y[:, :, None])
    rr, rc, cc = fisher.unbind(2)
    rr, cc = rr.clamp(min=1e-12), cc.clamp(min=1e-12)
    determinant = (rr * cc - rc * rc).clamp(min=1e-9 * rr * cc)
    inverse = torch.stack([cc, -rc, -rc, rr], dim=2) / determinant[..., None]
    inverse = inverse.view(*inverse.shape[:2], 2, 2)
    shift = (inverse @ slope[..., None])[..., 0]
    volume = torch.log(prior) / 2 - torch.log(factor.diagonal(dim1=1, dim2=2).clamp(min=1e-30))
    evidence = upto(y * y / 2 + volume)
    evidence = evidence + (shift * slope).sum(2) / 2 - torch.log(determinant) / 2
    if habit is not None:
        evidence = evidence + habit[: evidence.shape[1]]
    weights = torch.softmax(evidence, dim=1)
    mean = (weights[..., None] * shift).sum(1)
    apart = shift - mean[:, None]
    covariance = inverse + apart[..., :, None] * apart[..., None, :]
    covariance = (weights[..., None, None] * covariance).sum(1)
    # Leading blocks of a triangular inverse are inverses of the leading blocks.
    degree = torch.cat([torch.zeros(BACKGROUND, dtype=torch.int64), tables.degree])
    share = weights.flip(1).cumsum(1).flip(1)[:, degree]
    back = (y - (z * mean[:, None]).sum(2)) * share
    linear = torch.linalg.solve_triangular(factor.mT, back[:, :, None], upper=True)[:, :, 0]
    return Step(mean, covariance, linear, weights, (s * back).sum(1), (s * s * share).sum(1))
