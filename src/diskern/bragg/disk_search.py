"""Disks of a block of patterns: a classical search without thresholds set by hand, then the fit."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import next_fast_len
from scipy.stats import norm

from diskern.bragg.disk_gain import Response, estimate_response
from diskern.bragg.disk_neighbours import strongest
from diskern.bragg.disk_overlap import crowded, left_free, unexplained
from diskern.bragg.disk_probe import Probe
from diskern.bragg.disk_refine import refine_disks
from diskern.bragg.disks import Candidates, Disks, Proposer, Reader
from diskern.errors import DiskernError
from diskern.nets.correlation import parabolic_peaks

Floats = NDArray[np.float64]
BLOCK = 8
"""Patterns searched at once: their maps stay in the processor's cache."""

OVERLAP = 2.2
"""Radii within which two disks overlap, uncertainty of the candidates included."""
INDEPENDENT = 7.0
"""Pixels to one independent value of the search, counted in pure noise; radii 2.5 to 9 px."""
CONFIRMED = 0.8
"""What of the search's threshold the fit must reach too, where more is unknown."""
VERDICT = (-1.2, 0.75, 1.0)
"""Log-odds that a disk which a proposer named and the fit measured is one: a constant, and weights
of the proposer's log-odds and of ln(1 + intensity over its σ).  Fitted to the validation side of
`diskern.train.disks`.  The mean of fringes may be uncertain, so that neither decides alone."""
BELIEVED = 0.5
"""Probability from which on it is taken for one."""
STARTS = 0.35
"""Radii by which proposers are taken to miss the places of disks, rms."""
CROWDED = 3.2
"""Radii between two disks below which a third may hide between others."""
ROUNDS = 6
"""Disks on top of each other that are told apart, at most."""


@dataclass(frozen=True)
class DiskOptions:
    """What may be chosen; nothing needs to be.

    Attributes
    ----------
    false_alarms : disks per pattern that noise alone may make; sets the threshold.
    gain : counts per electron; estimated from the noise by default.
    dark : counts of a pixel that no electron meets; by default 0, or what negative counts tell.
    orders : largest polynomial order inside a disk; chosen from the radius by default.
    spacing : least distance of two disks in disk radii.
    limit : most disks of a pattern, strongest first.
    """

    false_alarms: float = 0.05
    gain: float | None = None
    dark: float | None = None
    orders: int | None = None
    spacing: float = 1.0
    limit: int = 1000


def find_disks(
    patterns: NDArray[Any],
    probe: Probe,
    *,
    mask: NDArray[np.bool_] | None = None,
    options: DiskOptions | None = None,
    proposer: Proposer | None = None,
) -> Disks:
    """Find and measure the disks of patterns.

    Parameters
    ----------
    patterns : (B, H, W) counts, whole or not.
    probe : what one disk looks like; its image has the shape of the patterns.
    mask : (H, W) True where a pixel may be used.
    options : see `DiskOptions`.
    proposer : names the candidates; the classical search by default.

    Returns
    -------
    Disks
        Sorted by pattern, strongest first within one; intensities in counts as given.

    Raises
    ------
    DiskernError : for patterns, probe or mask that cannot be used.
    """
    chosen = options or DiskOptions()
    counts, good = _checked(patterns, probe, mask, chosen)
    if chosen.gain is None:
        response = estimate_response(counts, good, chosen.dark)
    else:
        response = Response(chosen.gain, chosen.dark or 0.0)
    electrons, gain = np.maximum(response.electrons(counts), 0), response.gain
    reader = proposer if isinstance(proposer, Reader) and probe.round else None
    if proposer is None:
        searched = _ranked(search_disks(electrons, probe, mask=good, options=chosen))
        found = _measure_in_rounds(electrons, probe, searched, good, chosen)
    else:
        named = _ranked(proposer(electrons, probe.image))
        contrast = reader is not None
        found = _measure_at_once(electrons, probe, named, good, chosen, contrast=contrast)
    if reader is not None:
        found = reader.read(found, electrons, probe.radius)
    return replace(
        found,
        intensity=found.intensity * gain,
        sigma_intensity=found.sigma_intensity * gain,
        background=found.background * gain + response.dark,
    )


def _ranked(candidates: Candidates) -> Candidates:
    """Pattern by pattern, likeliest first."""
    return candidates.select(np.lexsort((-candidates.probability, candidates.pattern)))


def _measure_at_once(
    electrons: NDArray[np.float32],
    probe: Probe,
    candidates: Candidates,
    good: NDArray[np.bool_],
    options: DiskOptions,
    *,
    contrast: bool,
) -> Disks:
    """All of them together: a proposer has told disks from fringes and from noise before."""
    c = candidates
    apart = options.spacing * _size(probe)
    kept = strongest(c.pattern, c.row, c.col, c.probability, apart, len(c))
    named = c.select(np.sort(kept))
    found = refine_disks(
        electrons,
        probe,
        named,
        mask=good,
        orders=options.orders,
        contrast=contrast,
        start=STARTS,
    )
    believed = found.select(_verdict(named.probability, found) >= BELIEVED)
    return accept(believed, probe, electrons.shape, options, confirmed=0.0)


def _verdict(probability: Floats, found: Disks) -> Floats:
    """(N,) probability that measured candidates are disks, of what their proposer gave them."""
    p = np.clip(probability, 1e-6, 1 - 1e-6)
    ratio = np.nan_to_num(found.intensity / found.sigma_intensity, posinf=0.0, neginf=0.0)
    constant, named, measured = VERDICT
    odds = constant + named * np.log(p / (1 - p)) + measured * np.log1p(np.maximum(ratio, 0))
    return np.asarray(1 / (1 + np.exp(-odds)))


def _measure_in_rounds(
    electrons: NDArray[np.float32],
    probe: Probe,
    candidates: Candidates,
    good: NDArray[np.bool_],
    options: DiskOptions,
) -> Disks:
    """The strongest first, then in rounds those that what has been found does not explain."""
    shape = electrons.shape
    found, rest = Disks.empty(), candidates
    for _ in range(ROUNDS):
        if len(found):
            rest = rest.select(
                unexplained(electrons, probe, found, rest, _floor(shape, options), mask=good)
            )
        if len(rest) == 0:
            rest = _overlooked(electrons, probe, found, good, options)
            if len(rest) == 0:
                break
        top = strongest(
            rest.pattern, rest.row, rest.col, rest.probability, OVERLAP * _size(probe), len(rest)
        )
        fresh = rest.select(top)
        rest = rest.select(np.setdiff1d(np.arange(len(rest)), top))
        touched = np.isin(found.pattern, fresh.pattern)
        joint = _together(found.select(touched), fresh)
        again = refine_disks(electrons, probe, joint, mask=good, orders=options.orders)
        found = accept(Disks.concatenate([found.select(~touched), again]), probe, shape, options)
    return found


def _overlooked(
    electrons: NDArray[np.float32],
    probe: Probe,
    found: Disks,
    good: NDArray[np.bool_],
    options: DiskOptions,
) -> Candidates:
    """Where disks crowd, they hide each other from the search: what it sees between them."""
    which = crowded(found, CROWDED * _size(probe))
    if len(which) == 0:
        return Candidates.at([], [], [])
    part = found.select(np.isin(found.pattern, which))
    part = replace(part, pattern=np.searchsorted(which, part.pattern))
    free = left_free(electrons[which], probe, part, good)
    seen = search_disks(electrons[which], probe, mask=free, options=options)
    seen = _ranked(replace(seen, pattern=which[seen.pattern]))
    floor = _floor(electrons.shape, options)
    return seen.select(unexplained(electrons, probe, found, seen, floor, mask=good))


def _together(found: Disks, fresh: Candidates) -> Candidates:
    """Disks measured before and new candidates, sorted by pattern."""
    both = [
        np.concatenate([getattr(found, name, np.ones(len(found))), getattr(fresh, name)])
        for name in (f.name for f in fields(Candidates))
    ]
    order = np.argsort(both[0], kind="stable")
    return Candidates(*(column[order] for column in both))


def search_disks(
    patterns: NDArray[np.float32],
    probe: Probe,
    *,
    mask: NDArray[np.bool_] | None = None,
    options: DiskOptions | None = None,
) -> Candidates:
    """Places where a disk stands out of its surroundings.

    The counts within the probe are compared with those of a ring of equal area around it: a
    likelihood ratio of two Poisson rates, right for single electrons and for thousands.  The
    ring makes texture inside a bright disk, and the skirt around one, dimmer than their
    surroundings.  What passes the largest deviate of noise in a pattern is proposed, the
    strongest first, each clearing its neighbourhood.

    Parameters
    ----------
    patterns : (B, H, W) electrons.
    probe : what one disk looks like.
    mask : (H, W) or (B, H, W) True where a pixel may be used.
    options : false alarms, spacing, limit.
    """
    chosen = options or DiskOptions()
    shape = patterns.shape[1:]
    good = np.ones((1, *shape), bool) if mask is None else mask.reshape(-1, *shape)
    size, *kernels = _kernels(probe, (shape[0], shape[1]))
    floor = _floor(patterns.shape, chosen)
    spectra = [torch.fft.rfft2(torch.fft.ifftshift(k)).conj() for k in kernels]

    def sums(images: NDArray[np.float32]) -> list[torch.Tensor]:
        spectrum = torch.fft.rfft2(_padded(images, size))
        maps = [torch.fft.irfft2(spectrum * k, s=size) for k in spectra]
        return [m[:, : shape[0], : shape[1]] for m in maps]

    parts = []
    for start in range(0, len(patterns), BLOCK):
        block = patterns[start : start + BLOCK]
        seen = good[start : start + BLOCK] if len(good) > 1 else good
        if start == 0 or len(good) > 1:
            areas = [a.clamp(min=1e-3) for a in sums(seen.astype(np.float32))]
        enough = (areas[0] > 0.4 * kernels[0].sum()) & (areas[1] > 0.1 * kernels[1].sum())
        inside, outside = sums(block * seen)
        peaks = _peaks(inside, outside, areas[0], areas[1], enough.float(), floor)
        keep = strongest(*peaks, chosen.spacing * _size(probe), chosen.limit)
        pattern, row, col, deviate = (p[keep] for p in peaks)
        parts.append((pattern + start, row, col, deviate))
    pattern, row, col, deviate = (np.concatenate(p) for p in zip(*parts, strict=True))
    return Candidates.at(pattern, row, col, 1 / (1 + np.exp(np.minimum(floor - deviate, 50))))


def accept(
    found: Disks,
    probe: Probe,
    shape: tuple[int, ...],
    options: DiskOptions,
    confirmed: float = CONFIRMED,
) -> Disks:
    """Measured disks that are still disks: on the detector, above their noise, and only once.

    ``confirmed`` is what of the search's threshold their intensity must reach.
    """
    inside = (found.row > -0.5) & (found.row < shape[1] - 0.5)
    inside &= (found.col > -0.5) & (found.col < shape[2] - 0.5)
    ratio = found.intensity / found.sigma_intensity
    sharp = np.maximum(found.sigma_row, found.sigma_col) < 0.35 * probe.radius
    floor = confirmed * _floor(shape, options)
    kept = found.select(inside & np.isfinite(ratio) & (ratio > floor) & sharp)
    ratio = kept.intensity / kept.sigma_intensity
    spacing = options.spacing * _size(probe)
    keep = strongest(kept.pattern, kept.row, kept.col, ratio, spacing, options.limit)
    kept = kept.select(keep)
    return kept.select(np.lexsort((-kept.intensity, kept.pattern)))


def _floor(shape: tuple[int, ...], options: DiskOptions) -> float:
    """Standard deviations that noise passes in no more places than allowed."""
    places = shape[1] * shape[2] / INDEPENDENT
    return float(norm.isf(min(options.false_alarms / places, 0.5)))


def _size(probe: Probe) -> float:
    """Radius in px, at least that of a pixel's neighbours."""
    return max(probe.radius, 1.5)


def _checked(
    patterns: NDArray[Any],
    probe: Probe,
    mask: NDArray[np.bool_] | None,
    options: DiskOptions,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Patterns as float32, and the pixels to use."""
    array = np.asarray(patterns)
    if array.ndim != 3 or array.dtype.kind not in "biuf" or array.size == 0:
        raise DiskernError(
            f"patterns of shape {array.shape} and type {array.dtype}: give (B, H, W) real counts"
        )
    shape = array.shape[1:]
    if probe.image.shape != shape:
        raise DiskernError(f"the probe is {probe.image.shape} px, the patterns are {shape}")
    if mask is not None and (mask.shape != shape or mask.dtype != np.bool_):
        raise DiskernError(
            f"mask of shape {mask.shape} and type {mask.dtype}: give {shape} booleans"
        )
    if options.gain is not None and not (np.isfinite(options.gain) and options.gain > 0):
        raise DiskernError(f"gain {options.gain}: counts per electron, above 0")
    if options.dark is not None and not np.isfinite(options.dark):
        raise DiskernError(f"dark {options.dark}: counts of a pixel that no electron meets")
    good = np.ones(shape, bool) if mask is None else mask
    if not good.any():
        raise DiskernError("the mask leaves no pixel to use")
    counts = array.astype(np.float32)
    if counts.dtype != array.dtype or not np.isfinite(counts).all():
        bad = ~np.isfinite(counts)
        if bad[:, good].any():
            place = np.argwhere(bad & good)[0].tolist()
            raise DiskernError(f"pattern {place[0]} is not finite at {place[1:]}: mask the pixel")
        counts[bad] = 0
    return counts, good


def _kernels(
    probe: Probe, shape: tuple[int, int]
) -> tuple[tuple[int, int], torch.Tensor, torch.Tensor]:
    """Size that keeps the borders apart, the disk, and the ring around it of about equal area."""
    rows, cols = (np.arange(n) - n // 2 for n in shape)
    r = np.hypot(rows[:, None], cols)
    open_part = probe.image / np.quantile(probe.image[probe.image > probe.image.max() / 2], 0.5)
    extent = float(r[open_part > 0.5].max(initial=0.5))
    inner = extent + 1.5 * probe.edge + 0.5
    outer = math.hypot(inner, max(probe.radius, 1.5))
    ring = np.clip(r - inner + 0.5, 0, 1) * np.clip(outer - r + 0.5, 0, 1)
    margin = math.ceil(outer) + 1
    size = (next_fast_len(shape[0] + margin, True), next_fast_len(shape[1] + margin, True))
    return size, _centred(np.clip(open_part, 0, 1.5), size), _centred(ring, size)


def _centred(image: Floats, size: tuple[int, int]) -> torch.Tensor:
    """The image in a larger one, centre on centre."""
    out = np.zeros(size, np.float32)
    r, c = (n // 2 - m // 2 for n, m in zip(size, image.shape, strict=True))
    out[r : r + image.shape[0], c : c + image.shape[1]] = image
    return torch.from_numpy(out)


def _padded(block: NDArray[np.float32], size: tuple[int, int]) -> torch.Tensor:
    """(B, *size) the patterns with zeros beyond their last rows and columns."""
    padded = torch.zeros(len(block), *size)
    padded[:, : block.shape[1], : block.shape[2]] = torch.from_numpy(np.ascontiguousarray(block))
    return padded


def _peaks(
    inside: torch.Tensor,
    outside: torch.Tensor,
    area_in: torch.Tensor,
    area_out: torch.Tensor,
    allowed: torch.Tensor,
    floor: float,
) -> tuple[NDArray[np.int64], Floats, Floats, Floats]:
    """Pattern, row, column and normal deviate of local maxima of the contrast."""
    contrast = torch.addcmul(inside * allowed, outside, allowed * (-area_in / area_out))
    pattern, row, col = _summits(contrast)
    # A quick bound on the deviate first: the likelihood ratio only where it may pass.
    height, electrons = contrast[pattern, row, col], inside[pattern, row, col]
    hopeful = (height > 0.5 * floor) & (height**2 > (0.3 * floor) ** 2 * electrons.clamp(min=0))
    pattern, row, col = pattern[hopeful], row[hopeful], col[hopeful]
    n_in, n_out = (x[pattern, row, col].double().clamp(min=1e-6) for x in (inside, outside))
    a_in, a_out = (
        a.expand(len(inside), -1, -1)[pattern, row, col].double() for a in (area_in, area_out)
    )
    pooled = (n_in + n_out) / (a_in + a_out)
    ratio = n_in * torch.log(n_in / (a_in * pooled)) + n_out * torch.log(n_out / (a_out * pooled))
    deviate = torch.sqrt(2 * ratio.clamp(min=0))
    passed = deviate > floor
    pattern, row, col = pattern[passed], row[passed], col[passed]
    down, across = parabolic_peaks(contrast, pattern, row, col)
    return (
        pattern.numpy(),
        down.double().numpy(),
        across.double().numpy(),
        deviate[passed].numpy(),
    )


def _summits(maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pattern, row and column where a map is positive and above its eight neighbours."""
    values = maps.numpy()
    rises_down = values[:, 1:] > values[:, :-1]
    rises_across = values[:, :, 1:] > values[:, :, :-1]
    top = np.zeros(values.shape, bool)
    inner = top[:, 1:-1, 1:-1]
    np.greater(rises_down[:, :-1, 1:-1], rises_down[:, 1:, 1:-1], out=inner)
    inner &= rises_across[:, 1:-1, :-1]
    inner &= ~rises_across[:, 1:-1, 1:]
    place = np.flatnonzero(top)
    flat, width = values.reshape(-1), values.shape[2]
    here, good = flat[place], flat[place] > 0
    for step in (width + 1, width - 1, -width - 1, 1 - width):
        good &= flat[place + step] <= here
    pattern, row, col = np.unravel_index(place[good], values.shape)
    return torch.from_numpy(pattern), torch.from_numpy(row), torch.from_numpy(col)
