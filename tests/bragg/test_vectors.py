from __future__ import annotations

import numpy as np
import pytest

from diskern.bragg.vectors import COLUMNS, BraggVectors
from diskern.bragg.vectors_calibration import VectorCalibration
from diskern.errors import DiskernError


def made(shape=(3, 4), disks=5, seed=0, **known) -> BraggVectors:
    """Random disks in random order; one pattern has none."""
    rng = np.random.default_rng(seed)
    which = rng.integers(0, shape[0] * shape[1], shape[0] * shape[1] * disks)
    which = which[which != 2]
    n = len(which)
    columns = {
        "row": rng.uniform(5, 55, n), "col": rng.uniform(5, 75, n),
        "intensity": rng.uniform(1, 100, n), "v_g": rng.uniform(0, 3, n),
        "order": rng.integers(0, 5, n),
    }  # fmt: skip
    return BraggVectors.from_columns(shape, (60, 80), which, columns, **known)


def test_columns_are_sorted_by_scan_position_and_keep_their_order_within_one() -> None:
    vectors = BraggVectors.from_columns(
        (2, 2), (32, 32), [3, 0, 3, 1],
        {"row": [1.0, 2, 3, 4], "col": [5.0, 6, 7, 8], "intensity": [1.0, 1, 1, 1]},
    )  # fmt: skip
    assert vectors.offsets.tolist() == [0, 1, 2, 2, 4]
    assert vectors["row"].tolist() == [2, 4, 1, 3]
    assert vectors["scan_y"].tolist() == [0, 0, 1, 1]
    assert vectors["scan_x"].tolist() == [0, 1, 1, 1]
    assert vectors.at(1, 1)["col"].tolist() == [5, 7]
    assert len(vectors.at(1, 0)) == 0


def test_what_nobody_said_is_nan_and_has_its_type() -> None:
    vectors = made()
    assert np.isnan(vectors["sigma_row"]).all()
    assert np.isnan(vectors["q_y"]).all()
    table = vectors.table()
    assert set(COLUMNS) < set(table.dtype.names)
    assert table.dtype.names[:6] == ("scan_y", "scan_x", "row", "col", "q_y", "q_x")
    assert all(vectors[name].dtype == kind for name, (kind, *_) in COLUMNS.items())


def test_reciprocal_coordinates_follow_origin_ellipse_and_pixel_size() -> None:
    origin = np.random.default_rng(1).uniform(28, 32, (3, 4, 2))
    ellipse = np.array([[1.0, 0.02], [0.02, 0.97]])
    known = VectorCalibration(pixel_size=0.02, origin=origin, ellipse=ellipse)
    table = made(calibration=known).table()
    disk = table[7]
    offset = [disk["row"], disk["col"]] - origin[disk["scan_y"], disk["scan_x"]]
    assert [disk["q_y"], disk["q_x"]] == pytest.approx(0.02 * ellipse @ offset)


@pytest.mark.parametrize("cut", [((0, 3), (0, 4)), ((1, 3), (0, 1)), ((0, 1), (2, 4))])
def test_region_is_the_same_disks_under_new_numbers(cut) -> None:
    origin = np.random.default_rng(1).uniform(28, 32, (3, 4, 2))
    vectors = made(calibration=VectorCalibration(0.02, origin=origin))
    (top, bottom), (left, right) = cut
    table = vectors.table()
    keep = (table["scan_y"] >= top) & (table["scan_y"] < bottom)
    keep &= (table["scan_x"] >= left) & (table["scan_x"] < right)
    expected = table[keep]
    expected["scan_y"] -= top
    expected["scan_x"] -= left
    piece = vectors.region(*cut)
    assert piece.scan_shape == (bottom - top, right - left)
    for name in table.dtype.names:
        np.testing.assert_array_equal(piece.table()[name], expected[name])


def test_rows_put_together_again_are_the_whole() -> None:
    origin = np.random.default_rng(1).uniform(28, 32, (3, 4, 2))
    vectors = made(calibration=VectorCalibration(0.02, origin=origin))
    parts = [vectors.region((y, y + 1), (0, 4)) for y in range(3)]
    again = BraggVectors.concatenate(parts)
    assert again.scan_shape == (3, 4)
    np.testing.assert_array_equal(again.offsets, vectors.offsets)
    np.testing.assert_array_equal(again["q_x"], vectors["q_x"])
    with pytest.raises(DiskernError, match="width 4"):
        BraggVectors.concatenate([vectors, vectors.region((0, 3), (0, 2))])


def test_selected_disks_keep_their_place() -> None:
    vectors = made()
    bright = vectors.select(vectors["intensity"] > 50)
    assert (bright["intensity"] > 50).all()
    assert len(bright) == (vectors["intensity"] > 50).sum()
    table = vectors.table()
    np.testing.assert_array_equal(bright["scan_x"], table["scan_x"][table["intensity"] > 50])


@pytest.mark.parametrize("sampling", [1, 2, 5])
@pytest.mark.parametrize("weight", ["intensity", "v_g", "count"])
def test_histogram_conserves_weight_and_place(sampling: int, weight: str) -> None:
    vectors = made()
    image = vectors.histogram(weight, sampling=sampling)
    amount = np.ones(len(vectors)) if weight == "count" else vectors[weight]
    assert image.shape == (60 * sampling, 80 * sampling)
    assert image.sum() == pytest.approx(amount.sum())
    rows = (np.arange(60 * sampling) - (sampling - 1) / 2) / sampling
    mean = (image.sum(1) * rows).sum() / image.sum()
    assert mean == pytest.approx(np.average(vectors["row"], weights=amount))


def test_centred_histogram_gathers_the_direct_beams() -> None:
    origin = np.random.default_rng(1).uniform(25, 35, (3, 4, 2))
    columns = {"row": origin[..., 0].ravel(), "col": origin[..., 1].ravel()}
    vectors = BraggVectors.from_columns(
        (3, 4), (60, 80), np.arange(12), {**columns, "intensity": np.ones(12)}
    )
    with pytest.raises(DiskernError, match="no origin"):
        vectors.histogram(centred=True)
    image = vectors.with_calibration(origin=origin).histogram(centred=True)
    assert image[30, 40] == pytest.approx(12)


def test_repr_is_a_small_table() -> None:
    words = repr(made())
    assert "3 × 4 patterns of 60 × 80 px" in words
    assert "counts" in words
    assert len(words.splitlines()) < 10
    empty = BraggVectors.from_columns(
        (2, 2), (32, 32), [], {n: [] for n in ("row", "col", "intensity")}
    )
    assert "0 disks" in repr(empty)
    assert empty.histogram().sum() == 0


@pytest.mark.parametrize(
    ("pattern", "columns", "words"),
    [
        ([0], {"row": [1], "col": [1]}, "lack a column 'intensity'"),
        ([0], {"row": [1], "col": [1], "intensity": [1], "qz": [0]}, "no column 'qz'"),
        ([4], {"row": [1], "col": [1], "intensity": [1]}, "pattern 4 is outside"),
        ([-1], {"row": [1], "col": [1], "intensity": [1]}, "pattern -1 is outside"),
        ([0], {"row": [1, 2], "col": [1], "intensity": [1]}, "column row has shape"),
    ],
)
def test_wrong_columns_are_named(pattern, columns, words) -> None:
    with pytest.raises(DiskernError, match=words):
        BraggVectors.from_columns((2, 2), (32, 32), pattern, columns)


def test_wrong_requests_are_named() -> None:
    vectors = made()
    with pytest.raises(DiskernError, match="no column 'qq'"):
        vectors["qq"]
    with pytest.raises(DiskernError, match="0:9,0:1"):
        vectors.region((0, 9), (0, 1))
    with pytest.raises(DiskernError, match="sampling=0"):
        vectors.histogram(sampling=0)
    with pytest.raises(DiskernError, match="weight='x'"):
        vectors.histogram("x")
    with pytest.raises(DiskernError, match="pixel_size=-1"):
        vectors.with_calibration(pixel_size=-1)
    with pytest.raises(DiskernError, match="do not fit a scan"):
        vectors.with_calibration(pixel_size=1, origin=np.zeros((2, 2, 2))).table()
