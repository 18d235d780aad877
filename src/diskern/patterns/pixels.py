"""Single bad pixels, bad rows and columns, and the wide pixels between detector chips."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, special

from diskern.patterns.geometry import Flaw
from diskern.patterns.levels import Image, Noise

Bools = NDArray[np.bool_]

FALSE_ALARMS = 0.1
"""Expected number of sound pixels of a whole image that noise alone makes "hot" or "dead"."""
PEAKEDNESS = 0.2
"""A real spot one pixel wide (rms 0.6 px) still lights three neighbours to this fraction."""

LEAST = 4.0
"""Least excess in grey levels: compression and rounding leave specks of two or three."""

WIDE, CLEAR = 0.4, 2.5
"""By which share wide pixels have more or less than others, and by how many times the scatter, in
either half of a line."""
SPOT, REACH, LOCAL = 5.0, 2, 32
"""How many times the light about it a spot has on a line, how many pixels beyond those it reaches,
and how many pixels that light is taken from."""
ASIDE = (-7, -4, 4, 7)
"""Lines with which one is compared."""
WIDEST = 4
"""Lines between two chips; a row of spots is wider."""

_OFFSETS = np.array([(i, j) for i in range(-2, 3) for j in range(-2, 3) if (i, j) != (0, 0)])
_TOUCHING = np.abs(_OFFSETS).max(axis=1) == 1


def find_bad_pixels(image: Image, good: Bools, noise: Noise) -> NDArray[np.uint16]:
    """Bits `Flaw.HOT` and `Flaw.DEAD` of isolated pixels and of clusters of up to three.

    A hot pixel is improbable under the counts around it, and stands alone: the third
    brightest of its neighbours is far below it, which no electron-optical spot manages.
    Found ones are replaced by the level around them and the search is repeated, which uncovers
    what a cluster's own members hid.

    Parameters
    ----------
    image : (Q_y, Q_x) finite grey levels, electrons bright.
    good : (Q_y, Q_x) pixels to look at.
    noise : of the image.
    """
    flags = np.zeros(image.shape, dtype=np.uint16)
    work = image.astype(np.float32, copy=True)
    z = float(special.ndtri(1 - FALSE_ALARMS / image.size))
    for _ in range(4):
        hot, level_hot = _outliers(work, good, noise, z)
        dead, level_dead = _outliers(-work, good, noise, z, negative=True)
        if not (hot[0].size or dead[0].size):
            break
        flags[hot] |= np.uint16(Flaw.HOT)
        flags[dead] |= np.uint16(Flaw.DEAD)
        work[hot] = level_hot
        work[dead] = -level_dead
    return flags


def _outliers(
    image: Image, good: Bools, noise: Noise, z: float, negative: bool = False
) -> tuple[tuple[NDArray[np.int64], ...], NDArray[np.float32]]:
    """Indices of pixels that stand out alone, and the median level around each."""
    mean = ndimage.uniform_filter(image, 3, mode="nearest")
    rough = np.sqrt(noise.variance(np.abs(mean) if negative else mean))
    # Alone means: 8 neighbours of which two may be as bad and six at PEAKEDNESS of it, so that
    # the pixel stands above its 3 × 3 mean by at least half of its height over the level.
    candidate = np.nonzero(
        good & (image - mean > np.maximum(0.5 * z * rough, LEAST * noise.quantum / 2))
    )
    if candidate[0].size == 0:
        return candidate, np.zeros(0, np.float32)
    around = _windows(image, candidate)
    third = np.partition(around[:, _TOUCHING], -3, axis=1)[:, -3]
    level = np.median(around, axis=1)
    # The mean, not the median, tells of the sparse counts of a dim detector; trimmed of spots.
    kept = np.sort(around, axis=1)[:, 4:-4] if negative else np.sort(around, axis=1)[:, :-4]
    expected = kept.mean(axis=1)
    variance = noise.variance(-expected if negative else expected)
    excess = image[candidate] - expected
    deviation = _significance(excess, variance, 0.0 if negative else noise.gain)
    lonely = (third - level) < PEAKEDNESS * (image[candidate] - level)
    keep = lonely & (deviation > z) & (excess > LEAST * noise.quantum)
    if negative:
        # A dead pixel reads near the dark level whatever falls on it.
        keep &= -image[candidate] - noise.zero < 0.4 * (-expected - noise.zero)
    return (candidate[0][keep], candidate[1][keep]), level[keep].astype(np.float32)


def _windows(image: Image, at: tuple[NDArray[np.int64], ...]) -> NDArray[np.float32]:
    """(N, 24) the 5 × 5 pixels around each position without the middle one."""
    padded = np.pad(image, 2, mode="reflect")
    rows, cols = (at[k][:, None] + _OFFSETS[:, k] + 2 for k in (0, 1))
    return np.asarray(padded[rows, cols])


def _significance(
    excess: NDArray[np.float32], variance: NDArray[np.float32], gain: float
) -> NDArray[np.float64]:
    """Normal deviate of an excess over a Poisson expectation of the given variance."""
    if gain <= 0:
        return np.asarray(excess / np.sqrt(variance), dtype=float)
    expected = np.maximum(variance / gain**2, 1e-6).astype(float)
    count = np.maximum(expected + excess / gain, 1e-9)
    deviance = count * np.log(count / expected) - (count - expected)
    return np.asarray(np.sign(excess) * np.sqrt(2 * np.maximum(deviance, 0)))


def find_bad_lines(image: Image, good: Bools, noise: Noise) -> NDArray[np.uint16]:
    """Bits `Flaw.CROSS`, `Flaw.HOT` and `Flaw.DEAD` of whole rows and columns.

    A line is bad where it differs from the lines on both sides over nearly its whole length,
    by more than lines ever do.  Lines in the middle of the detector or next to a multiple of
    256 are the wide pixels between the chips; there it is enough that they do so beside the spots.

    Parameters
    ----------
    image : (Q_y, Q_x) finite grey levels, electrons bright.
    good : (Q_y, Q_x) pixels to look at.
    noise : of the image.
    """
    flags = np.zeros(image.shape, dtype=np.uint16)
    _mark_lines(image, good, noise, flags)
    _mark_lines(image.T, good.T, noise, flags.T)
    return flags


def _mark_lines(image: Image, good: Bools, noise: Noise, flags: NDArray[np.uint16]) -> None:
    count = len(image)
    if count < 32:
        return
    reach = 4
    middle = slice(reach, count - reach)
    usable = good[: -2 * reach] & good[2 * reach :] & good[middle]
    before, after, line = (
        np.where(usable, part, 0)
        for part in (image[: -2 * reach], image[2 * reach :], image[middle])
    )
    covered = usable.sum(1)
    enough = covered > max(16, 0.3 * image.shape[1])
    middles = (before + after) / 2
    change = (line - middles).sum(1) / np.maximum(np.abs(middles).sum(1), 1e-12)
    between = _between_chips(np.arange(reach, count - reach), count, WIDEST)
    wide = _wide_lines(image, good, noise.gain)[middle]
    for sign, wins, kind in (
        (1, line > np.maximum(before, after), Flaw.HOT),
        (-1, line < np.minimum(before, after), Flaw.DEAD),
    ):
        # By chance a pixel is above both of its neighbours one time in three.
        bad = ((wins & usable).sum(1) > 0.7 * np.maximum(covered, 1)) & (sign * change > 0.2)
        bad |= sign * wide > 0
        for row in np.flatnonzero(bad & enough):
            flags[row + reach] |= np.uint16(Flaw.CROSS if between[row] else kind)


def _wide_lines(image: Image, good: Bools, electron: float) -> NDArray[np.int64]:
    """1 where a line has far more than the lines about it, -1 where far less, else 0.

    In both of its halves: a beam stop from the edge to the middle is no line.  And beside the
    edge of a chip, not in more than `WIDEST` lines: a row of spots is no line either.
    """
    around = _about(image)
    same = good & _about(good).all(0) & ~_spotty(image, around, electron)
    half = image.shape[1] // 2
    halves = [
        _excess(image[:, part], around[..., part], same[:, part])
        for part in (slice(half), slice(half, None))
    ]
    touching = _between_chips(np.arange(len(image)), len(image), 0.5)
    out = np.zeros(len(image), dtype=np.int64)
    for sign in (1, -1):
        clear = [(sign * more > WIDE) & (sign * told > CLEAR) for more, told in halves]
        # Beside a wide line half of one is enough: a stop may hide the other.
        sure = ndimage.binary_dilation(clear[0] & clear[1], iterations=3)
        runs, count = ndimage.label((clear[0] | clear[1]) & sure)
        kept = np.bincount(runs, minlength=count + 1) <= WIDEST
        kept &= np.bincount(runs, touching, count + 1) > 0
        out[(runs > 0) & kept[runs]] = sign
    return out


def _about(lines: NDArray[Any]) -> NDArray[Any]:
    """(4, N, n) the lines on both sides of each."""
    return np.stack([np.roll(lines, step, axis=0) for step in ASIDE])


def _spotty(image: Image, around: Image, electron: float) -> Bools:
    """Where a spot lies on a line or on those about it.

    A row of spots along a line would tell as much as wide pixels do.
    """
    width = image.shape[1]
    beside = np.pad(around[1:3], ((0, 0), (0, 0), (0, -width % LOCAL)), mode="edge")
    blocks = np.moveaxis(beside.reshape(2, len(image), -1, LOCAL), 0, 2)
    level = np.median(blocks.reshape(len(image), -1, 2 * LOCAL), axis=2)
    light = np.repeat(level, LOCAL, axis=1)[:, :width]
    bright = image > SPOT * (np.maximum(light, 0) + electron)
    return np.asarray(ndimage.maximum_filter(bright, (2 * ASIDE[-1] + 1, 2 * REACH + 1)))


def _excess(
    image: Image, around: Image, same: Bools
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """By which share each line has more than those about it, and over the scatter of lines.

    Of the pixels ``same`` alone.
    """
    has = np.where(same, image, 0).sum(1, dtype=np.float64)
    about = np.median(np.where(same, around, 0).sum(2, dtype=np.float64), axis=0)
    seen = about > 0
    share = np.where(seen, (has - about) / np.where(seen, about, 1), 0)
    # Of counts, by their number; what they are counted in is seen from the other lines.
    told = share * np.sqrt(np.where(seen, about, 0))
    scatter = 1.5 * float(np.median(np.abs(told[seen]))) if seen.any() else 0.0
    return share, told / max(scatter, 1e-12)


def _between_chips(row: NDArray[np.int64], count: int, reach: float) -> Bools:
    """Whether a line of ``count`` lies by the middle of a detector, or between its chips."""
    edge = row + 0.5
    chip = np.abs(edge - 256 * np.round(edge / 256))
    return np.asarray(np.minimum(chip, np.abs(edge - count / 2)) <= reach)
