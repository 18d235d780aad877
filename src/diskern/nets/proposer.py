"""Disks of a pattern with their V_g and q_z, proposed by the trained network.

The network sees disks of 3 to 8 px (`diskern.nets.disk_scale`), and what it says is carried back
to the pixels and, where the energy and the pixel size are known, to volts and 1/Å.  What it cannot
see, that disks repeat across the pattern, is added to its probabilities
(`diskern.nets.disk_support`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch.nn.functional import max_pool2d

from diskern.errors import DiskernError
from diskern.nets.disk_scale import rescaled, rescaled_probe, scale_of
from diskern.nets.disk_support import has_support, support_features, supported
from diskern.nets.disk_unet import Q_SOFT, STRIDE, DiskMaps, DiskUNet
from diskern.nets.disk_units import unit_of, volts_of
from diskern.nets.registry import Model
from diskern.patterns.levels import estimate_noise
from diskern.physics import check_energy

Floats = NDArray[np.float64]

SMALLEST = 1.5
"""px: disks below this radius are spots."""
ONE_ELECTRON = (0.1, 2.5)
"""Gains that noise gives for patterns counted in electrons."""
MOST_ELECTRONS = 1e8
"""Electrons that a pattern may hold."""
WIDEST = 6.0
"""Standard deviations in ln W and soft Q beyond which nothing is known anyway."""
LEAST = 0.02
"""Probability by the network alone below which no support makes a disk of a candidate."""
MOST = 1000
"""Disks proposed in a pattern, likeliest first."""
_BFLOAT16 = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")


@dataclass(frozen=True, eq=False)
class Proposals:
    """N disks that a network proposes, pattern by pattern.

    Attributes
    ----------
    pattern : (N,) index in the block.
    row, col : (N,) px.
    probability : (N,) of a visible disk's centre there.
    v_g, sigma_v_g : (N,) V; NaN where energy or scale are unknown, and for the direct beam.
    q_z, sigma_q_z : (N,) 1/Å, positive inside the Ewald sphere; NaN likewise.
    sigma_place : (N,) px, standard deviation of row and of column.
    """

    pattern: NDArray[np.int64]
    row: Floats
    col: Floats
    probability: Floats
    v_g: Floats
    sigma_v_g: Floats
    q_z: Floats
    sigma_q_z: Floats
    sigma_place: Floats

    def __len__(self) -> int:
        return len(self.pattern)


@dataclass(frozen=True)
class ProbeShape:
    """Outer radius and edge in px of a probe's image, and the share of its disk that is open."""

    radius: float
    edge: float
    fill: float

    @classmethod
    def of(cls, probe: ArrayLike) -> ProbeShape:
        """Measure an (H, W) image of the probe about pixel (H // 2, W // 2).

        Raises
        ------
        DiskernError
            For an image without a disk, or one that is hardly more than a spot.
        """
        image = np.asarray(probe, dtype=np.float64)
        if image.ndim != 2 or not np.isfinite(image).all() or not image.sum() > 0:
            raise DiskernError(f"probe {image.shape} must be a 2-D image with counts")
        rows, cols = (np.arange(n) - n // 2 for n in image.shape)
        distance = np.hypot(rows[:, None], cols[None, :]).ravel()
        ring = np.rint(distance).astype(np.int64)
        profile = np.bincount(ring, image.ravel()) / np.maximum(np.bincount(ring), 1)
        top = float(np.median(profile[profile > 0.5 * profile.max()]))
        radius, inner, outer = (_last_above(profile, share * top) for share in (0.5, 0.75, 0.25))
        # ½ − ½ tanh(x/w) falls from ¾ to ¼ within 1.1 w.
        edge = max((outer - inner) / math.log(3), 0.2)
        if radius < SMALLEST:
            raise DiskernError(
                f"the probe has a radius of {radius:.1f} px; disks need {SMALLEST} px or more"
            )
        fill = float(image.sum() / (top * math.pi * radius**2))
        return cls(radius, min(edge, radius), min(max(fill, 0.1), 1.0))


def _last_above(profile: Floats, level: float) -> float:
    """Where a radial profile falls below ``level`` for good."""
    last = int(np.flatnonzero(profile >= level)[-1])
    if last + 1 >= len(profile):
        return float(last)
    high, low = profile[last], profile[last + 1]
    return last + float((high - level) / max(high - low, 1e-30))


class Proposer:
    """Propose disks of blocks of patterns.

    Parameters
    ----------
    model : weights, see `diskern.nets.registry.load`.
    energy, pixel_size : eV and 1/Å per px; without them V_g and q_z stay NaN.
    threshold : least probability; by default the one that was best on the validation side.
    gain : grey levels per electron; by default 1 unless the noise clearly says otherwise.
    batch : pixels (millions) worked through at a time.

    Raises
    ------
    DiskernError
        For weights of another architecture, or an impossible energy, scale or threshold.
    """

    def __init__(
        self,
        model: Model,
        *,
        energy: float | None = None,
        pixel_size: float | None = None,
        threshold: float | None = None,
        gain: float | None = None,
        batch: float = 0.25,
    ) -> None:
        if not isinstance(model.net, DiskUNet):
            raise DiskernError(f"{model.card.name} is a {model.card.architecture}, no proposer")
        if pixel_size is not None and not (math.isfinite(pixel_size) and pixel_size > 0):
            raise DiskernError(f"pixel_size={pixel_size} must be a positive number in 1/Å per px")
        if threshold is not None and not 0 < threshold < 1:
            raise DiskernError(f"threshold={threshold} must be a probability between 0 and 1")
        self.model, self.net, self.pixel_size = model, model.net, pixel_size
        self.energy = None if energy is None else check_energy(energy)
        self._constants = model.card.calibration
        self._supports = has_support(self._constants)
        self.threshold = threshold or self._constants.get("threshold", 0.3)
        if gain is not None and not (math.isfinite(gain) and gain > 0):
            raise DiskernError(f"gain={gain} must be a positive number of grey levels per electron")
        self.gain, self.batch = gain, batch

    def __call__(self, patterns: ArrayLike, probe: ArrayLike) -> Proposals:
        """Disks of (B, H, W) patterns, for a probe's (H, W) image.

        Raises
        ------
        DiskernError
            Where the shapes do not fit, or the probe has no disk.
        """
        block = np.asarray(patterns, dtype=np.float32)
        image = np.asarray(probe, dtype=np.float32)
        if block.ndim != 3 or image.shape != block.shape[1:]:
            raise DiskernError(
                f"patterns {block.shape} and probe {image.shape} do not fit: (B, H, W) and (H, W)"
            )
        block = np.nan_to_num(block, nan=0.0, posinf=0.0, neginf=0.0)
        block = block / np.float32(self.gain or estimated_gain(block))
        shape = ProbeShape.of(image)
        scale = scale_of(shape.radius)
        step = max(1, int(self.batch * 1e6 * scale**2 / image.size))
        size = rescaled(torch.zeros(1, *image.shape), scale).shape
        template = rescaled_probe(image, scale, (size[1], size[2]))
        found = [
            self._part(block[i : i + step], i, template, shape, scale)
            for i in range(0, len(block), step)
        ]
        return _joined(found, self.threshold)

    def _part(
        self,
        patterns: NDArray[np.float32],
        first: int,
        template: torch.Tensor,
        shape: ProbeShape,
        scale: float,
    ) -> Proposals:
        images = rescaled(torch.from_numpy(patterns), scale)
        known = torch.tensor([shape.radius / scale, shape.edge / scale, shape.fill])
        radius, edge, fill = known[:, None]
        half = torch.autocast("cpu", torch.bfloat16, enabled=quick_bfloat16())
        with torch.inference_mode(), half:
            maps = self.net(images, template[None], radius, edge, fill, twice=True)
            least = min(LEAST, self.threshold) if self._supports else self.threshold
            peaks = heat_peaks(maps, least, shape.radius / scale)
        found = _within(self._measured(maps, peaks, shape, scale), patterns.shape[1:])
        if self._supports:
            found = replace(found, probability=self._supported(found, shape.radius))
        return _shifted(found, first)

    def _supported(self, found: Proposals, radius: float) -> Floats:
        """Probabilities of one part's candidates, pattern by pattern."""
        probability = found.probability.copy()
        place = np.stack([found.row, found.col], 1)
        for pattern in np.unique(found.pattern):
            mine = np.flatnonzero(found.pattern == pattern)
            features = support_features(place[mine], probability[mine], radius)
            probability[mine] = supported(features, self._constants)
        return probability

    def _measured(
        self,
        maps: DiskMaps,
        peaks: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
        shape: ProbeShape,
        scale: float,
    ) -> Proposals:
        """Values at the peaks, carried back to the pixels and units of the pattern."""
        which, cell_row, cell_col = peaks

        def at(values: torch.Tensor) -> Floats:
            return np.asarray(values[which, cell_row, cell_col].double().numpy())

        factor = {n: self._constants.get(f"temperature_{n}", 1.0) for n in ("place", "w", "q")}
        shift_row, shift_col = at(maps.offset[:, 0]), at(maps.offset[:, 1])
        cell = STRIDE * scale
        coupling, soft = np.exp(at(maps.log_w)), at(maps.soft_q)
        # Half of what lies between the 16 and 84 % quantiles, whatever the curvature of the scale.
        wide_w = np.sinh(np.minimum(factor["w"] * np.exp(at(maps.log_sigma_w)), WIDEST))
        wide_q = np.sinh(np.minimum(factor["q"] * np.exp(at(maps.log_sigma_q)), WIDEST))
        excitation = Q_SOFT * np.sinh(soft)
        volts, inverse = self._units(shape)
        return Proposals(
            pattern=which.numpy().astype(np.int64),
            row=(cell_row.numpy() + shift_row + 0.5) * cell - 0.5,
            col=(cell_col.numpy() + shift_col + 0.5) * cell - 0.5,
            probability=at(torch.sigmoid(maps.heat)),
            v_g=coupling * volts,
            sigma_v_g=coupling * volts * wide_w,
            q_z=excitation * inverse,
            sigma_q_z=wide_q * np.hypot(excitation, Q_SOFT) * inverse,
            sigma_place=cell * factor["place"] * np.exp(at(maps.log_sigma_offset)),
        )

    def _units(self, shape: ProbeShape) -> tuple[float, float]:
        """V per unit of W, and 1/Å per unit of Q; NaN where not known."""
        if self.energy is None or self.pixel_size is None:
            return math.nan, math.nan
        unit = unit_of(self.energy, shape.radius * self.pixel_size)
        return float(volts_of(1.0, self.energy, unit)), unit


@cache
def quick_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 in hardware (AMX, AVX-512 BF16).

    The network then takes half of the time or less, and finds the same but for 0.2 % of the disks.
    """
    # Older versions of torch cannot tell.
    tells = (getattr(torch.cpu, name, None) for name in _BFLOAT16)
    return any(tell() for tell in tells if tell)


def estimated_gain(patterns: NDArray[np.float32]) -> float:
    """Grey levels per electron of (B, H, W) patterns; 1 where their noise does not rule it out.

    Scintillators smooth their own noise, so that values a few times below 1 are no evidence
    against electrons.  Patterns without noise are taken as `MOST_ELECTRONS`.
    """
    if not patterns.size or min(patterns.shape[1:]) < 16:
        return 1.0
    chosen = patterns[:: max(1, len(patterns) // 8)]
    everywhere = np.ones(patterns.shape[1:], dtype=bool)
    gain = float(np.median([estimate_noise(p, everywhere).gain for p in chosen]))
    if ONE_ELECTRON[0] <= gain <= ONE_ELECTRON[1]:
        return 1.0
    total = float(np.maximum(chosen, 0).sum((1, 2)).max())
    return max(gain, total / MOST_ELECTRONS) or 1.0


def heat_peaks(
    maps: DiskMaps, threshold: float, radius: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pattern, row and column of cells that are maxima of the heat map above a threshold.

    Parameters
    ----------
    radius : of the disks in px of the network's input; maxima keep half of it between them.
    """
    heat = maps.heat
    reach = max(1, round(0.5 * radius / STRIDE))
    highest = max_pool2d(heat[:, None], 2 * reach + 1, stride=1, padding=reach)[:, 0]
    logit = math.log(threshold / (1 - threshold))
    which, row, col = torch.nonzero((heat == highest) & (heat > logit), as_tuple=True)
    return which, row, col


def _shifted(found: Proposals, first: int) -> Proposals:
    return Proposals(**{**vars(found), "pattern": found.pattern + first})


def _within(found: Proposals, shape: tuple[int, ...]) -> Proposals:
    """Those on the detector: padding and offsets can lead off it."""
    keep = (found.row > -0.5) & (found.row < shape[0] - 0.5)
    keep &= (found.col > -0.5) & (found.col < shape[1] - 0.5)
    return Proposals(**{name: values[keep] for name, values in vars(found).items()})


def _joined(parts: list[Proposals], threshold: float) -> Proposals:
    """Those above a threshold, likeliest first within each pattern and at most `MOST` of them."""
    if not parts:
        empty = np.zeros(0)
        return Proposals(np.zeros(0, dtype=np.int64), *(empty,) * 8)
    table = {n: np.concatenate([getattr(p, n) for p in parts]) for n in vars(parts[0])}
    enough = np.flatnonzero(table["probability"] >= threshold)
    order = enough[np.lexsort((-table["probability"][enough], table["pattern"][enough]))]
    pattern = table["pattern"][order]
    rank = np.arange(len(order)) - np.searchsorted(pattern, pattern)
    kept = order[rank < MOST]
    return Proposals(**{name: values[kept] for name, values in table.items()})
