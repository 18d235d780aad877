"""Where foils end, how thick they are, and that it makes multislice equal to Bloch waves."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from simulate_crystals import TRICLINIC

from diskern.crystal.common import common_phases
from diskern.crystal.crystal import Crystal
from diskern.crystal.orientation import reciprocal_vectors, zone_axis_orientation
from diskern.crystal.supercell import oriented_box, periodic_zone_cell
from diskern.simulate.bloch import BlochOptions, BlochWaves
from diskern.simulate.bloch_cbed import cbed_disks
from diskern.simulate.multislice_cbed import MultisliceOptions, cbed_multislice
from diskern.simulate.multislice_foil import (
    Surfaces,
    entered_through_gap,
    matter_density,
    sliced,
)
from diskern.simulate.potential import Slicing

A = 5.431
FCC = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
SILICON = Crystal.from_arrays(
    (A, A, A, 90, 90, 90), np.concatenate([FCC, FCC + 0.25]), [14] * 8, u_iso=0.08**2
)
BILAYER = A / 3**0.5


def bilayers():
    cell = entered_through_gap(periodic_zone_cell(SILICON, (1, 1, 1)))
    return cell, sliced(cell, 1.6)


def symmetric_beams(crystal, orientation, g_max):
    """Zero-order and both first-order Laue zones.

    The far reflections of zones +1 and -1 shift the strong beams in opposite senses: one zone
    without the other would change the direct beam of Si [011] by 5 %.
    """
    hkl, g = reciprocal_vectors(crystal, g_max + 0.8)
    lab = orientation.apply(g)
    height = np.unique(np.abs(lab[:, 2]).round(4))[1]
    kept = (np.hypot(*lab[:, :2].T) < g_max) & (np.abs(lab[:, 2]) < height + 1e-3)
    return hkl[kept]


def test_silicon_111_begins_and_ends_between_its_bilayers():
    cell, slicing = bilayers()
    planes = np.unique(cell.atoms.positions[:, 2].round(4))
    # The close pair comes first, then the wide gap.
    np.testing.assert_allclose(np.diff(planes)[:2], [BILAYER / 4, 3 * BILAYER / 4], atol=1e-3)
    surfaces = Surfaces.of_cell(cell, slicing)
    np.testing.assert_allclose(surfaces.thickness, BILAYER * np.arange(4), atol=1e-9)


def corundum():
    # α-Al2O3, hexagonal axes: 18 planes of atoms in one period, three lattice planes.
    return next(c for c in common_phases() if c.name == "Al2O3 (corundum)").with_u_iso(0.08**2)


def test_foils_of_corundum_are_whole_lattice_planes():
    cell = entered_through_gap(periodic_zone_cell(corundum(), (0, 0, 1)))
    assert cell.layers == 3
    slicing = sliced(cell, 1.6)
    assert slicing.count % 3 == 0
    surfaces = Surfaces.of_cell(cell, slicing)
    np.testing.assert_allclose(surfaces.thickness, cell.size[2] * np.arange(4) / 3)
    held = slicing.index(cell.atoms.positions[:, 2])[:, None] < surfaces.slices
    electrons = (cell.atoms.numbers[:, None] * held).sum(0)
    np.testing.assert_allclose(electrons, electrons[-1] * np.arange(4) / 3)


def test_long_periods_end_in_wide_gaps():
    """One heavy pair of planes in 20 Å: a foil may end between the pairs, and not within one."""
    pair = Crystal.from_arrays(
        (4, 4, 20, 90, 90, 90), [[0, 0, 0.1], [0.5, 0.5, 0.15], [0, 0, 0.6], [0.5, 0.5, 0.65]],
        [79, 79, 14, 14],
    )  # fmt: skip
    cell = entered_through_gap(periodic_zone_cell(pair, (0, 0, 1)))
    surfaces = Surfaces.of_cell(cell, sliced(cell, 1.6))
    np.testing.assert_allclose(surfaces.thickness, [0, 20 * 79 / (79 + 14), 20], atol=1e-9)


def test_thickness_between_surfaces_is_shared():
    cell, slicing = bilayers()
    surfaces = Surfaces.of_cell(cell, slicing)
    depths = np.array([BILAYER * 7, BILAYER * 30.25, BILAYER * 0.5, 1e-9])
    exits, shares = surfaces.exits(depths)
    assert exits == sorted(exits)
    np.testing.assert_allclose(shares.sum(1), 1)
    # Twelve slices hold three bilayers, and a foil may end below each of them.
    bilayers_held = 3 * np.floor_divide(exits, 12) + np.searchsorted(
        surfaces.slices[:-1], np.remainder(exits, 12)
    )
    mean = shares @ (bilayers_held * BILAYER)
    np.testing.assert_allclose(mean, depths, atol=2e-3)
    assert (shares[0] > 0).sum() == 1
    assert (shares[1] > 0).sum() == 2


@pytest.mark.parametrize("seed", [0, 1])
def test_box_counts_its_matter_whatever_its_faces_cut(seed):
    """Boxes whose faces cut lattice rows anyhow, in any orientation: thickness within 0.5 Å."""
    turn = Rotation.random(random_state=seed)
    edge, slicing = 57.3, Slicing(2.0, 25)
    atoms = oriented_box(SILICON, turn, (edge, edge, slicing.depth))
    density = matter_density(SILICON.numbers, SILICON.occupancy, SILICON.volume)
    surfaces = Surfaces.of_box(atoms, edge, density, slicing)
    np.testing.assert_allclose(surfaces.thickness, surfaces.slices * slicing.thickness, atol=0.5)


@pytest.mark.parametrize("zone", [(0, 0, 1), (0, 1, 1), (1, 1, 1), (1, 1, 2)])
def test_multislice_equals_bloch_waves_at_any_thickness(zone):
    """u = 0.08 Å, about 200 Å of Si at 200 kV: the spots differ by less than 0.4 % in all.

    None of the thicknesses is a whole number of periods.
    """
    compare_spots(SILICON, zone, [197.5, 203.0])


def test_anisotropic_displacements_are_those_of_bloch_waves():
    tensors = np.tile([[0.012, 0.003, 0.0], [0.003, 0.004, 0.0], [0.0, 0.0, 0.007]], (8, 1, 1))
    uneven = replace(SILICON, u_aniso=tensors)
    one, two = compare_spots(uneven, (0, 0, 1), [150.0])
    # The directions differ: the test would see tensors that were left out or turned wrongly.
    even, _ = compare_spots(SILICON, (0, 0, 1), [150.0])
    assert np.abs(one - even).max() > 0.01
    assert np.abs(one - two).max() < 0.0015


def compare_spots(crystal, zone, depths):
    """Assert that both engines agree; their spot intensities at the last thickness."""
    primitive = crystal.primitive()
    orientation = zone_axis_orientation(crystal, zone)
    hkl = symmetric_beams(primitive, orientation, 3.0)
    waves = BlochWaves(primitive, orientation, 200e3, BlochOptions(), hkl=hkl)
    expected = waves.intensities(depths)[0].numpy()
    px, n = 0.02, 256
    found = cbed_multislice(crystal, orientation, 200e3, 0.0, depths, (n, n), px)
    near = np.hypot(*waves.beams.g[:, :2].T) < 1
    spots, which = np.unique(waves.beams.g[near, :2].round(4), axis=0, return_inverse=True)
    rows, cols = np.indices((n, n)) - n // 2
    masks = [np.hypot(cols * px - x, rows * px - y) < 0.05 for x, y in spots]
    for image, flux in zip(found, expected[:, near], strict=True):
        one = np.bincount(which.ravel(), flux)
        two = np.array([image[m].sum() for m in masks])
        assert np.abs(one - two).max() < 0.0015
        assert np.abs(one - two).sum() < 0.004 * one.sum()
    return one, two


def test_box_and_periodic_cell_agree_along_111():
    orientation = zone_axis_orientation(SILICON, (1, 1, 1))
    images = [
        cbed_multislice(
            SILICON, orientation, 200e3, 2.0, 31.0, (96, 96), 0.02,
            options=MultisliceOptions(route=route, k_max=1.8, box=50.0),
        )[0]
        for route in ("periodic", "box")
    ]  # fmt: skip
    rows, cols = np.indices((96, 96)) - 48
    direct = [float(i[np.hypot(rows, cols) * 0.02 < 0.12].sum()) for i in images]
    assert direct[0] == pytest.approx(direct[1], abs=0.01)


def test_box_of_a_triclinic_crystal_anyhow_oriented():
    """No axis, no period: disks within 0.5 % of the beam of Bloch waves."""
    crystal, turn = TRICLINIC.with_u_iso(0.08**2), Rotation.random(random_state=2)
    px, semiangle = 0.025, 1.2
    kept = BlochOptions(g_max=2.0, s_max=0.1, dtype="float32")
    waves = BlochWaves(crystal, turn, 200e3, kept, k_reach=0.06)
    bloch = cbed_disks(waves, semiangle, [60.0], (80, 80), px)[0].numpy()
    options = MultisliceOptions(route="box", k_max=2.0, box=55.0)
    found = cbed_multislice(crystal, turn, 200e3, semiangle, 60.0, (80, 80), px, options=options)[0]
    rows, cols = np.indices((80, 80)) - 40
    spots = np.unique(waves.beams.g[:, :2].round(5), axis=0)
    masks = [np.hypot(cols * px - x, rows * px - y) < 0.08 for x, y in spots]
    one, two = (np.array([i[m].sum() for m in masks]) for i in (bloch, found))
    assert 0.5 < one.max() < 0.995
    assert np.abs(one - two).max() < 0.005


def test_series_grows_smoothly_between_atomic_planes():
    orientation = zone_axis_orientation(SILICON, (1, 1, 1))
    depths = np.arange(20.0, 26.0, 0.5)
    images = cbed_multislice(SILICON, orientation, 200e3, 0.0, depths, (32, 32), 0.02)
    direct = images[:, 16, 16]
    steps = np.diff(direct)
    assert (steps < 0).all()
    assert steps.min() > 1.6 * steps.max()
