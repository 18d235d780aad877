"""Maps in files: nothing lost, unknown stays unknown."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from mapping_scans import SQUARE, scan
from test_tilt import FIELD, KNOWN, tilted

from diskern.errors import DiskernError
from diskern.mapping.index import index_vectors
from diskern.mapping.maps_file import columns_of, read_maps, write_csv, write_maps
from diskern.mapping.strain import strain_map
from diskern.mapping.thickness import thickness_map
from diskern.mapping.tilt import tilt_map


@pytest.fixture(scope="module")
def maps():
    points = tilted(FIELD)
    lattices = index_vectors(points.select(points.pattern != 5))
    return {
        "lattices": lattices,
        "strain": strain_map(lattices, SQUARE),
        "tilt": tilt_map(lattices, calibration=KNOWN),
        "thickness": thickness_map(lattices),
    }


def test_hdf5_round_trip(maps, tmp_path):
    path = tmp_path / "maps.h5"
    write_maps(path, maps, {"command": "diskern map"})
    again = read_maps(path)
    assert list(again) == list(maps)
    for name, result in maps.items():
        columns = columns_of(result)
        assert list(again[name]) == list(columns)
        for column, data in columns.items():
            assert np.array_equal(again[name][column].values, data.values, equal_nan=True)
            assert again[name][column].unit == data.unit
    assert np.isnan(again["strain"]["e_xx"].values[0, 5])
    assert again["tilt"]["tilt_x"].unit == "mrad"
    import h5py

    with h5py.File(path) as file:
        assert "diskern map" in file.attrs["provenance"]
        assert "finite" in file["strain"].attrs["provenance"]


def test_csv_has_a_line_a_position_and_empty_unknowns(maps, tmp_path):
    path = tmp_path / "strain.csv"
    write_csv(path, maps["strain"])
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == maps["strain"].e_xx.size
    assert rows[5]["e_xx"] == ""
    assert float(rows[6]["e_xx"]) == pytest.approx(maps["strain"].e_xx[0, 6], rel=1e-6)
    assert rows[21]["scan_y"] == "1"
    assert "rotation (rad)" in rows[0]
    assert not any(name.endswith("_2") for name in rows[0])


def test_foreign_files_are_refused(tmp_path):
    path = tmp_path / "other.h5"
    path.write_bytes(b"nothing")
    with pytest.raises(DiskernError, match="cannot read"):
        read_maps(path)
    import h5py

    h5py.File(path, "w").close()
    with pytest.raises(DiskernError, match="no maps"):
        read_maps(path)


def test_unwritable_places_are_named(maps, tmp_path):
    with pytest.raises(DiskernError, match="cannot write"):
        write_maps(tmp_path / "nowhere" / "maps.h5", maps)
    with pytest.raises(DiskernError, match="cannot write"):
        write_csv(tmp_path / "nowhere" / "maps.csv", maps["strain"])
    with pytest.raises(DiskernError, match="no maps"):
        write_maps(tmp_path / "maps.h5", {})


def test_second_lattices_have_columns_of_their_own(tmp_path):
    from mapping_scans import combine, rotated

    everywhere = np.ones((5, 5), dtype=bool)
    both = combine(
        [(scan((5, 5), seed=1), everywhere), (scan((5, 5), rotated(SQUARE, 25)), everywhere)]
    )
    columns = columns_of(strain_map(index_vectors(both), (slice(0, 5), slice(0, 5))))
    assert np.isfinite(columns["e_xx_2"].values).all()
