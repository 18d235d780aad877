"""Probe and convergent-beam pattern to V_g and q_z: the set of 4D>Crystal, done exactly.

Munshi et al., npj Comput. Mater. 8, 254 (2022).  There the labels are read off a Fourier
transform of the simulated box; here they follow from the reflection list, so they depend on
neither the box nor the thickness, and crystals of any lattice keep their metric.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from diskern.crystal.crystal import Crystal
from diskern.crystal.orientation import zone_axis_orientation
from diskern.errors import DiskernError
from diskern.physics import wavelength
from diskern.simulate.cbed import simulate_cbed
from diskern.simulate.instrument import mistilted
from diskern.simulate.labels import bragg_labels, render_labels
from diskern.simulate.render import draw_disks
from diskern.train.exposures import zone_list
from diskern.train.recipe import QuartetsRecipe
from diskern.train.samples import FACTS, Block, Field, TrainingSet

Images = NDArray[np.float32]


class QuartetSet(TrainingSet):
    """A block is one crystal in one orientation, a sample for each semiangle.

    See `QuartetsRecipe`.  A sample holds the whole thickness series; ``thickness`` is its last.
    """

    recipe: QuartetsRecipe

    @property
    def fields(self) -> Mapping[str, Field]:
        """Probe, patterns and label images on one grid."""
        n, t = self.recipe.size, len(self.recipe.thicknesses)
        return {
            **FACTS,
            "probe": Field((n, n), "float32", "the beam without a specimen; sums to 1"),
            "cbed": Field((t, n, n), "float32", "fraction of the beam in each pixel"),
            "v_g": Field((n, n), "float32", "|V_g| S(q_z) on disks of the probe's radius", "V"),
            "q_z": Field((n, n), "float32", "excitation error on the same disks", "1/Å"),
            "visibility": Field((n, n), "float32", "what share of a reflection can be seen"),
            "thicknesses": Field((t,), "float32", "of the series", "Å"),
            "semiangle": Field((), "float32", "convergence half-angle", "mrad"),
            "tilt": Field((2,), "float32", "off the zone axis in mrad, azimuth in degrees"),
            "pixel_size": Field((), "float32", "scale", "1/Å per px"),
            "orientation": Field((3, 3), "float32", "rotation crystal → lab"),
        }

    @property
    def block_size(self) -> int:
        """Number of semiangles."""
        return len(self.recipe.semiangles)

    @property
    def blocks(self) -> int:
        """Crystals times orientations."""
        return len(self.materials) * self.recipe.orientations

    def block(self, number: int) -> Block:
        """One crystal in one orientation under every semiangle.

        Raises
        ------
        DiskernError
            For a number beyond the set.
        """
        recipe = self.recipe
        if not 0 <= number < self.blocks:
            raise DiskernError(f"block {number} of {recipe.name} is none of {self.blocks}")
        chosen, place = divmod(number, recipe.orientations)
        rng = self.rng(number)
        crystal = self.materials[chosen].crystal(recipe.displacement)
        zone, orientation, tilt = orient(crystal, place, recipe, rng)
        energy = float(rng.choice(recipe.voltages)) * 1e3
        cbed = simulate_cbed(
            crystal,
            orientation=orientation,
            energy=energy,
            semiangle=recipe.semiangles,
            thickness=recipe.thicknesses,
            shape=(recipe.size, recipe.size),
            pixel_size=self.pixel_size,
            method=recipe.method,
        )
        parts = [self._labels(crystal, orientation, energy, a) for a in recipe.semiangles]
        made = self.facts(
            number, chosen, zone=zone, thickness=recipe.thicknesses[-1], energy=energy
        )
        made["cbed"] = cbed
        made.update({name: np.stack([p[name] for p in parts]) for name in parts[0]})
        n = self.block_size
        made["semiangle"] = np.array(recipe.semiangles, dtype=np.float32)
        made["thicknesses"] = np.tile(np.array(recipe.thicknesses, dtype=np.float32), (n, 1))
        made["tilt"] = np.tile(tilt.astype(np.float32), (n, 1))
        made["pixel_size"] = np.full(n, self.pixel_size, dtype=np.float32)
        matrix = orientation.as_matrix().astype(np.float32)
        made["orientation"] = np.tile(matrix, (n, 1, 1))
        return made

    @property
    def pixel_size(self) -> float:
        """1/Å per px."""
        return self.recipe.reach / (self.recipe.size // 2)

    def _labels(
        self, crystal: Crystal, orientation: Rotation, energy: float, semiangle: float
    ) -> dict[str, Images]:
        """Probe and label images."""
        recipe, pixel = self.recipe, self.pixel_size
        shape = (recipe.size, recipe.size)
        radius = math.sin(semiangle * 1e-3) / wavelength(energy) / pixel
        # Disks whose middle lies just outside still reach into the image.
        reach = math.sqrt(2) * (recipe.reach + radius * pixel)
        labels = bragg_labels(crystal, orientation, energy, g_max=reach, depth=recipe.depth)
        drawn = render_labels(labels, shape, pixel, radius)
        return {
            "probe": vacuum_probe(shape, radius),
            "v_g": drawn.v_g,
            "q_z": drawn.q_z,
            "visibility": drawn.visibility,
        }


def vacuum_probe(shape: tuple[int, int], radius: float) -> Images:
    """(H, W) image of a round aperture of ``radius`` px, soft over a pixel, that sums to 1."""
    middle = np.array([[shape[0] // 2]], dtype=float), np.array([[shape[1] // 2]], dtype=float)
    disk = draw_disks(*middle, np.ones((1, 1)), shape, radius)[0]
    return np.asarray(disk / disk.sum(), dtype=np.float32)


def orient(
    crystal: Crystal, place: int, recipe: QuartetsRecipe, rng: np.random.Generator
) -> tuple[NDArray[np.int64], Rotation, NDArray[np.float64]]:
    """Zone (zeros for a general direction), orientation, and the tilt off the zone.

    The first is [001]; then follow in turn a zone axis, a zone axis that is missed by a tilt,
    and an orientation drawn evenly from all.
    """
    nothing = np.zeros(2)
    if place and place % 3 == 0:
        return np.zeros(3, dtype=np.int64), Rotation.random(rng=rng), nothing
    zones = zone_list(recipe.max_index)
    zone = zones[int(rng.integers(len(zones)))] if place else np.array([0, 0, 1])
    turn = Rotation.from_rotvec([0, 0, float(rng.uniform(0, 2 * np.pi)) if place else 0.0])
    orientation = turn * zone_axis_orientation(crystal, zone)
    if place % 3 == 2 and recipe.tilt > 0:
        orientation, nothing = mistilted(orientation, rng, recipe.tilt, 3 * recipe.tilt)
    return zone, orientation, nothing
