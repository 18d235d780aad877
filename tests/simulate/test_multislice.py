"""Multislice: unitary, independent of the route taken, and equal to Bloch waves."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from diskern.crystal.crystal import Crystal
from diskern.crystal.orientation import excitation_error, tilted, zone_axis_orientation
from diskern.crystal.supercell import Atoms, periodic_zone_cell
from diskern.errors import DiskernError
from diskern.physics import wavelength
from diskern.simulate.bloch import BlochOptions, BlochWaves
from diskern.simulate.bloch_cbed import cbed_disks
from diskern.simulate.multislice import multislice, propagator, transmission
from diskern.simulate.multislice_cbed import (
    MultisliceOptions,
    aperture_samples,
    cbed_multislice,
    nearest_zone_cell,
)
from diskern.simulate.multislice_grid import Grid
from diskern.simulate.potential import Slicing, slice_potentials
from diskern.simulate.prism import scattering_matrix
from diskern.simulate.probe import Aberrations, Probe, probe_wave

A = 5.431
SITES = [
    [0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0],
    [0.25, 0.25, 0.25], [0.25, 0.75, 0.75], [0.75, 0.25, 0.75], [0.75, 0.75, 0.25],
]  # fmt: skip


@pytest.fixture(scope="module")
def silicon():
    return Crystal.from_arrays((A, A, A, 90, 90, 90), SITES, [14] * 8, u_iso=0.08**2)


def cell_waves(crystal, n, repeats=1, parametrization="lobato", dtype=torch.float64):
    """Grid, slicing and transmission of n × n pixels per conventional cell, repeated in x and y."""
    steps = np.stack(np.meshgrid(*[np.arange(repeats)] * 2, [0]), axis=-1).reshape(-1, 3)
    positions = (crystal.cartesian[None] + steps[:, None] * A).reshape(-1, 3)
    count = len(steps)
    atoms = Atoms(
        positions, np.tile(crystal.numbers, count), np.tile(crystal.occupancy, count),
        np.tile(crystal.u_iso, count),
    )  # fmt: skip
    grid = Grid((n * repeats, n * repeats), (A * repeats, A * repeats))
    slicing = Slicing.of_planes(crystal.cartesian[:, 2], A, 1.5)
    potentials = slice_potentials(
        atoms, grid, slicing, parametrization=parametrization, dtype=dtype
    )
    return grid, slicing, transmission(potentials, grid, 200e3)


def plane_wave(grid):
    return probe_wave(Probe(200e3), grid)


def disk_sums(image, pixel_size, centres, radius):
    """Intensity within ``radius`` (1/Å) of each (q_x, q_y)."""
    rows, cols = np.indices(image.shape)
    q_y = (rows - image.shape[0] // 2) * pixel_size
    q_x = (cols - image.shape[1] // 2) * pixel_size
    return np.array([image[np.hypot(q_x - x, q_y - y) < radius].sum() for x, y in centres])


def test_without_a_band_limit_nothing_is_lost(silicon):
    grid, slicing, _ = cell_waves(silicon, 48)
    potentials = slice_potentials(
        Atoms(silicon.cartesian, silicon.numbers, silicon.occupancy, silicon.u_iso),
        grid, slicing, band_limit=False, dtype=torch.float64,
    )  # fmt: skip
    waves = transmission(potentials, grid, 200e3, band_limit=False)
    step = propagator(grid, 200e3, slicing.thickness, band_limit=False, dtype=torch.complex128)
    out = multislice(plane_wave(grid), waves, step, [1, 148])
    np.testing.assert_allclose((out.abs() ** 2).sum((1, 2, 3)).numpy(), 1, atol=1e-12)


def test_silicon_001_reference_value(silicon):
    """000 of Si [001], 200 Å, 200 kV, u = 0.08 Å, Lobato factors: 0.4945."""
    grid, slicing, waves = cell_waves(silicon, 84)
    step = propagator(grid, 200e3, slicing.thickness, dtype=torch.complex128)
    out = multislice(plane_wave(grid), waves, step, [37 * slicing.count])[0, 0].abs() ** 2
    assert float(out[0, 0]) == pytest.approx(0.4945, abs=0.0010)
    assert float(out[2, 2]) == pytest.approx(0.1024, abs=0.0010)
    # 200 is absent in the zero-order zone however thick the crystal.
    assert float(out[2, 0]) < 1e-4


def test_thin_crystal_is_the_phase_grating(silicon):
    from diskern.physics import interaction_parameter
    from diskern.simulate.structure_factors import structure_factors

    grid, slicing, waves = cell_waves(silicon, 64)
    step = propagator(grid, 200e3, slicing.thickness, dtype=torch.complex128)
    out = multislice(plane_wave(grid), waves, step, [slicing.count])[0, 0].abs() ** 2
    factor = abs(structure_factors(silicon, np.array([[2, 2, 0]]), "lobato")[0])
    v_g = 47.87801 * factor / silicon.volume
    assert float(out[2, 2]) == pytest.approx(
        (interaction_parameter(200e3) * v_g * A) ** 2, rel=0.02
    )


def test_thickness_series_equals_single_runs(silicon):
    grid, slicing, waves = cell_waves(silicon, 36)
    step = propagator(grid, 200e3, slicing.thickness, dtype=torch.complex128)
    wave = plane_wave(grid)
    series = multislice(wave, waves, step, [0, 8, 40, 20])
    for n, found in zip([0, 8, 40, 20], series, strict=True):
        torch.testing.assert_close(found, multislice(wave, waves, step, [n])[0])


def test_batch_of_probes_equals_one_at_a_time(silicon):
    grid, slicing, waves = cell_waves(silicon, 28, repeats=3)
    step = propagator(grid, 200e3, slicing.thickness, dtype=torch.complex128)
    places = torch.tensor([[8.0, 8.0], [3.0, 9.5]], dtype=torch.float64)
    wave = probe_wave(Probe(200e3, 5.0), grid, places)
    both = multislice(wave, waves, step, [20])
    for i in range(2):
        torch.testing.assert_close(
            both[:, i : i + 1], multislice(wave[i : i + 1], waves, step, [20])
        )


def test_beam_tilt_is_a_shift_of_a_converged_beams_own_plane_wave(silicon):
    """A plane wave on a grid point of a 3×3 box equals the tilted beam in one cell."""
    grid, slicing, waves = cell_waves(silicon, 36)
    large, _, large_waves = cell_waves(silicon, 36, repeats=3)
    tilt = torch.tensor([[1 / (3 * A), -1 / (3 * A)]], dtype=torch.float64)
    small = multislice(
        plane_wave(grid), waves,
        propagator(grid, 200e3, slicing.thickness, tilt, dtype=torch.complex128), [40],
    )[0, 0].abs() ** 2  # fmt: skip
    wave = torch.zeros(1, *large.shape, dtype=torch.complex128)
    wave[0, 1, -1] = 1
    big = (
        multislice(
            wave,
            large_waves,
            propagator(large, 200e3, slicing.thickness, dtype=torch.complex128),
            [40],
        )[0, 0].abs()
        ** 2
    )
    # The circular band limits are centred differently by a third of a reciprocal cell.
    for h, k in [(0, 0), (2, 2), (-2, 2), (4, 0), (2, -2), (-4, 0)]:
        assert float(small[h, k]) == pytest.approx(float(big[3 * h + 1, 3 * k - 1]), rel=2e-3)


@pytest.mark.parametrize("tilt", [4.0, 20.0])
def test_beam_tilt_equals_crystal_tilt(silicon, tilt):
    """One orientation, through a cell with a tilted beam and through a box of tilted crystal."""
    orientation = tilted(zone_axis_orientation(silicon, (0, 0, 1), (2, 2, 0)), tilt, 25.0)
    px = 0.02
    options = {"k_max": 2.2, "slice_thickness": 1.4}
    images = [
        cbed_multislice(
            silicon, orientation, 200e3, 2.0, 100.0, (96, 96), px,
            options=MultisliceOptions(route=route, box=75.0, **options),
        )[0]
        for route in ("periodic", "box")
    ]  # fmt: skip
    g = 2 * math.sqrt(2) / A
    centres = [(0, 0), (g, 0), (-g, 0), (0, g), (0, -g)]
    one, two = (disk_sums(image, px, centres, 0.12) for image in images)
    assert abs(one - two).sum() < 0.015 * two.sum()
    assert images[0].sum() == pytest.approx(images[1].sum(), abs=0.01)


@pytest.mark.parametrize(("tilt", "azimuth"), [(0.0, 0.0), (8.0, 30.0)])
def test_multislice_equals_bloch_waves(silicon, tilt, azimuth):
    """u = 0.08 Å, 200 Å, 200 kV, 2 mrad: every disk within 0.5 % of the beam, R1 below 0.5 %."""
    orientation = tilted(zone_axis_orientation(silicon, (0, 0, 1), (2, 2, 0)), tilt, azimuth)
    depth, px, shape = 37 * A, 0.02, (128, 128)
    waves = BlochWaves(
        silicon.primitive(), orientation, 200e3, BlochOptions(g_max=3.0, s_max=0.15), k_reach=0.085
    )
    bloch = cbed_disks(waves, 2.0, [depth], shape, px)[0].numpy()
    found = cbed_multislice(silicon, orientation, 200e3, 2.0, depth, shape, px)[0]
    g = waves.beams.g[:, :2]
    centres = g[np.hypot(*g.T) < 1.0]
    one, two = (disk_sums(image, px, centres, 0.11) for image in (bloch, found))
    assert np.abs(one - two).max() < 0.005
    assert np.abs(one - two).sum() < 0.005 * one.sum()
    assert np.abs(bloch - found).sum() < 0.03


def test_wrong_sign_of_tilt_would_be_seen(silicon):
    orientation = zone_axis_orientation(silicon, (0, 0, 1), (2, 2, 0))
    images = [
        cbed_multislice(
            silicon, tilted(orientation, sign * 6.0, 90.0), 200e3, 2.0, 100.0, (96, 96), 0.02,
            options=MultisliceOptions(k_max=2.2),
        )[0]
        for sign in (1, -1)
    ]  # fmt: skip
    g = 2 * math.sqrt(2) / A
    plus, minus = (disk_sums(i, 0.02, [(g, 0), (-g, 0)], 0.12) for i in images)
    np.testing.assert_allclose(plus, minus[::-1], rtol=1e-3)
    assert abs(plus[0] - plus[1]) > 0.1 * plus.sum()
    # The reflection nearer to the Ewald sphere is the brighter.
    hkl = np.array([[2, 2, 0], [-2, -2, 0]]) @ silicon.reciprocal
    s_g = excitation_error(tilted(orientation, 6.0, 90.0).apply(hkl), wavelength(200e3))
    assert np.argmax(plus) == np.argmin(np.abs(s_g))


def test_vacuum_disk_has_the_semiangle_in_pixels():
    """A cell with next to nothing in it: hydrogen of occupancy 1e-9."""
    nothing = Crystal.from_arrays((4, 4, 4, 90, 90, 90), [[0, 0, 0]], [1], [1e-9])
    for route in ("periodic", "box"):
        image = cbed_multislice(
            nothing, Rotation.identity(), 200e3, 5.0, 20.0, (64, 64), 0.02,
            options=MultisliceOptions(route=route, k_max=1.5, box=50.0),
        )[0]  # fmt: skip
        assert image.sum() == pytest.approx(1, abs=1e-5)
        radius = math.sqrt(1 / (np.median(image[image > image.max() / 2]) * math.pi))
        assert radius == pytest.approx(5e-3 / (wavelength(200e3) * 0.02), rel=0.02)
        rows, cols = np.indices(image.shape)
        assert (rows * image).sum() == pytest.approx(32, abs=0.01)
        assert (cols * image).sum() == pytest.approx(32, abs=0.01)


@pytest.mark.parametrize("pixel_size", [1 / (9 * A), 0.02, 0.011])
def test_any_detector_takes_what_falls_on_it(silicon, pixel_size):
    """Edges of the detector that coincide with reciprocal pixels, or do not."""
    orientation = zone_axis_orientation(silicon, (0, 0, 1), (2, 0, 0))
    options = MultisliceOptions(k_max=1.74)
    for shape in [(128, 128), (33, 64)]:
        image = cbed_multislice(
            silicon, orientation, 200e3, 2.0, 20.0, shape, pixel_size, options=options
        )[0]
        assert image.shape == shape
        assert 0.5 < image.sum() <= 1.0001


def test_spot_positions_follow_the_orientation(silicon):
    """A parallel beam: the brightest spots of a turned crystal lie where g says."""
    orientation = Rotation.from_euler("z", 17.0, degrees=True) * zone_axis_orientation(
        silicon, (0, 1, 1)
    )
    image = cbed_multislice(silicon, orientation, 200e3, 0.0, 60.0, (256, 256), 0.008)[0]
    g = orientation.apply(np.array([[1, 1, -1], [-1, 1, -1]]) @ silicon.reciprocal)
    for q_x, q_y, _ in g:
        col, row = q_x / 0.008 + 128, q_y / 0.008 + 128
        window = image[round(row) - 2 : round(row) + 3, round(col) - 2 : round(col) + 3]
        assert window.sum() > 5e-3
        rows, cols = np.indices(window.shape)
        assert (rows * window).sum() / window.sum() + round(row) - 2 == pytest.approx(row, abs=0.05)
        assert (cols * window).sum() / window.sum() + round(col) - 2 == pytest.approx(col, abs=0.05)


def test_prism_equals_direct_calculation(silicon):
    grid, slicing, waves = cell_waves(silicon, 28, repeats=4)
    step = propagator(grid, 200e3, slicing.thickness, dtype=torch.complex128)
    probe = Probe(200e3, 6.0, aberrations=Aberrations(defocus=80.0, coma=2e3))
    places = torch.tensor([[10.0, 10.0], [12.3, 9.1]], dtype=torch.float64)
    direct = multislice(probe_wave(probe, grid, places), waves, step, [8, 30]).abs() ** 2
    matrix = scattering_matrix(probe, grid, waves, step, [8, 30])
    torch.testing.assert_close(matrix.diffraction(places, probe), direct, atol=1e-10, rtol=1e-6)


def test_interpolated_prism_keeps_the_disks(silicon):
    """Half the waves in each direction: disk sums within 2 %, a quarter of the pixels."""
    grid, slicing, waves = cell_waves(silicon, 24, repeats=12)
    step = propagator(grid, 200e3, slicing.thickness, dtype=torch.complex128)
    probe = Probe(200e3, 3.0)
    place = torch.tensor([[30.0, 30.0]], dtype=torch.float64)
    direct = (multislice(probe_wave(probe, grid, place), waves, step, [20]).abs() ** 2)[0, 0]
    matrix = scattering_matrix(probe, grid, waves, step, [20], interpolation=2)
    coarse = matrix.diffraction(place)[0, 0]
    assert coarse.shape == (144, 144)
    g = 2 / A
    centres = [(0, 0), (g, g), (-g, g), (g, -g)]
    fine_sums = disk_sums(np.fft.fftshift(direct.numpy()), 1 / (12 * A), centres, 0.16)
    sums = disk_sums(np.fft.fftshift(coarse.numpy()), 2 / (12 * A), centres, 0.16)
    np.testing.assert_allclose(sums[0], fine_sums[0], rtol=0.02)
    np.testing.assert_allclose(sums[1:], fine_sums[1:], rtol=0.1)


def test_frozen_phonons_are_seeded_and_scatter_diffusely(silicon):
    orientation = zone_axis_orientation(silicon, (0, 0, 1), (2, 0, 0))
    args = (silicon, orientation, 200e3, 2.0, 60.0, (96, 96), 0.03)
    base = {"route": "box", "box": 33.0, "k_max": 1.6}
    run = [
        cbed_multislice(*args, options=MultisliceOptions(frozen_phonons=2, seed=s, **base))[0]
        for s in (5, 5, 6)
    ]
    np.testing.assert_array_equal(run[0], run[1])
    assert not np.array_equal(run[0], run[2])
    still = cbed_multislice(*args, options=MultisliceOptions(**base))[0]
    # Between the disks, where the perfect crystal has only the box's own truncation.
    axis = (np.arange(96) - 48) * 0.03
    off = np.abs(axis / (2 / A) - np.round(axis / (2 / A))) * (2 / A)
    between = np.hypot(off[:, None], off[None]) > 0.15
    assert run[0][between].sum() > 1.5 * still[between].sum()


def test_zone_cell_is_the_lowest_index_near_the_beam(silicon):
    near = tilted(zone_axis_orientation(silicon, (0, 1, 1)), 12.0, 40.0)
    cell = nearest_zone_cell(silicon, near, 50.0)
    np.testing.assert_allclose(np.sort(cell.size), np.sort([A / 2**0.5, A / 2**0.5, A]), atol=1e-6)
    assert nearest_zone_cell(silicon, near, 5.0) is None


def test_aperture_samples_are_a_partition():
    points, weights = aperture_samples(Probe(200e3, 2.0), 0.01)
    assert weights.sum() == pytest.approx(1)
    np.testing.assert_allclose((points * weights[:, None]).sum(0), 0, atol=1e-12)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"thicknesses": [-5.0]}, "-5"),
        ({"thicknesses": []}, "thicknesses"),
        ({"shape": (0, 10)}, "shape"),
        ({"pixel_size": float("nan")}, "pixel_size"),
    ],
)
def test_errors_name_the_value(silicon, change, named):
    known = {
        "orientation": Rotation.identity(), "energy": 200e3, "semiangle": 2.0,
        "thicknesses": 50.0, "shape": (32, 32), "pixel_size": 0.03,
    } | change  # fmt: skip
    with pytest.raises(DiskernError, match=named):
        cbed_multislice(silicon, **known)


def test_no_periodic_cell_says_what_to_do():
    crystal = Crystal.from_arrays((4.0, 5.0, 6.0, 81.0, 97.0, 112.0), [[0, 0, 0]], [14])
    assert periodic_zone_cell(crystal, (0, 0, 1)) is None
    with pytest.raises(DiskernError, match="route='box'"):
        cbed_multislice(
            crystal, Rotation.identity(), 200e3, 1.0, 50.0, (32, 32), 0.03,
            options=MultisliceOptions(route="periodic"),
        )  # fmt: skip
