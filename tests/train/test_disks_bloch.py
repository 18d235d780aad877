"""Tables of Bloch waves: kept, read, turned; in step with the labels they carry."""

from pathlib import Path

import numpy as np
import pytest
from small_disks import data

from diskern.errors import DiskernError
from diskern.train.disks import DiskSet, bloch_table, kept_table
from diskern.train.disks_bloch import read_table, turned
from diskern.train.disks_rocking import RockedDisks, axis


def bragg_correlation(rocked: RockedDisks) -> float:
    """Median correlation of ln intensity with the distance from the Bragg condition."""
    k = axis(rocked.curves.shape[1])
    s = rocked.Q[:, None, None] - (
        rocked.G[:, :1, None] * k[:, None] + rocked.G[:, 1:, None] * k[None, :]
    )
    inside = np.hypot(k[:, None], k[None, :]) < 1
    length = np.hypot(*rocked.G.T)
    crossed = np.flatnonzero((np.abs(rocked.Q) < 0.7 * length) & (0.6 * length > rocked.W))
    found = [
        np.corrcoef(np.log(rocked.curves[i][inside] + 1e-9), np.abs(s[i][inside]))[0, 1]
        for i in crossed
    ]
    return float(np.median(found))


def test_disks_are_bright_where_their_label_puts_the_bragg_condition(tmp_path: Path) -> None:
    recipe = data(bloch=1.0, bloch_tables=str(tmp_path))
    table = bloch_table(recipe, "train", 1)
    rng = np.random.default_rng(1)
    assert bragg_correlation(table.rocked) < -0.4
    patterns = np.arange(len(table.thickness))
    assert bragg_correlation(turned(table.rocked, patterns, rng)) == pytest.approx(
        bragg_correlation(table.rocked), abs=1e-6
    )
    total = table.rocked.direct.copy()
    np.add.at(total, table.rocked.frame, table.rocked.curves)
    assert total.max() < 1.001


def test_tables_are_kept_and_the_same_when_read(tmp_path: Path) -> None:
    recipe = data(bloch=1.0, bloch_count=1, bloch_tables=str(tmp_path))
    made = kept_table(recipe, "train", 0)
    files = list(tmp_path.rglob("*.npz"))
    assert len(files) == 1
    assert made.material == bloch_table(recipe, "train", 0).material
    first = DiskSet(recipe, "train").block(5)
    read_table.cache_clear()
    again = DiskSet(recipe, "train").block(5)
    assert np.array_equal(first["image"], again["image"])
    assert (first["disks"][..., 4] > 0.5).any()
    files[0].write_bytes(files[0].read_bytes()[:200])
    read_table.cache_clear()
    with pytest.raises(DiskernError, match="no table"):
        kept_table(recipe, "train", 0)
