"""Prototype labels and the square-root selection."""

import math

import numpy as np
import pytest

from diskern import Crystal, DiskernError
from diskern.crystal.prototype import prototype
from diskern.crystal.selection import square_root_selection

ROCK_SALT = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0],
             [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5], [0.5, 0.5, 0.5]]  # fmt: skip


def salt(a, cation, anion):
    return Crystal.from_arrays([a] * 3 + [90] * 3, ROCK_SALT, [cation] * 4 + [anion] * 4)


def test_the_label_forgets_elements_and_cell():
    labels = {prototype(c).label for c in (salt(5.64, 11, 17), salt(4.21, 12, 8), salt(4.2, 8, 12))}
    assert labels == {"225_1a_1b"}
    assert prototype(salt(5.64, 11, 17).primitive()).label == "225_1a_1b"
    assert prototype(salt(5.64, 11, 17)).pearson == "cF8"


def test_labels_equal_those_of_the_structure_collection(shared_data):
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    import sys

    sys.path.insert(0, str(shared_data / "data" / "structures"))
    try:
        from read_structures import expand
    finally:
        sys.path.pop(0)
    table = pd.read_parquet(shared_data / "data" / "structures" / "structures.parquet")
    rows = table[table.sg == table.sg_loose].sample(150, random_state=4)
    agree = 0
    for row in rows.itertuples():
        found = prototype(Crystal.from_arrays(*expand(row)))
        agree += found.label == row.proto
        assert found.number == row.sg
        assert found.pearson[0] == row.pearson[0]
    # Letters may differ by an origin that is equivalent under the normaliser.
    assert agree >= 0.9 * len(rows)


def test_partial_sites_have_no_label():
    alloy = Crystal.from_arrays([3.6] * 3 + [90] * 3, [[0, 0, 0]], [29], [0.5])
    with pytest.raises(DiskernError, match="partially"):
        prototype(alloy)


GROUPS = ["a"] * 400 + ["b"] * 25 + ["c"] * 4 + ["d"]


def test_square_root_law():
    selection = square_root_selection(GROUPS, seed=1)
    assert selection.taken == {"a": 20, "b": 5, "c": 2, "d": 1}
    assert len(set(selection.chosen)) == 28
    assert all(GROUPS[i] == "d" for i in selection.chosen[-1:])
    assert "28 of 430" in repr(selection)


def test_total_and_cap():
    selection = square_root_selection(GROUPS, seed=1, total=60)
    assert 55 <= len(selection.chosen) <= 60
    ratio = selection.taken["a"] / selection.taken["b"]
    assert ratio == pytest.approx(math.sqrt(400 / 25), rel=0.1)
    assert square_root_selection(GROUPS, seed=1, cap=3).taken == {"a": 3, "b": 3, "c": 2, "d": 1}


def test_the_seed_decides():
    one, two, other = (square_root_selection(GROUPS, seed=s).chosen for s in (7, 7, 8))
    assert one == two
    assert one != other
    counts = np.bincount(
        [i for s in range(300) for i in square_root_selection(GROUPS, seed=s).chosen], minlength=430
    )
    # Every member of a group has the same chance: 15 of 300 for group a, within 5 sigma.
    assert abs(counts[:400] - 15).max() < 5 * math.sqrt(15)


@pytest.mark.parametrize(
    ("groups", "known"), [([], {}), (["a"], {"cap": 0}), (["a"], {"total": 0})]
)
def test_nothing_to_select(groups, known):
    with pytest.raises(DiskernError):
        square_root_selection(groups, seed=0, **known)
