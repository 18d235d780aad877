"""Sets of spot patterns of one crystal, made on the fly: what the spot-set network learns from."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from diskern.bragg.spot_tokens import spot_tokens
from diskern.crystal.crystal import Crystal
from diskern.crystal.extinction_groups import diffraction_symbols, symbol_of
from diskern.errors import DiskernError
from diskern.simulate.bloch import BlochOptions, BlochWaves
from diskern.simulate.saed_options import SaedOptions
from diskern.simulate.shape_factors import width_of
from diskern.simulate.spot_pattern import SpotPattern
from diskern.simulate.structure_factors import Reflections
from diskern.train.camera import Exposing, SpotLists, record
from diskern.train.exposures import (
    TAILS,
    WEAKEST,
    draw,
    orientations_about,
    simulate_coupled,
    within_cones,
    zone_list,
)
from diskern.train.materials import Material
from diskern.train.samples import Block, sides_of
from diskern.train.spot_negatives import no_crystal
from diskern.train.spot_nets import seen_nets
from diskern.train.spot_sets_recipe import SpotSetsRecipe
from diskern.train.spot_wilson import wilson_foils
from diskern.train.spots import strongest

Floats = NDArray[np.float64]

SIDES = ("train", "validation", "test")
MOST_BEAMS = 110
"""Beams of a Bloch-wave pattern; where there are more, those nearest the Ewald sphere."""
MOST_SPOTS = 120
"""Beams of a pattern that are kept, strongest first."""
RUN = 48
"""Sheets of a run, which are kept in memory where they come again."""
FEWEST_SPOTS = 4
"""A pattern with fewer shows a crystal or none: it is not asked."""


class SpotSets:
    """Blocks of one side of a recipe; any process makes any block, and gets the same bytes.

    A block holds ``per_block`` patterns, all of one crystal or none of any:

    ``token``, ``place``, ``there``, ``pattern`` : see `diskern.bragg.spot_tokens.SpotTokens`.
    ``q`` (N, 2) and ``intensity`` (N,) : the spots, 1/Å, the fitted centre taken off.
    ``basis`` (2, 2) : rows (q_x, q_y) of the net, NaN where none was found.
    ``space_group`` : 1 to 230, 0 of no crystal.
    ``crystal`` : 1 or 0, -1 where the pattern is too poor to be asked.
    ``zone`` (3,), ``thickness``, ``energy``, ``dynamical``, ``number`` : how it was made.

    Parameters
    ----------
    side : train, validation or test: the crystals that the recipe's split holds out are parted
        once more, by prototype, into validation (choices are made on it) and test.
    materials : other crystals than the recipe's.
    evenly : draw every diffraction symbol equally often, not every crystal.
    """

    def __init__(
        self,
        recipe: SpotSetsRecipe,
        side: str = "train",
        materials: tuple[Material, ...] | None = None,
        *,
        evenly: bool = True,
    ) -> None:
        if side not in SIDES:
            raise DiskernError(f"side {side!r} is unknown; use {', '.join(SIDES)}")
        self.recipe, self.side, self.evenly = recipe, side, evenly
        if materials is None:
            materials = sides_of(recipe)[SIDES.index(side)]
        self.materials = materials
        if not self.materials:
            raise DiskernError(f"{recipe.name}: the {side} side has no crystal")
        self._groups: dict[int, list[list[int]]] = defaultdict(lambda: [[], []])
        for row, material in enumerate(self.materials):
            made_up = material.key.startswith("random-")
            self._groups[material.space_group][int(made_up)].append(row)
        symbols: defaultdict[int, list[int]] = defaultdict(list)
        for number in sorted(self._groups):
            symbols[symbol_of(number).index].append(number)
        self._symbols = [symbols[k] for k in sorted(symbols)]
        self.space_groups = [list(s.space_groups) for s in diffraction_symbols()]
        self._exposed = lru_cache(maxsize=recipe.window // recipe.reuse + 8)(self._expose)
        self._pool = lru_cache(maxsize=2)(self._drawn)
        self._sheets = lru_cache(maxsize=RUN if recipe.repeats > 1 else 2)(self._sheet)

    @property
    def group_prior(self) -> Floats:
        """(230,) how often each space group is drawn."""
        out = np.zeros(230)
        for members in self._symbols:
            out[np.array(members) - 1] = 1 / len(members) / len(self._symbols)
        return out

    def material_of(self, number: int) -> int:
        """Row of the crystal of a block; -1 where the block shows none."""
        rng = self._rng(number)
        if rng.random() < self.recipe.negatives and rng.random() < self.recipe.made_up:
            return -1
        return self._chosen(number)

    def block(self, number: int) -> Block:
        """The patterns of a block, decided by recipe, side and number alone."""
        sheet, place = divmod(number, self.recipe.sheet)
        if self.side == "train":
            sheet = sheet // (RUN * self.recipe.repeats) * RUN + sheet % RUN
        own = slice(place * self.recipe.per_block, (place + 1) * self.recipe.per_block)
        return {name: values[own] for name, values in self._sheets(sheet).items()}

    def _sheet(self, sheet: int) -> Block:
        """Blocks that are made together, one after the other."""
        recipe = self.recipe
        first = sheet * recipe.sheet
        rng = self._rng(sheet, 4, 4, 4)
        potentials = rng.random() < recipe.wilson_share
        if potentials and self.side == "train":
            beams = self._potentials(rng)
        else:
            beams = _beams_joined([self._beams(n) for n in range(first, first + recipe.sheet)])
        numbers = np.repeat(np.arange(first, first + recipe.sheet), recipe.per_block)
        return {**self._recorded(beams, rng), "number": numbers}

    def _recorded(self, beams: _Beams, rng: np.random.Generator) -> Block:
        """What is left of diffracted beams after the instrument, as tokens."""
        lists, facts = beams.lists, beams.facts
        if not self.recipe.clean:
            recipe = self.recipe
            exposing = Exposing(recipe.dose, recipe.scale_error)
            lists = record(lists, rng, recipe.per_block, exposing)
        faintest = np.exp(rng.uniform(np.log(1e-4), np.log(2e-2), len(lists.q)))
        origin, basis = seen_nets(lists, facts["zone"], faintest)
        basis = np.where(np.isfinite(beams.claimed), beams.claimed, basis)
        there = lists.intensity > 0
        lists = replace(lists, q=(lists.q - origin[:, None]) * there[..., None])
        made = strongest(lists, self.recipe.max_spots)
        position = made["q"].astype(np.float64)[..., ::-1]
        tokens = spot_tokens(position, made["intensity"].astype(np.float64), basis[..., ::-1])
        poor = made["count"] < FEWEST_SPOTS
        return {
            "token": tokens.token,
            "place": tokens.place,
            "there": tokens.there,
            "pattern": tokens.pattern,
            "q": made["q"],
            "intensity": made["intensity"],
            "basis": basis.astype(np.float32),
            "space_group": facts["group"].astype(np.int16),
            "crystal": np.where(poor, -1, facts["group"] > 0).astype(np.int8),
            "zone": facts["zone"].astype(np.int16),
            "thickness": facts["thickness"].astype(np.float32),
            "energy": facts["energy"].astype(np.float32),
            "dynamical": facts["dynamical"],
        }

    def exposed(self, number: int) -> tuple[SpotLists, dict[str, NDArray[Any]]]:
        """The beams of a block before any instrument, and ``group``, ``zone`` … of each pattern."""
        made = self._beams(number)
        return made.lists, made.facts

    def recorded(self, lists: SpotLists, facts: dict[str, NDArray[Any]], number: int = 0) -> Block:
        """Beams that another program made, as this side's instrument shows them.

        Parameters
        ----------
        lists : of ``per_block`` patterns of one crystal, or of several crystals in a row, with
            hkl: which net shows is told from them.
        facts : (B,) ``group``, ``thickness``, ``energy``, ``dynamical`` and (B, 3) ``zone``.
        number : decides what is drawn for the instrument.
        """
        made = self._recorded(_Beams(lists, facts, _unclaimed(len(lists.q))), self._rng(number, 5))
        return {**made, "number": np.full(len(lists.q), number)}

    # --- what is drawn ----------------------------------------------------------------------
    def _rng(self, *more: int) -> np.random.Generator:
        return np.random.default_rng([self.recipe.seed, SIDES.index(self.side), *more])

    def _chosen(self, number: int) -> int:
        pool = self._pool(number // self.recipe.window)
        return int(pool[self._rng(number, 1).integers(len(pool))])

    def _drawn(self, window: int) -> NDArray[np.int64]:
        """Crystals of a window of blocks: diffraction symbols first, then groups within them."""
        rng = self._rng(window, 2, 2)
        count = max(1, self.recipe.window // self.recipe.reuse)
        if not self.evenly:
            return rng.integers(len(self.materials), size=count)
        rows = []
        for _ in range(count):
            groups = self._symbols[int(rng.integers(len(self._symbols)))]
            real, made_up = self._groups[int(rng.choice(groups))]
            pick = real if real and (not made_up or rng.random() < self.recipe.real_share) else None
            rows.append(int(rng.choice(made_up if pick is None else pick)))
        return np.array(rows)

    def _beams(self, number: int) -> _Beams:
        """Beams of a block: of one crystal, of two grains of it, or of nothing."""
        rng, b = self._rng(number), self.recipe.per_block
        negative = rng.random() < self.recipe.negatives
        if negative and rng.random() < self.recipe.made_up:
            return self._made_up(rng)
        row = self._chosen(number)
        small, every = self._exposed(row, number // self.recipe.window)
        chosen = rng.permutation(len(small.q))[:b]
        facts = {name: values[chosen] for name, values in every.items()}
        lists = SpotLists(
            small.q[chosen].astype(np.float64),
            small.intensity[chosen].astype(np.float64),
            small.hkl[chosen].astype(np.int64),
        )
        group = 0 if negative else self.materials[row].space_group
        if negative:
            lists = _two_grains(lists, rng)
        return _Beams(lists, {**facts, "group": np.full(b, group)}, _unclaimed(b))

    def _made_up(self, rng: np.random.Generator) -> _Beams:
        """Spots of no crystal."""
        b, n, kinds = self.recipe.per_block, self.recipe.max_spots, self.recipe.made_up_kinds
        q, intensity, claimed = np.zeros((b, n, 2)), np.zeros((b, n)), _unclaimed(b)
        for i in range(b):
            kind = kinds[int(rng.integers(len(kinds)))]
            place, bright, claimed[i] = no_crystal(kind, n, rng)
            count = min(n, len(place))
            q[i, :count], intensity[i, :count] = place[:count], bright[:count]
        nothing = np.zeros(b)
        facts: dict[str, NDArray[Any]] = {"zone": np.zeros((b, 3), dtype=np.int64)}
        facts |= {
            "thickness": nothing,
            "energy": nothing,
            "dynamical": nothing > 0,
            "group": nothing.astype(np.int64),
        }
        return _Beams(SpotLists(q, intensity, np.zeros((b, n, 3), dtype=np.int64)), facts, claimed)

    def _potentials(self, rng: np.random.Generator) -> _Beams:
        """A sheet of random potentials, and of nothing."""
        recipe, b = self.recipe, self.recipe.per_block
        kind = rng.random(recipe.sheet) / max(recipe.negatives, 1e-9)
        none = int((kind < recipe.made_up).sum())
        chosen = [int(rng.integers(len(self.space_groups))) for _ in range(recipe.sheet - none)]
        groups = np.array([rng.choice(self.space_groups[i]) for i in chosen], dtype=np.int64)
        parts = [self._made_up(rng) for _ in range(none)]
        if len(groups):
            foils = wilson_foils(groups, recipe, rng)
            told, lists = np.repeat(groups, b), foils.lists
            double = np.repeat(kind[kind >= recipe.made_up] < 1, b)
            told = np.where(double, 0, told)
            if double.any():
                two = _trimmed(_two_grains(lists, rng))
                lists = lists_joined([lists, two])
                pick = np.where(double, len(told) + np.arange(len(told)), np.arange(len(told)))
                lists = SpotLists(lists.q[pick], lists.intensity[pick], lists.hkl[pick])
            facts = {"zone": foils.zone, "thickness": foils.thickness, "energy": foils.energy}
            facts |= {"dynamical": np.ones(len(told), dtype=bool), "group": told}
            parts.append(_Beams(lists, facts, _unclaimed(len(told))))
        return _beams_joined(parts)

    def _expose(self, row: int, window: int) -> tuple[SpotLists, dict[str, NDArray[Any]]]:
        """Foils of a crystal, ``per_block`` directions each, before any instrument.

        Two, where the crystal is to come again.
        """
        rng, recipe = self._rng(window, row, 3, 3), self.recipe
        crystal = self.materials[row].crystal(recipe.displacement)
        table = Reflections.of(crystal, recipe.g_max)
        energy = float(rng.choice(recipe.voltages)) * 1e3
        foils = 2 if recipe.reuse > 1 else 1
        zones, axes = _directions(recipe, foils * recipe.per_block, crystal, rng)
        spread = np.radians(float(draw(recipe.tilt, rng)))
        parts, thicknesses, dynamical = [], [], []
        for own in np.split(axes, foils):
            thickness = float(draw(recipe.thickness, rng))
            turns = np.concatenate([orientations_about(axis, spread, 1, rng) for axis in own])
            solved = crystal.volume < recipe.bloch_volume and rng.random() < recipe.bloch
            if solved:
                made = [bloch_pattern(crystal, t, energy, thickness, recipe.g_max) for t in turns]
                parts.append(as_lists(made))
            else:
                parts.append(self._kinematic(table, own, turns, energy, thickness, spread, rng))
            thicknesses.append(thickness)
            dynamical.append(solved)
        b = recipe.per_block
        lists = _trimmed(lists_joined(parts))
        # Small types: many crystals are kept.
        small = SpotLists(
            lists.q.astype(np.float32),
            lists.intensity.astype(np.float32),
            lists.hkl.astype(np.int16),
        )
        return small, {
            "zone": zones,
            "energy": np.full(foils * b, energy),
            "thickness": np.repeat(thicknesses, b),
            "dynamical": np.repeat(dynamical, b),
        }

    def _kinematic(
        self,
        table: Reflections,
        axes: Floats,
        turns: Floats,
        energy: float,
        thickness: float,
        spread: float,
        rng: np.random.Generator,
    ) -> SpotLists:
        coupled = rng.random() < self.recipe.double_diffraction
        width = width_of(thickness) * float(draw(self.recipe.bend, rng))
        cones = within_cones(table, axes, energy, TAILS * width, 3 * spread)
        near = np.asarray(cones.any(0), dtype=bool)
        if not coupled:
            near &= np.abs(table.F) > 1e-4 * np.abs(table.F).max()
        if not near.any():
            near[0] = True
        options = SaedOptions(
            width=width, max_excitation_error=TAILS * width, min_intensity=WEAKEST
        )
        chosen = table.select(near)
        made = simulate_coupled(chosen, turns, energy, thickness, options, bool(coupled))
        return SpotLists(made.q, made.intensity, made.hkl)


@dataclass(frozen=True, eq=False)
class _Beams:
    """Diffracted beams of some patterns, facts of each, and nets that a fit may claim (or NaN)."""

    lists: SpotLists
    facts: dict[str, NDArray[Any]]
    claimed: Floats


def _unclaimed(count: int) -> Floats:
    return np.full((count, 2, 2), np.nan)


def _beams_joined(parts: list[_Beams]) -> _Beams:
    """All one after the other."""
    names = parts[0].facts
    return _Beams(
        lists_joined([p.lists for p in parts]),
        {name: np.concatenate([p.facts[name] for p in parts]) for name in names},
        np.concatenate([p.claimed for p in parts]),
    )


def _trimmed(lists: SpotLists) -> SpotLists:
    """The strongest `MOST_SPOTS` spots of each pattern."""
    return lists.at(np.argsort(-lists.intensity, axis=1, kind="stable")[:, :MOST_SPOTS])


def _directions(
    recipe: SpotSetsRecipe, b: int, crystal: Crystal, rng: np.random.Generator
) -> tuple[NDArray[np.int64], Floats]:
    """(B, 3) zone indices, zeros of general directions, and (B, 3) unit vectors; zones differ."""
    known = zone_list(recipe.max_index)
    # The longest are hardly ever drawn, but as many as are wanted must have some chance.
    weight = np.linalg.norm(known @ crystal.lattice, axis=1) ** -recipe.short_zones
    picked = known[rng.choice(len(known), b, replace=False, p=weight / weight.sum())]
    general = rng.random(b) >= recipe.zone_share
    vectors = np.where(general[:, None], rng.normal(size=(b, 3)), picked @ crystal.lattice)
    zones = np.where(general[:, None], 0, picked)
    return zones, vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def bloch_pattern(
    crystal: Crystal, turn: Floats, energy: float, thickness: float, g_max: float
) -> SpotPattern:
    """One dynamical pattern with at most `MOST_BEAMS` beams."""
    s_max = 0.03
    for _ in range(10):
        options = BlochOptions(g_max=g_max, s_max=s_max, absorption=0.05, dtype="float32")
        waves = BlochWaves(crystal, Rotation.from_matrix(turn), energy, options)
        if len(waves) <= MOST_BEAMS:
            break
        s_max, g_max = 0.7 * s_max, 0.95 * g_max
    return waves.spots(thickness, min_intensity=WEAKEST)[0]


def as_lists(patterns: list[SpotPattern]) -> SpotLists:
    """Patterns in one padded table."""
    return lists_joined([SpotLists(p.q[None], p.intensity[None], p.hkl[None]) for p in patterns])


def lists_joined(parts: list[SpotLists]) -> SpotLists:
    """One table, padded to the longest."""
    longest = max(1, *(p.intensity.shape[1] for p in parts))

    def padded(array: NDArray[Any]) -> NDArray[Any]:
        more = [(0, 0), (0, longest - array.shape[1])] + [(0, 0)] * (array.ndim - 2)
        return np.pad(array, more)

    names = ("q", "intensity", "hkl")
    return SpotLists(*(np.concatenate([padded(getattr(p, n)) for p in parts]) for n in names))


def _two_grains(lists: SpotLists, rng: np.random.Generator) -> SpotLists:
    """Each pattern with that of a neighbour over it, turned and about as strong."""
    b = len(lists.q)
    angle = rng.uniform(0, 2 * np.pi, (b, 1))
    c, s = np.cos(angle), np.sin(angle)
    other = np.roll(np.arange(b), 1)
    q, bright = lists.q[other], lists.intensity[other]
    turned = np.stack([c * q[..., 0] - s * q[..., 1], s * q[..., 0] + c * q[..., 1]], -1)
    own, new = (x.max(1, initial=0.0, keepdims=True) for x in (lists.intensity, bright))
    share = rng.uniform(0.5, 1.0, (b, 1)) * own / np.maximum(new, 1e-30)
    return SpotLists(
        np.concatenate([lists.q, turned], 1),
        np.concatenate([lists.intensity, bright * share], 1),
        np.concatenate([lists.hkl, np.zeros_like(lists.hkl)], 1),
    )
