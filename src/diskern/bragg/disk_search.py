"""Disks of a block of patterns: candidates of a network or the classical search, then the fit."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from diskern.bragg.disk_candidates import least_size, noise_floor, search_disks
from diskern.bragg.disk_direction import directed
from diskern.bragg.disk_gain import Response, estimate_response
from diskern.bragg.disk_neighbours import strongest
from diskern.bragg.disk_overlap import crowded, left_free, unexplained
from diskern.bragg.disk_probe import Probe
from diskern.bragg.disk_refine import refine_disks
from diskern.bragg.disk_verdict import Verdict
from diskern.bragg.disks import Candidates, DiskOptions, Disks, Proposer, Reader
from diskern.errors import DiskernError

Floats = NDArray[np.float64]
OVERLAP = 2.2
"""Radii within which two disks overlap, uncertainty of the candidates included."""
CONFIRMED = 0.8
"""What of the search's threshold the fit must reach too, where more is unknown."""
PROPOSED = 0.1
"""The same of what a proposer has named: its mean may be uncertain where there are fringes, but
what shows no electrons is no disk however sure the proposer is."""
STARTS = 0.35
"""Radii by which proposers are taken to miss the places of disks, rms."""
WANDERED = 0.3
"""Radii from where a proposer has put it beyond which a disk is left there, and its σ: what the fit
has run into instead is further from the truth in most cases."""
CROWDED = 3.2
"""Radii between two disks below which a third may hide between others."""
ROUNDS = 6
"""Disks on top of each other that are told apart, at most."""


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
    seen = _Seen.of(patterns, probe, mask, chosen)
    if proposer is None:
        searched = _ranked(search_disks(seen.lit, probe, mask=seen.good, options=chosen))
        found = _measure_in_rounds(seen.lit, probe, searched, seen.good, chosen)
        found = directed(found, probe.image.shape, probe.radius)
    else:
        named, measured = _named(seen, probe, proposer, chosen)
        verdict = getattr(proposer, "verdict", Verdict())
        believed = measured.select(verdict(named, measured, OVERLAP * least_size(probe)))
        found = accept(believed, probe, seen.lit.shape, chosen, PROPOSED)
    if isinstance(proposer, Reader) and probe.round:
        found = proposer.read(found, seen.electrons, probe.radius)
    gain = seen.response.gain
    return replace(
        found,
        intensity=found.intensity * gain,
        sigma_intensity=found.sigma_intensity * gain,
        background=(found.background - seen.response.dim_light) * gain + seen.response.dark,
    )


def measure_named(
    patterns: NDArray[Any],
    probe: Probe,
    proposer: Proposer,
    *,
    mask: NDArray[np.bool_] | None = None,
    options: DiskOptions | None = None,
) -> tuple[Candidates, Disks]:
    """All that a proposer names, measured, before any of it is thrown out.

    Arguments are those of `find_disks`; intensities are in electrons.
    """
    chosen = options or DiskOptions()
    return _named(_Seen.of(patterns, probe, mask, chosen), probe, proposer, chosen)


@dataclass(frozen=True, eq=False)
class _Seen:
    """Patterns as the search and the fit see them.

    Attributes
    ----------
    electrons : (B, H, W) never below 0.
    lit : (B, H, W) those that a fit takes for counted ones, see `Response.dim_light`.
    good : (H, W) pixels to use.
    """

    electrons: NDArray[np.float32]
    lit: NDArray[np.float32]
    good: NDArray[np.bool_]
    response: Response

    @classmethod
    def of(
        cls,
        patterns: NDArray[Any],
        probe: Probe,
        mask: NDArray[np.bool_] | None,
        options: DiskOptions,
    ) -> Self:
        """Checked, and in electrons."""
        counts, good = _checked(patterns, probe, mask, options)
        response = _response(counts, good, options)
        electrons = response.electrons(counts)
        lit = electrons + np.float32(response.dim_light)
        return cls(np.maximum(electrons, np.float32(0)), lit, good, response)


def _response(
    counts: NDArray[np.float32], good: NDArray[np.bool_], options: DiskOptions
) -> Response:
    """Of the detector: what is known, the rest from the noise."""
    known = options.read_noise
    if options.gain is not None:
        return Response(options.gain, options.dark or 0.0, known or 0.0)
    response = estimate_response(counts, good, options.dark)
    return response if known is None else replace(response, read_noise=known)


def _ranked(candidates: Candidates) -> Candidates:
    """Pattern by pattern, likeliest first."""
    return candidates.select(np.lexsort((-candidates.probability, candidates.pattern)))


def _named(
    seen: _Seen, probe: Probe, proposer: Proposer, options: DiskOptions
) -> tuple[Candidates, Disks]:
    """Fitted all together: a proposer has told disks from fringes and from noise before."""
    c = _ranked(proposer(seen.electrons, probe.image))
    apart = options.spacing * least_size(probe)
    named = c.select(np.sort(strongest(c.pattern, c.row, c.col, c.probability, apart, len(c))))
    found = refine_disks(
        seen.lit,
        probe,
        named,
        mask=seen.good,
        orders=options.orders,
        contrast=isinstance(proposer, Reader) and probe.round,
        start=STARTS,
    )
    found = directed(found, probe.image.shape, probe.radius)
    return named, _held(found, named, WANDERED * least_size(probe))


def _held(found: Disks, named: Candidates, most: float) -> Disks:
    """Disks that moved further than ``most`` px from where they were named are put back there.

    What the fit says of their counts stays.
    """
    far = np.hypot(found.row - named.row, found.col - named.col) > most
    return replace(
        found,
        row=np.where(far, named.row, found.row),
        col=np.where(far, named.col, found.col),
        sigma_row=np.where(far, most, found.sigma_row),
        sigma_col=np.where(far, most, found.sigma_col),
        covariance=np.where(far, 0.0, found.covariance),
    )


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
                unexplained(electrons, probe, found, rest, noise_floor(shape, options), mask=good)
            )
        if len(rest) == 0:
            rest = _overlooked(electrons, probe, found, good, options)
            if len(rest) == 0:
                break
        apart = OVERLAP * least_size(probe)
        top = strongest(rest.pattern, rest.row, rest.col, rest.probability, apart, len(rest))
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
    which = crowded(found, CROWDED * least_size(probe))
    if len(which) == 0:
        return Candidates.at([], [], [])
    part = found.select(np.isin(found.pattern, which))
    part = replace(part, pattern=np.searchsorted(which, part.pattern))
    free = left_free(electrons[which], probe, part, good)
    seen = search_disks(electrons[which], probe, mask=free, options=options)
    seen = _ranked(replace(seen, pattern=which[seen.pattern]))
    floor = noise_floor(electrons.shape, options)
    return seen.select(unexplained(electrons, probe, found, seen, floor, mask=good))


def _together(found: Disks, fresh: Candidates) -> Candidates:
    """Disks measured before and new candidates, sorted by pattern."""
    both = [
        np.concatenate([getattr(found, name, np.ones(len(found))), getattr(fresh, name)])
        for name in (f.name for f in fields(Candidates))
    ]
    order = np.argsort(both[0], kind="stable")
    return Candidates(*(column[order] for column in both))


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
    floor = confirmed * noise_floor(shape, options)
    kept = found.select(inside & np.isfinite(ratio) & (ratio > floor) & sharp)
    ratio = kept.intensity / kept.sigma_intensity
    spacing = options.spacing * least_size(probe)
    keep = strongest(kept.pattern, kept.row, kept.col, ratio, spacing, options.limit)
    kept = kept.select(keep)
    return kept.select(np.lexsort((-kept.intensity, kept.pattern)))


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
    if options.read_noise is not None and not 0 <= options.read_noise < np.inf:
        raise DiskernError(f"read_noise {options.read_noise}: counts, 0 or more")
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
