from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from test_vectors import made
from test_vectors_emd import calibration

from diskern.bragg.vectors import COLUMNS
from diskern.errors import DiskernError


def test_csv_is_the_table(tmp_path: Path) -> None:
    vectors = made(calibration=calibration())
    vectors.to_csv(tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    table = vectors.table()
    assert tuple(rows[0]) == table.dtype.names
    assert len(rows) == len(table)
    assert {row["sigma_row"] for row in rows} == {""}
    for name, within in (("scan_x", 0), ("row", 1e-5), ("q_y", 1e-5), ("order", 0)):
        read = np.array([float(row[name]) for row in rows])
        np.testing.assert_allclose(read, table[name], rtol=1e-5, atol=within)


def test_zarr_has_every_column(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    vectors = made(calibration=calibration(), provenance={"version": "1"})
    vectors.to_zarr(tmp_path / "a.zarr")
    vectors.to_zarr(tmp_path / "a.zarr")  # our own may be replaced
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="r")
    for name in COLUMNS:
        np.testing.assert_array_equal(group[name][:], vectors[name])
        assert group[name].attrs["meaning"]
    np.testing.assert_array_equal(group["offsets"][:], vectors.offsets)
    assert group.attrs["scan_shape"] == [3, 4]
    assert group.attrs["energy"] == 80e3
    assert group.attrs["provenance"] == {"version": "1"}


def test_what_stands_there_is_not_overwritten(tmp_path: Path) -> None:
    pytest.importorskip("zarr")
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "thesis.txt").write_text("years of work")
    with pytest.raises(DiskernError, match="holds something else"):
        made().to_zarr(tmp_path / "a.zarr")
    assert (tmp_path / "a.zarr" / "thesis.txt").exists()


def test_unwritable_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DiskernError, match="cannot write"):
        made().to_csv(tmp_path / "no" / "a.csv")
