"""A simulated scan shows its truth, is the same however it is read, and is written resumably."""

import json

import h5py
import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from typer.testing import CliRunner

from diskern.crystal.crystal import Crystal
from diskern.crystal.orientation import tilted, zone_axis_orientation
from diskern.errors import DiskernError
from diskern.physics import wavelength
from diskern.simulate.instrument import CentreOffset, Descan, Dose, Instrument
from diskern.simulate.multislice_cbed import cbed_multislice
from diskern.simulate.scan import ScanOptions, simulate_scan
from diskern.simulate.scan_specimen import Specimen
from diskern.simulate.scan_write import write_scan

FCC = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
PX = 0.02


@pytest.fixture(scope="module")
def aluminium():
    return Crystal.from_arrays((4.05,) * 3 + (90,) * 3, FCC, [13] * 4, u_iso=0.008, name="Al")


@pytest.fixture(scope="module")
def zone(aluminium):
    return zone_axis_orientation(aluminium, (0, 0, 1), (2, 0, 0))


def disk_centre(image, place, radius):
    """Centroid of what lies above half the disk's own level, near a (row, column)."""
    rows, cols = np.indices(image.shape)
    near = np.hypot(rows - place[0], cols - place[1]) < radius + 3
    mask = near & (image > 0.5 * np.median(image[np.hypot(rows - place[0], cols - place[1]) < 2]))
    return np.array([rows[mask].mean(), cols[mask].mean()])


def test_patterns_sum_to_the_beam_that_falls_on_the_detector(aluminium, zone):
    specimen = Specimen.uniform(aluminium, zone, (2, 3), 150.0)
    scan = simulate_scan(specimen, shape=(128, 128), pixel_size=PX)
    cube = scan.data[:]
    assert cube.shape == (2, 3, 128, 128)
    np.testing.assert_allclose(cube.sum((2, 3)), 1, atol=0.01)
    np.testing.assert_array_equal(cube[0, 0], cube[1, 2])


def test_disks_lie_at_g_and_have_the_probes_radius(aluminium, zone):
    specimen = Specimen.uniform(aluminium, zone, (1, 1), 60.0)
    image = simulate_scan(specimen, semiangle=2.0, shape=(160, 160), pixel_size=PX).data[0, 0]
    radius = 2e-3 / wavelength(200e3) / PX
    # Near a zone axis the 000 disk carries dark fringes; its outline is that of the probe.
    outline = image > 0.25 * image[80, 80]
    rows, _ = np.nonzero(outline & (np.hypot(*(np.indices(image.shape) - 80)) < 1.6 * radius))
    assert (np.ptp(rows) + 1) / 2 == pytest.approx(radius, abs=0.75)
    g = 2 / 4.05 / PX
    found = disk_centre(image, (80, 80 + g), radius)
    np.testing.assert_allclose(found, [80, 80 + g], atol=0.35)


def test_strain_and_rotation_move_the_disks_as_the_truth_says(aluminium, zone):
    """Positions in the pattern give back e_xx, e_yy, e_xy and the rotation."""
    strain, turn = np.array([0.02, -0.01, 0.015]), 0.02
    specimen = Specimen.uniform(aluminium, zone, (1, 1), 60.0).with_fields(
        strain=strain, rotation=turn
    )
    scan = simulate_scan(specimen, semiangle=2.0, shape=(256, 256), pixel_size=0.01)
    image = scan.data[0, 0]
    radius = 2e-3 / wavelength(200e3) / 0.01
    expected = np.array([[2, 0, 0], [0, 2, 0]]) @ aluminium.reciprocal
    c, s = np.cos(turn), np.sin(turn)
    spin = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    stretch = np.eye(3)
    stretch[:2, :2] += [[strain[0], strain[2]], [strain[2], strain[1]]]
    g = zone.apply(expected) @ (np.linalg.inv(stretch) @ spin).T
    measured = [disk_centre(image, (128 + q[1] / 0.01, 128 + q[0] / 0.01), radius) for q in g]
    moved = np.array([(m - 128)[::-1] * 0.01 for m in measured])
    np.testing.assert_allclose(moved, g[:, :2], atol=0.006)
    # Unstrained, they are elsewhere by several pixels.
    assert np.abs(moved - zone.apply(expected)[:, :2]).max() > 0.01


def test_tilt_brightens_one_side(aluminium, zone):
    tilt = 8.0
    specimen = Specimen.uniform(aluminium, zone, (1, 2), 200.0).with_fields(
        tilt=np.array([[[0.0, tilt], [0.0, -tilt]]])
    )
    cube = simulate_scan(specimen, shape=(128, 128), pixel_size=PX).data[:]
    g = round(2 / 4.05 / PX)
    right, left = cube[0, :, 60:69, 64 + g - 4 : 64 + g + 5], cube[0, :, 60:69, 60 - g : 69 - g]
    contrast = right.sum((1, 2)) - left.sum((1, 2))
    assert contrast[0] > 0 > contrast[1]
    np.testing.assert_allclose(contrast[0], -contrast[1], rtol=0.02)


def test_tilt_field_equals_a_tilted_orientation(aluminium, zone):
    by_field = Specimen.uniform(aluminium, zone, (1, 1)).with_fields(tilt=np.array([6.0, 0.0]))
    by_hand = Specimen.uniform(aluminium, tilted(zone, 6.0, 0.0), (1, 1))
    one, two = (
        simulate_scan(s, shape=(64, 64), pixel_size=0.03).data[:] for s in (by_field, by_hand)
    )
    np.testing.assert_allclose(one, two, atol=1e-7)


def test_two_beam_disk_agrees_with_multislice(aluminium, zone):
    """A weak, thin, tilted crystal: disk intensities of the quick tier within 25 %."""
    orientation = tilted(zone, 18.0, 17.0)
    specimen = Specimen.uniform(aluminium, orientation, (1, 1), 50.0)
    quick = simulate_scan(specimen, semiangle=1.5, shape=(128, 128), pixel_size=PX).data[0, 0]
    full = cbed_multislice(aluminium, orientation, 200e3, 1.5, 50.0, (128, 128), PX)[0]
    hkl = np.array(list(np.ndindex(5, 5, 1))) * 2 - [4, 4, 0]
    q = orientation.apply(hkl @ aluminium.reciprocal)
    rows, cols = np.indices(full.shape)
    sums = []
    for x, y, _ in q:
        disk = np.hypot((cols - 64) * PX - x, (rows - 64) * PX - y) < 0.08
        if disk.any():
            sums.append((quick[disk].sum(), full[disk].sum()))
    sums = np.array(sums)
    strong = sums[:, 1] > 0.01
    assert strong.sum() >= 3
    np.testing.assert_allclose(sums[strong, 0], sums[strong, 1], rtol=0.25)


def test_bloch_tier_conserves_and_agrees_in_the_thin_limit(aluminium, zone):
    specimen = Specimen.uniform(aluminium, tilted(zone, 10.0, 30.0), (1, 2), 40.0).with_fields(
        strain=np.array([0.01, 0.0, 0.0])
    )
    quick, full = (
        simulate_scan(
            specimen, shape=(96, 96), pixel_size=0.025, options=ScanOptions(method=m)
        ).data[0, 0]
        for m in ("disks", "bloch")
    )
    assert full.sum() == pytest.approx(1, abs=0.02)
    assert np.corrcoef(quick.ravel(), full.ravel())[0, 1] > 0.99


def test_reading_order_does_not_matter(aluminium, zone):
    specimen = Specimen.polycrystal([aluminium], (9, 10), 5, seed=1)
    instrument = Instrument((Dose(1e5),), seed=3)
    first = simulate_scan(specimen, shape=(32, 32), pixel_size=0.06, instrument=instrument)
    second = simulate_scan(
        specimen, shape=(32, 32), pixel_size=0.06, instrument=instrument,
        options=ScanOptions(cache=1),
    )  # fmt: skip
    cube = first.data[:]
    for y, x in [(8, 9), (0, 0), (4, 3), (8, 9)]:
        np.testing.assert_array_equal(second.data[y, x], cube[y, x])
    np.testing.assert_array_equal(second.data[2:8:3, -1], cube[2:8:3, -1])
    np.testing.assert_array_equal(second.data[..., 5, ::2], cube[..., 5, ::2])
    np.testing.assert_array_equal(np.asarray(second.data)[3], cube[3])
    with pytest.raises(IndexError):
        second.data[9, 0]


def test_only_what_is_asked_for_is_computed(aluminium):
    specimen = Specimen.uniform(aluminium, Rotation.identity(), (400, 400))
    scan = simulate_scan(specimen, shape=(64, 64), pixel_size=0.03)
    assert scan.shape == (400, 400, 64, 64)
    assert scan.pattern(399, 7).shape == (64, 64)
    assert len(scan.data._blocks) == 1


def test_descan_moves_the_beam_and_the_truth_knows(aluminium, zone):
    specimen = Specimen.uniform(aluminium, zone, (5, 5), 5.0)
    parts = (Descan((0.6, 0.0), (0.0, -0.4)), CentreOffset(2.0, 1.0))
    scan = simulate_scan(specimen, shape=(64, 64), pixel_size=0.03, instrument=Instrument(parts))
    centres = scan.data.centres()
    for y, x in [(0, 0), (4, 1), (2, 2)]:
        image = scan.data[y, x]
        rows, cols = np.indices(image.shape)
        near = np.hypot(rows - centres[y, x, 0], cols - centres[y, x, 1]) < 6
        found = [(i * image)[near].sum() / image[near].sum() for i in (rows, cols)]
        np.testing.assert_allclose(found, centres[y, x], atol=0.1)


def test_phases_and_vacuum(aluminium, zone):
    gold = Crystal.from_arrays((4.08,) * 3 + (90,) * 3, FCC, [79] * 4, u_iso=0.008, name="Au")
    specimen = Specimen.polycrystal([aluminium, gold], (8, 8), 6, zone_axis=(0, 0, 1), seed=2)
    assert set(np.unique(specimen.phase)) == {0, 1}
    phase = specimen.phase.copy()
    phase[:, :2] = -1
    scan = simulate_scan(specimen.with_fields(phase=phase), shape=(64, 64), pixel_size=0.03)
    vacuum = scan.data[0, 0]
    assert vacuum.sum() == pytest.approx(1, abs=1e-5)
    assert vacuum[20:40, :20].sum() == 0
    assert scan.data[0, 5][:, :20].sum() > 0
    for grain in np.unique(specimen.grain):
        inside = specimen.grain == grain
        assert len(np.unique(specimen.phase[inside])) == 1
        axis = specimen.orientation[inside][0] @ [0, 0, 1]
        np.testing.assert_allclose(axis, [0, 0, 1], atol=1e-9)


def test_gradients_have_the_values_asked_for(aluminium, zone):
    specimen = Specimen.uniform(aluminium, zone, (11, 21)).with_gradients(
        wedge=(100.0, 500.0), strain=0.01, bend=5.0, rotation=0.003
    )
    assert specimen.thickness[0, 0] == 100
    assert specimen.thickness[3, -1] == 500
    assert np.abs(specimen.strain[..., 0]).max() == pytest.approx(0.01, rel=0.02)
    assert np.abs(specimen.tilt).max() == pytest.approx(5.0)
    table = specimen.table()
    assert table.shape == (11, 21)
    np.testing.assert_array_equal(table["e_xy"], specimen.strain[..., 2])


@pytest.mark.parametrize("ending", ["h5", "zarr"])
def test_written_scan_is_read_back_and_a_cut_run_resumes(tmp_path, aluminium, ending):
    if ending == "zarr":
        pytest.importorskip("zarr")
    from diskern.io.registry import open_file

    specimen = Specimen.polycrystal([aluminium], (10, 18), 4, seed=5)
    scan = simulate_scan(
        specimen, shape=(48, 48), pixel_size=0.04, scan_step=(20.0, 20.0),
        instrument=Instrument((Dose(1e4),), 1),
    )  # fmt: skip
    path = tmp_path / f"scan.{ending}"

    class CutError(Exception):
        pass

    def cut(done, _total):
        if done == 1:
            raise CutError

    with pytest.raises(CutError):
        write_scan(scan, path, progress=cut)
    calls = []
    original = scan.data._computed
    scan.data._blocks.clear()
    scan.data._computed = lambda top, left: calls.append(top) or original(top, left)
    write_scan(scan, path)
    assert set(calls) == {1, 2}
    write_scan(scan, path)
    assert len(calls) == 2 * 5
    found = open_file(path, "scan")
    np.testing.assert_array_equal(found.data[:], scan.data[:])
    assert found.pixel_size == pytest.approx(0.04)
    assert found.energy == pytest.approx(200e3)
    assert open_file(path).data.shape == (10, 18, 48, 48)
    del found
    other = simulate_scan(specimen, shape=(48, 48), pixel_size=0.05)
    with pytest.raises(DiskernError, match="another scan"):
        write_scan(other, path)


def test_truth_stands_in_the_file(tmp_path, aluminium, zone):
    specimen = Specimen.uniform(aluminium, zone, (3, 4)).with_gradients(strain=0.01)
    scan = simulate_scan(specimen, shape=(32, 32), pixel_size=0.06)
    path = write_scan(scan, tmp_path / "a.h5")
    with h5py.File(path) as file:
        np.testing.assert_allclose(file["truth"]["e_xx"], specimen.strain[..., 0])
        assert file["scan"].chunks == (3, 4, 32, 32)
        assert file.attrs["configuration"] == scan.data.configuration
        assert "Al" in json.loads(file.attrs["crystals"])[0]


@pytest.mark.parametrize(
    ("change", "named"),
    [({"semiangle": 0.0}, "semiangle"), ({"shape": (8, 8)}, "shape"), ({"pixel_size": 5.0}, "5.0")],
)
def test_errors_name_the_value(aluminium, change, named):
    specimen = Specimen.uniform(aluminium, Rotation.identity(), (2, 2))
    with pytest.raises(DiskernError, match=named):
        simulate_scan(specimen, **change)
    with pytest.raises(DiskernError, match="no field"):
        specimen.with_fields(colour=1)
    with pytest.raises(DiskernError, match="strain"):
        specimen.with_fields(strain=0.5)
    with pytest.raises(DiskernError, match="known ending"):
        write_scan(simulate_scan(specimen), "scan.png")


def test_command_writes_a_scan(tmp_path):
    import typer

    from diskern.cli.simulate_scan import scan

    app = typer.Typer()
    app.command()(scan)
    path = tmp_path / "cli.h5"
    arguments = [
        "Al", "--scan", "6x5", "--detector", "48", "--grains", "2", "--seed", "1",
        "--dose", "1e5", "--strain", "1", "-o", str(path),
    ]  # fmt: skip
    found = CliRunner().invoke(app, arguments)
    assert found.exit_code == 0, found.output
    with h5py.File(path) as file:
        assert file["scan"].shape == (6, 5, 48, 48)
        assert file["scan"][:].min() >= 0
        assert np.abs(file["truth"]["e_xx"]).max() > 0.003
