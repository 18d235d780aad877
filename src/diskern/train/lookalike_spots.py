"""Spot patterns of cubic crystals with their look-alike labels, clean or through the instrument."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diskern.simulate.kinematic import simulate_saed_batch
from diskern.simulate.saed_options import SaedOptions
from diskern.simulate.structure_factors import Reflections
from diskern.symmetry.lookalike import SPAN, LookAlikeTable, Zone, zone_basis
from diskern.symmetry.lookalike_spots import LookAlikeNamer
from diskern.train.camera import SpotLists, record
from diskern.train.exposures import WEAKEST, orientations_about
from diskern.train.materials import Material
from diskern.train.saed import label_settings, setting_title
from diskern.train.spot_nets import generated, seen_nets

Floats = NDArray[np.float64]

G_MAX = 1.6
MOST = 120
"""Spots of a pattern, strongest first."""


@dataclass(frozen=True, eq=False)
class LabelledSpots:
    """Patterns of one crystal, one along each zone axis.

    Attributes
    ----------
    lists : spots, 1/Å, the fitted centre taken off.
    basis : (Z, 2, 2) rows (q_x, q_y) of the nets, NaN where none was found.
    labels : of each pattern.
    in_view : (Z,) whether the spots generate the net that the label stands for.
    """

    lists: SpotLists
    basis: Floats
    labels: tuple[str, ...]
    in_view: NDArray[np.bool_]


def labelled_spots(
    material: Material,
    table: LookAlikeTable,
    zones: Sequence[Zone],
    rng: np.random.Generator,
    *,
    clean: bool,
    thickness: float = 30.0,
    energy: float = 200e3,
) -> LabelledSpots:
    """One crystal along each of the zones, turned at random about the beam.

    Parameters
    ----------
    clean : exact zone axes and everything that is brighter than 1e-5 of the strongest; else up to
        half a degree off, and all that `diskern.train.camera.record` does.
    """
    crystal = material.crystal(0.08)
    reflections = Reflections.of(crystal, G_MAX)
    reflections = reflections.select(reflections.allowed)
    spread = 0.0 if clean else np.radians(rng.uniform(0.0, 0.25))
    axes = np.array(zones) @ crystal.lattice
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    turns = np.concatenate([orientations_about(axis, spread, 1, rng) for axis in axes])
    options = SaedOptions(min_intensity=WEAKEST)
    made = simulate_saed_batch(
        reflections, turns, energy=energy, thickness=thickness, options=options
    )
    order = np.argsort(-made.intensity, axis=1, kind="stable")[:, :MOST]
    lists = SpotLists(made.q, made.intensity, made.hkl).at(order)
    if not clean:
        lists = record(lists, rng)
    faintest = np.full(len(turns), 0.0 if clean else 1e-3)
    origin, basis = seen_nets(lists, np.array(zones), faintest)
    there = (lists.intensity > 0)[..., None]
    title = setting_title(crystal, material.space_group)
    return LabelledSpots(
        SpotLists((lists.q - origin[:, None]) * there, lists.intensity, lists.hkl),
        basis,
        tuple(table.label(title, zone) for zone in zones),
        np.array(
            [_in_view(own, title, zone) for own, zone in zip(lists.hkl * there, zones, strict=True)]
        ),
    )


def _in_view(hkl: NDArray[np.int64], title: str, zone: Zone) -> bool:
    """Whether spots generate the net of all reflections that a setting shows in a zone."""
    setting = next(s for s in label_settings([int(title.split("-")[0])]) if s.title == title)
    plane = zone_basis(zone)
    own = hkl[hkl.any(1) & (hkl @ np.array(zone) == 0)]
    form = generated(_coordinates(own, plane))
    side = np.arange(-SPAN, SPAN + 1)
    every = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    whole = generated(every[setting.visible(every @ plane) & every.any(1)])
    return (
        form is not None and whole is not None and np.linalg.det(form) < 1.5 * np.linalg.det(whole)
    )


def _coordinates(hkl: NDArray[np.int64], plane: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.asarray(np.rint(hkl @ np.linalg.pinv(plane)), dtype=np.int64)


def named(spots: LabelledSpots, namer: LookAlikeNamer) -> Iterator[tuple[str, str | None]]:
    """Label and name of each pattern; None where no net was found."""
    for row, label in enumerate(spots.labels):
        basis = spots.basis[row][:, ::-1]
        if not np.isfinite(basis).all():
            yield label, None
            continue
        place = spots.lists.q[row][:, ::-1]
        yield label, namer.name(place, spots.lists.intensity[row], basis)
