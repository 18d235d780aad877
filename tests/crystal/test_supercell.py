"""Boxes keep the crystal's distances and density; periodic cells tile without a seam."""

import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from diskern.crystal.crystal import Crystal
from diskern.crystal.orientation import zone_axis_orientation
from diskern.crystal.supercell import oriented_box, periodic_zone_cell
from diskern.errors import DiskernError

SI_SITES = [
    [0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0],
    [0.25, 0.25, 0.25], [0.25, 0.75, 0.75], [0.75, 0.25, 0.75], [0.75, 0.75, 0.25],
]  # fmt: skip
CELLS = {
    "hexagonal": (3.0, 3.0, 5.0, 90, 90, 120),
    "monoclinic": (4.1, 5.2, 6.3, 90, 104.0, 90),
    "triclinic": (4.0, 5.0, 6.0, 81.0, 97.0, 112.0),
    "rhombohedral": (4.5, 4.5, 4.5, 55, 55, 55),
}


def make(cell, sites=((0.1, 0.2, 0.3), (0.45, 0.7, 0.8))):
    return Crystal.from_arrays(cell, list(sites), [14, 8][: len(sites)], u_iso=0.005)


@pytest.fixture
def silicon():
    return Crystal.from_arrays((5.431, 5.431, 5.431, 90, 90, 90), SI_SITES, [14] * 8)


def neighbour_distances(points, inner, reach=9.07):
    """Sorted distances from the atoms inside ``inner`` (low, high) to all others within reach."""
    tree = cKDTree(points)
    low, high = inner
    core = points[((points > low) & (points < high)).all(axis=1)]
    return [
        np.sort(np.linalg.norm(points[tree.query_ball_point(p, reach)] - p, axis=1)) for p in core
    ]


@pytest.mark.parametrize("name", CELLS)
def test_rotation_keeps_every_distance(name):
    crystal = make(CELLS[name], sites=((0.0, 0.0, 0.0),))
    cells = np.stack(np.meshgrid(*[np.arange(-5, 6)] * 3), axis=-1).reshape(-1, 3)
    lengths = np.sort(np.linalg.norm(cells @ crystal.lattice, axis=1))
    expected = lengths[lengths < 9.07]
    for seed in range(3):
        rotation = Rotation.random(random_state=seed)
        box = oriented_box(crystal, rotation, (24.0, 25.0, 26.0))
        found = neighbour_distances(box.positions, (9.0, 15.0))
        assert len(found) > 0
        for distances in found:
            np.testing.assert_allclose(distances, expected, atol=1e-6)


@pytest.mark.parametrize("name", CELLS)
def test_every_atom_is_a_rotated_lattice_site(name):
    crystal = make(CELLS[name])
    rotation = Rotation.random(random_state=4)
    size = np.array([21.0, 17.0, 30.0])
    centre = np.array([0.3, -0.2, 0.9])
    box = oriented_box(crystal, rotation, size, centre=centre)
    assert (box.positions >= 0).all()
    assert (box.positions < size).all()
    back = rotation.inv().apply(box.positions - [size[0] / 2, size[1] / 2, 0])
    fractional = back @ np.linalg.inv(crystal.lattice) + centre
    for site, number in zip(crystal.fractional, crystal.numbers, strict=True):
        mine = fractional[box.numbers == number] - site
        np.testing.assert_allclose(mine, np.round(mine), atol=1e-6)
    density = len(crystal) / crystal.volume * np.prod(size)
    assert abs(len(box.numbers) - density) < 0.15 * density
    assert len(cKDTree(box.positions).query_pairs(0.5)) == 0


def test_number_of_atoms_is_the_volume_on_average():
    crystal = make(CELLS["triclinic"])
    size = np.array([31.0, 32.0, 33.0])
    counts = [
        len(oriented_box(crystal, Rotation.random(random_state=i), size).numbers) for i in range(12)
    ]
    expected = np.prod(size) / crystal.volume * len(crystal)
    assert np.mean(counts) == pytest.approx(expected, rel=0.01)


def test_commensurate_box_has_no_doubled_faces(silicon):
    orientation = zone_axis_orientation(silicon, (0, 0, 1), along_x=(2, 0, 0))
    box = oriented_box(silicon, orientation, np.array([3, 3, 2]) * 5.431)
    assert len(box.numbers) == 8 * 18
    tree = cKDTree(box.positions, boxsize=np.array([3, 3, 2]) * 5.431 * (1 + 1e-9))
    assert len(tree.query_pairs(2.0)) == 0


@pytest.mark.parametrize(
    ("zone", "edges", "count"),
    [
        ((0, 0, 1), (3.8403, 3.8403, 5.431), 4),
        ((0, 1, 1), (3.8403, 5.431, 3.8403), 4),
        ((1, 1, 1), (3.8403, 6.6516, 9.4067), 12),
        ((1, 1, 2), (3.8403, 9.4067, 6.6516), 12),
    ],
)
def test_silicon_zone_cells(silicon, zone, edges, count):
    cell = periodic_zone_cell(silicon, zone)
    np.testing.assert_allclose(np.sort(cell.size[:2]), np.sort(edges[:2]), atol=1e-3)
    assert cell.size[2] == pytest.approx(edges[2], abs=1e-3)
    assert len(cell.atoms.numbers) == count
    assert cell.misfit < 1e-9


@pytest.mark.parametrize("zone", [(0, 0, 1), (0, 1, 1), (1, 1, 1), (0, 1, 3)])
def test_periodic_cell_is_the_crystal_in_its_orientation(silicon, zone):
    cell = periodic_zone_cell(silicon, zone)
    np.testing.assert_allclose(
        cell.orientation.apply(np.array(zone) @ silicon.lattice)[:2], 0, atol=1e-9
    )
    sites = cell.orientation.inv().apply(cell.atoms.positions - cell.atoms.positions[0])
    sites = sites @ np.linalg.inv(silicon.lattice)
    reference = np.array(SI_SITES)
    steps = sites[:, None] - reference[None]
    near = np.abs(steps - np.round(steps)).max(-1).min(1)
    # Relative to one atom, the others are Si sites or, seen from the second basis atom, inverted.
    steps = sites[:, None] + reference[None]
    other = np.abs(steps - np.round(steps)).max(-1).min(1)
    assert min(near.max(), other.max()) < 1e-6
    tree = cKDTree(cell.atoms.positions, boxsize=cell.size * (1 + 1e-12))
    assert len(tree.query_pairs(2.3)) == 0


def test_hexagonal_c_axis_has_an_exact_cell_and_a_triclinic_zone_has_none():
    hexagonal = periodic_zone_cell(make(CELLS["hexagonal"]), (0, 0, 1))
    np.testing.assert_allclose(hexagonal.size, [3.0, 3 * np.sqrt(3), 5.0], atol=1e-9)
    assert len(hexagonal.atoms.numbers) == 4
    assert periodic_zone_cell(make(CELLS["triclinic"]), (0, 0, 1)) is None


def test_small_misfit_is_accepted_only_on_request():
    almost = make((4.013, 5.127, 6.0, 90.0, 90.0, 90.01))
    assert periodic_zone_cell(almost, (0, 0, 1)) is None
    cell = periodic_zone_cell(almost, (0, 0, 1), max_misfit=1e-3)
    assert cell.misfit == pytest.approx(np.radians(0.01), rel=1e-3)
    np.testing.assert_allclose(np.sort(cell.size), [4.013, 5.127, 6.0], rtol=1e-6)


@pytest.mark.parametrize("box", [(0, 1, 1), (5, 5), (np.nan, 1, 1), (1e5, 1e5, 1e5), (-3, 4, 4)])
def test_impossible_boxes_are_refused(silicon, box):
    with pytest.raises(DiskernError, match="box="):
        oriented_box(silicon, Rotation.identity(), box)
