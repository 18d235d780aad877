"""EMD files: our own round trip, py4DSTEM's files, and bytes that are neither."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest
from test_vectors import made

from diskern.bragg.vectors import COLUMNS, BraggVectors
from diskern.bragg.vectors_calibration import VectorCalibration
from diskern.errors import DiskernError


def calibration(shape=(3, 4)) -> VectorCalibration:
    return VectorCalibration(
        pixel_size=0.021,
        energy=80e3,
        scan_step=(12.0, 12.5),
        origin=np.random.default_rng(3).uniform(28, 42, (*shape, 2)),
        ellipse=np.array([[0.985, 0.01], [0.01, 0.99]]),
        rotation=0.3,
        flip=True,
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made(calibration=calibration(), provenance={"version": "1", "n": 3}).to_emd(tmp_path / "a.h5")
    return tmp_path / "a.h5"


def test_everything_comes_back(file: Path) -> None:
    vectors = made(calibration=calibration())
    again = BraggVectors.from_emd(file)
    assert again.scan_shape == vectors.scan_shape
    assert again.pattern_shape == vectors.pattern_shape
    np.testing.assert_array_equal(again.offsets, vectors.offsets)
    for name in COLUMNS:
        np.testing.assert_array_equal(again[name], vectors[name])
        assert again[name].dtype == vectors[name].dtype
    assert again.provenance == {"version": "1", "n": 3}
    known = again.calibration
    assert (known.energy, known.scan_step, known.flip) == (80e3, (12.0, 12.5), True)
    assert known.rotation == pytest.approx(0.3)
    # Ellipse and pixel size share a factor; what they do to a vector is the same.
    np.testing.assert_allclose(again["q_y"], vectors["q_y"], rtol=1e-12)
    np.testing.assert_allclose(again["q_x"], vectors["q_x"], rtol=1e-12)
    assert np.linalg.eigvalsh(known.ellipse)[1] == pytest.approx(1)


def test_what_is_unknown_stays_unknown(tmp_path: Path) -> None:
    made().to_emd(tmp_path / "a.h5")
    known = BraggVectors.from_emd(tmp_path / "a.h5").calibration
    assert known.words() == "none"
    assert known.rotation is None


def test_origins_may_be_unknown_in_places(tmp_path: Path) -> None:
    origin = np.random.default_rng(3).uniform(28, 42, (3, 4, 2))
    origin[1, 2] = np.nan
    made(calibration=VectorCalibration(origin=origin)).to_emd(tmp_path / "a.h5")
    again = BraggVectors.from_emd(tmp_path / "a.h5").calibration
    np.testing.assert_array_equal(again.origin, origin)
    made(calibration=VectorCalibration(origin=origin * np.nan)).to_emd(tmp_path / "a.h5")
    assert BraggVectors.from_emd(tmp_path / "a.h5").calibration.origin is None


def test_no_disks_at_all(tmp_path: Path) -> None:
    none = BraggVectors.from_columns(
        (2, 3), (32, 32), [], {n: [] for n in ("row", "col", "intensity")}
    )
    none.to_emd(tmp_path / "a.h5")
    again = BraggVectors.from_emd(tmp_path / "a.h5")
    assert len(again) == 0
    assert again.scan_shape == (2, 3)


def test_many_batches_are_one_scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import diskern.bragg.vectors_emd as writer
    import diskern.bragg.vectors_emd_read as reader

    monkeypatch.setattr(writer, "BATCH", 9)
    monkeypatch.setattr(reader, "BATCH", 5)
    vectors = made((7, 4))
    vectors.to_emd(tmp_path / "a.h5")
    np.testing.assert_array_equal(BraggVectors.from_emd(tmp_path / "a.h5")["row"], vectors["row"])


def test_the_layout_is_py4dstems(file: Path) -> None:
    with h5py.File(file) as f:
        assert f.attrs["emd_group_type"] == "file"
        group = f["braggvectors_root/braggvectors"]
        assert group.attrs["python_class"] == "BraggVectors"
        data = group["_v_uncal/data"]
        kind = h5py.check_vlen_dtype(data.dtype)
        assert kind.names[:3] == ("qx", "qy", "intensity")
        assert all(kind[n] == np.float64 for n in kind.names[:3])
        # py4DSTEM counts the fields by the first list.
        assert data[0, 0].dtype.names == kind.names


def plain(path: Path, dtype=None, lists=None, qshape=(60, 80)) -> None:
    """A file as py4DSTEM writes it, three fields and no calibration beyond its defaults."""
    kind = np.dtype(dtype or [("qx", "f8"), ("qy", "f8"), ("intensity", "f8")])
    with h5py.File(path, "w") as f:
        f.attrs["emd_group_type"] = "file"
        group = f.create_group("dc_root/dc/braggvectors")
        f["dc_root"].attrs["emd_group_type"] = "root"
        group.attrs["python_class"] = "BraggVectors"
        data = group.create_dataset("_v_uncal/data", (2, 2), h5py.vlen_dtype(kind))
        if lists is None:
            lists = np.empty(4, object)
            for i in range(4):
                lists[i] = np.array([(10.0 + i, 20.0, 5.0)] * i, kind)
        if len(lists):
            data[...] = lists.reshape(2, 2)
        if qshape is not None:
            group["metadatabundle/_braggvectors_shape/Qshape"] = np.array(qshape)
        about = f.create_group("dc_root/metadatabundle/calibration")
        about["Q_pixel_size"], about["Q_pixel_units"] = 0.2, b"nm^-1"
        about["qx0_mean"], about["qy0_mean"] = 30.0, 40.0
        about["R_pixel_size"], about["R_pixel_units"] = 5.0, b"A"


def test_files_of_py4dstem_have_three_fields(tmp_path: Path) -> None:
    plain(tmp_path / "a.h5")
    vectors = BraggVectors.from_emd(tmp_path / "a.h5")
    assert vectors.counts.tolist() == [[0, 1], [2, 3]]
    assert np.isnan(vectors["sigma_row"]).all()
    assert (vectors["order"] == -1).all()
    assert vectors.calibration.pixel_size == pytest.approx(0.02)
    assert vectors.calibration.scan_step == (5.0, 5.0)
    assert vectors["q_y"][0] == pytest.approx((11 - 30) * 0.02)


HOSTILE = {
    "no field intensity": {"dtype": [("qx", "f8"), ("qy", "f8"), ("i", "f8")]},
    "no field qx": {"dtype": [("qx", "S4"), ("qy", "f8"), ("intensity", "f8")], "lists": ()},
    "never written": {"lists": ()},
    "size of its patterns": {"qshape": None},
    "the size of its": {"qshape": (0, 3)},
    "no finite position": {"lists": np.array([[(np.nan, 1.0, 1.0)]] * 4, "f8,f8,f8")},
}


@pytest.mark.parametrize("words", HOSTILE)
def test_files_that_cannot_be_meant(tmp_path: Path, words: str) -> None:
    known = dict(HOSTILE[words])
    if len(known.get("lists", ())):
        kind = np.dtype([("qx", "f8"), ("qy", "f8"), ("intensity", "f8")])
        lists = np.empty(4, object)
        for i in range(4):
            lists[i] = known["lists"][i].astype(kind)
        known["lists"] = lists
    plain(tmp_path / "a.h5", **known)
    with pytest.raises(DiskernError, match=words) as caught:
        BraggVectors.from_emd(tmp_path / "a.h5")
    assert "\n" not in str(caught.value)
    assert "a.h5" in str(caught.value)


def test_no_vectors_or_several(tmp_path: Path, file: Path) -> None:
    with h5py.File(tmp_path / "b.h5", "w") as f:
        f["x"] = 1
    with pytest.raises(DiskernError, match="holds no Bragg vectors"):
        BraggVectors.from_emd(tmp_path / "b.h5")
    with h5py.File(file, "r+") as f:
        f.copy("braggvectors_root", "other")
    with pytest.raises(DiskernError, match="holds 2 sets"):
        BraggVectors.from_emd(file)
    (tmp_path / "c.h5").write_text("no HDF5")
    for name in ("c.h5", "missing.h5", "."):
        with pytest.raises(DiskernError):
            BraggVectors.from_emd(tmp_path / name)


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DiskernError, match="cannot write"):
        made().to_emd(tmp_path / "no" / "a.h5")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_cut_files_are_refused(file: Path, share: float) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DiskernError, match=r"a\.h5"):
        BraggVectors.from_emd(file)


def test_flipped_bytes_give_vectors_or_one_line(file: Path) -> None:
    content = file.read_bytes()
    rng = np.random.default_rng(0)
    words = []
    for _ in range(100):
        damaged = bytearray(content)
        for place in rng.integers(0, len(content), 3):
            damaged[place] = rng.integers(0, 256)
        file.write_bytes(damaged)
        try:
            BraggVectors.from_emd(file).table()
        except DiskernError as error:
            words.append(str(error))
    assert words
    assert not [w for w in words if "\n" in w or len(w) > 600]


# --- py4DSTEM itself, in its own environment -----------------------------------------------------
PY4DSTEM = """
import json, sys, warnings
warnings.filterwarnings("ignore")
import matplotlib
matplotlib.use("Agg")
import numpy as np, py4DSTEM
from py4DSTEM.process.strain import StrainMap
vectors = py4DSTEM.read(sys.argv[1])
out = {"type": type(vectors).__name__}
out["shape"], out["detector"] = ([int(n) for n in s] for s in (vectors.Rshape, vectors.Qshape))
out["fields"] = list(vectors._v_uncal.dtype.names)
out["raw"] = np.stack([vectors.raw[2, 5].qx, vectors.raw[2, 5].qy, vectors.raw[2, 5].I]).tolist()
vectors.setcal(center=True, ellipse=True, pixel=True, rotate=True)
out["cal"] = np.stack([vectors.cal[2, 5].qx, vectors.cal[2, 5].qy]).tolist()
out["extra"] = vectors._v_uncal[2, 5].data["sigma_qx"].tolist()
vectors.setcal(center=True, ellipse=True, pixel=False, rotate=False)
out["histogram"] = float(np.sum(vectors.get_bvm(mode="cal").data))
out["histogram raw"] = np.asarray(vectors.get_bvm(mode="raw").data).tolist()
strain = StrainMap(braggvectors=vectors)
strain.choose_basis_vectors(
    minSpacing=8, minAbsoluteIntensity=1, maxNumPeaks=60, edgeBoundary=4, vis_params={}
)
strain.set_max_peak_spacing(max_peak_spacing=4)
strain.fit_basis_vectors()
strain.get_strain(gvects=None)
out["e_xx"] = np.asarray(strain.get_slice("e_xx").data).tolist()
vectors.calibration["Q_pixel_size"] = 0.5
py4DSTEM.save(sys.argv[2], vectors, mode="o")
print("RESULT" + json.dumps(out))
"""


def strained() -> BraggVectors:
    """A square lattice stretched along the rows from one end of the scan to the other."""
    ny, nx = 8, 7
    hk = np.array([(h, k) for h in range(-2, 3) for k in range(-2, 3)], dtype=float)
    rng = np.random.default_rng(0)
    origin = 64 + rng.uniform(-0.5, 0.5, (ny, nx, 2))
    places = []
    for y in range(ny):
        scale = np.array([20 * (1 + 0.01 * y / ny), 20])
        places += [origin[y, x] + hk * scale for x in range(nx)]
    position = np.concatenate(places)
    columns = {
        "row": position[:, 0], "col": position[:, 1],
        "intensity": np.tile(1e3 * np.exp(-(hk**2).sum(1) / 4), ny * nx),
        "sigma_row": rng.uniform(0.01, 0.1, len(position)),
    }  # fmt: skip
    known = VectorCalibration(
        0.02, 200e3, (10, 10), origin, np.array([[0.999, 0.0], [0.0, 1.0]]), 0.2, False
    )
    which = np.repeat(np.arange(ny * nx), len(hk))
    return BraggVectors.from_columns((ny, nx), (128, 128), which, columns, known)


@pytest.mark.slow
def test_py4dstem_reads_calibrates_and_maps_strain(tmp_path: Path) -> None:
    python = os.environ.get("DISKERN_PY4DSTEM_PYTHON")
    if not python:
        pytest.skip("set DISKERN_PY4DSTEM_PYTHON to a python with py4DSTEM 0.14")
    vectors = strained()
    vectors.to_emd(tmp_path / "ours.h5")
    done = subprocess.run(
        [python, "-c", PY4DSTEM, str(tmp_path / "ours.h5"), str(tmp_path / "theirs.h5")],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    assert lines, done.stderr[-2000:]
    found = json.loads(lines[0].removeprefix("RESULT"))
    assert found["type"] == "BraggVectors"
    assert (found["shape"], found["detector"]) == ([8, 7], [128, 128])
    disks = vectors.at(2, 5)
    np.testing.assert_array_equal(found["raw"], [disks["row"], disks["col"], disks["intensity"]])
    np.testing.assert_array_equal(np.float32(found["extra"]), disks["sigma_row"])
    # Their calibrated vectors are ours, turned into the axes of the scan.
    c, s = np.cos(0.2), np.sin(0.2)
    turned = [s * disks["q_x"] + c * disks["q_y"], c * disks["q_x"] - s * disks["q_y"]]
    np.testing.assert_allclose(found["cal"], turned, atol=1e-9)
    assert found["histogram"] == pytest.approx(vectors["intensity"].sum(), rel=1e-3)
    np.testing.assert_allclose(found["histogram raw"], vectors.histogram(), rtol=1e-6, atol=1e-9)
    # Strain relative to the median: real space shrinks where reciprocal space grows.
    e_xx = np.array(found["e_xx"])
    slope = np.polyfit(np.arange(8), np.nanmedian(e_xx, axis=1), 1)[0]
    assert abs(slope) == pytest.approx(0.01 / 8, rel=0.1)
    again = BraggVectors.from_emd(tmp_path / "theirs.h5")
    np.testing.assert_array_equal(again["row"], vectors["row"])
    np.testing.assert_array_equal(again["sigma_row"], vectors["sigma_row"])
    assert again.calibration.pixel_size == pytest.approx(0.5)
    np.testing.assert_allclose(again.calibration.origin, vectors.calibration.origin)
