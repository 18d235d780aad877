"""Slices hold the right potential, wherever between the pixels the atoms fall."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from diskern.crystal.supercell import Atoms
from diskern.errors import DiskernError
from diskern.simulate.multislice_grid import Grid
from diskern.simulate.potential import (
    Slicing,
    bspline_weights,
    slice_potentials,
    thermal_displacements,
)
from diskern.simulate.scattering import POTENTIAL_CONSTANT, electron_scattering_factor

GRID = Grid((60, 72), (7.0, 8.0))


@pytest.fixture
def atoms():
    rng = np.random.default_rng(3)
    return Atoms(
        rng.uniform(0, [8.0, 7.0, 4.0], (20, 3)),
        rng.choice([8, 14, 79], 20),
        rng.uniform(0.3, 1.0, 20),
        rng.choice([0.003, 0.008], 20),
    )


def exact(atoms, grid, slicing):
    """Phase sums over every atom, the definition."""
    k_y, k_x = (k.numpy() for k in grid.mesh())
    k = np.hypot(k_y, k_x)
    out = np.zeros((slicing.count, *grid.shape), dtype=complex)
    which = slicing.index(atoms.positions[:, 2])
    for (x, y, _), number, weight, u, plane in zip(*atoms[:4], which, strict=True):
        form = electron_scattering_factor(int(number), k) * np.exp(-2 * np.pi**2 * u * k**2)
        out[plane] += weight * form * np.exp(-2j * np.pi * (k_x * x + k_y * y))
    out *= POTENTIAL_CONSTANT / grid.area * grid.shape[0] * grid.shape[1]
    return np.fft.ifft2(out * grid.antialias().numpy()).real


@pytest.mark.parametrize(("order", "error"), [(4, 1e-2), (6, 1.5e-3), (8, 3e-4), (10, 6e-5)])
def test_matches_exact_phase_sums(atoms, order, error):
    slicing = Slicing(1.0, 4)
    expected = exact(atoms, GRID, slicing)
    found = slice_potentials(atoms, GRID, slicing, order=order, dtype=torch.float64).numpy()
    assert np.linalg.norm(found - expected) < error * np.linalg.norm(expected)


def test_blocks_of_slices_equal_the_whole(atoms):
    slicing = Slicing(1.0, 4)
    whole = slice_potentials(atoms, GRID, slicing)
    parts = [slice_potentials(atoms, GRID, slicing, first=a, stop=a + 2) for a in (0, 2)]
    torch.testing.assert_close(torch.cat(parts), whole)


def test_mean_is_the_mean_inner_potential(atoms):
    slicing = Slicing(2.0, 2)
    found = slice_potentials(atoms, GRID, slicing, dtype=torch.float64).mean().item() / 2.0
    forward = electron_scattering_factor(atoms.numbers, 0.0) * atoms.occupancy
    expected = POTENTIAL_CONSTANT * forward.sum() / (GRID.area * 4.0)
    assert found == pytest.approx(expected, rel=1e-9)


def test_moving_all_atoms_by_a_pixel_rolls_the_potential(atoms):
    dy, dx = GRID.pixel
    moved = atoms._replace(
        positions=(atoms.positions + np.array([dx, 2 * dy, 0])) % [8.0, 7.0, 4.0]
    )
    slicing = Slicing(1.0, 4)
    one, two = (slice_potentials(a, GRID, slicing, dtype=torch.float64) for a in (atoms, moved))
    torch.testing.assert_close(two, torch.roll(one, (2, 1), dims=(1, 2)), atol=1e-8, rtol=0)


def test_spline_weights_sum_to_one_and_are_symmetric():
    f = np.linspace(0, 0.999, 11)
    weights = bspline_weights(f, 8)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-14)
    np.testing.assert_allclose(bspline_weights(1 - f[1:], 8)[:, ::-1], weights[1:], atol=1e-14)


def test_slices_fall_on_atomic_planes():
    planes = np.array([0.0, 0.25, 0.5, 0.75]) * 5.431
    assert Slicing.of_planes(planes, 5.431, 2.0).count == 4
    irregular = np.array([0.0, 0.31, 0.57]) * 5.0
    assert Slicing.of_planes(irregular, 5.0, 1.0).count == 5
    assert Slicing.of_depth(10.0, 3.0) == Slicing(2.5, 4)


def test_atom_at_the_far_face_belongs_to_the_first_slice_of_the_next_cell():
    assert Slicing(1.0, 4).index(np.array([0.0, 0.999999999, 4.0 - 1e-9])).tolist() == [0, 1, 0]


def test_phonons_have_the_variance_asked_for_and_a_seed():
    n = 4000
    crowd = Atoms(np.full((n, 3), 5.0), np.full(n, 14), np.ones(n), np.full(n, 0.0064))
    one, two = thermal_displacements(crowd, 1), thermal_displacements(crowd, 1)
    np.testing.assert_array_equal(one.positions, two.positions)
    assert not np.array_equal(one.positions, thermal_displacements(crowd, 2).positions)
    assert np.var(one.positions[:, 0]) == pytest.approx(0.0064, rel=0.1)
    assert (one.u_iso == 0).all()


def test_tensors_damp_by_direction(atoms):
    """Against phase sums, and equal to u_iso where the tensors are round."""
    slicing = Slicing(1.0, 4)
    turn = Rotation.random(len(atoms.numbers), random_state=2).as_matrix()
    tensors = turn @ np.diag([0.002, 0.006, 0.015]) @ turn.transpose(0, 2, 1)
    found = slice_potentials(
        atoms._replace(u_aniso=tensors), GRID, slicing, order=10, dtype=torch.float64
    ).numpy()
    k = np.stack([k.numpy() for k in reversed(GRID.mesh())], axis=-1)
    length = np.linalg.norm(k, axis=-1)
    expected = np.zeros((slicing.count, *GRID.shape), dtype=complex)
    rows = zip(*atoms[:3], tensors, slicing.index(atoms.positions[:, 2]), strict=True)
    for position, number, weight, u, plane in rows:
        mean_square = np.einsum("yxi,ij,yxj->yx", k, u[:2, :2], k)
        form = electron_scattering_factor(int(number), length)
        form = weight * form * np.exp(-2 * np.pi**2 * mean_square)
        expected[plane] += form * np.exp(-2j * np.pi * (k @ position[:2]))
    expected *= POTENTIAL_CONSTANT / GRID.area * GRID.shape[0] * GRID.shape[1]
    expected = np.fft.ifft2(expected * GRID.antialias().numpy()).real
    assert np.linalg.norm(found - expected) < 6e-5 * np.linalg.norm(expected)
    round_ones = atoms._replace(u_aniso=atoms.u_iso[:, None, None] * np.eye(3))
    torch.testing.assert_close(
        slice_potentials(round_ones, GRID, slicing), slice_potentials(atoms, GRID, slicing)
    )


def test_phonons_move_along_their_tensors():
    n = 6000
    tensor = np.array([[0.010, 0.004, 0.0], [0.004, 0.004, 0.0], [0.0, 0.0, 0.002]])
    crowd = Atoms(
        np.full((n, 3), 5.0),
        np.full(n, 14),
        np.ones(n),
        np.full(n, 0.005),
        np.tile(tensor, (n, 1, 1)),
    )
    moved = thermal_displacements(crowd, 4)
    np.testing.assert_allclose(np.cov(moved.positions[:, :2].T), tensor[:2, :2], atol=5e-4)
    assert moved.u_aniso is None
    assert (moved.u_iso == 0).all()


def test_unknown_order_is_refused(atoms):
    with pytest.raises(DiskernError, match="order=5"):
        slice_potentials(atoms, GRID, Slicing(1.0, 4), order=5)
