"""One frame of a rotation series of glycine against the solution of PETS."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from diskern.bragg.analyse import analyse
from diskern.crystal.crystal import Crystal
from diskern.patterns.read import read
from diskern.symmetry.indexing import index_pattern, misorientation
from diskern.symmetry.indexing_view import SpotView, spot_view
from diskern.symmetry.kinematic_table import kinematic_table

PIXEL = 0.005340
CENTRE = np.array([234.799, 233.040])
"""PETS' beam centre of frame 1, x and y in px."""
ENERGY = 200e3


@cache
def glycine(folder: Path) -> Crystal:
    """α-glycine in the refined cell that belongs to the UB matrix."""
    found = Crystal.from_cif(folder / "ccp4__electron-diffraction" / "alpha_glycine.cif")
    return Crystal.from_arrays(
        [4.9251, 11.4330, 5.3776, 90.0, 111.967, 90.0],
        found.fractional,
        found.numbers,
        found.occupancy,
        found.u_iso,
        name="alpha-glycine",
    )


def pets_peaks(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """(19, 12) rows of frame 1, and the (3, 3) UB matrix on columns of hkl."""
    here = folder / "ccp4__electron-diffraction"
    rows = np.loadtxt(here / "glycine.rpl")
    lines = (here / "glycine.celllist").read_text().splitlines()[2:5]
    return rows[rows[:, -1] == 1], np.array([[float(v) for v in line.split()] for line in lines])


def pets_orientation(folder: Path, rows: np.ndarray, ub: np.ndarray) -> np.ndarray:
    """PETS' orientation of this frame as a rotation crystal → lab of ours.

    PETS' reciprocal xyz (rotation axis along x) lie in a frame turned about the beam and tilted
    with the goniometer; the measured (px, py) of the same peaks fix that frame: the rotation that
    brings xyz onto the Ewald sphere above the pixels.  Images of PETS are seen as ours (no
    mirror) where this rotation is proper and leaves no residual, which is asserted.
    """
    q = (rows[:, 7:9] - CENTRE) * PIXEL
    z = -0.02508 * (q**2).sum(1) / 2
    lab = np.column_stack([q, z])
    u, _, v = np.linalg.svd(rows[:, :3].T @ lab)
    frame = v.T @ np.diag([1, 1, np.sign(np.linalg.det(v.T @ u.T))]) @ u.T
    assert np.abs(rows[:, :3] @ frame.T - lab).max() < 0.02
    hkl_to_lab = frame @ ub
    # Crystal frame of ours: g = hkl @ reciprocal.
    u, _, v = np.linalg.svd(hkl_to_lab @ np.linalg.inv(glycine(folder).reciprocal.T))
    return np.asarray(u @ v)


def test_the_peaks_of_pets_get_the_indices_of_pets(experimental: Path) -> None:
    rows, ub = pets_peaks(experimental)
    table = kinematic_table(glycine(experimental))
    p = rows[:, 7:9] - CENTRE
    view = SpotView.from_spots(p, rows[:, 3], 0.5, scale=PIXEL, scale_error=0.02, energy=ENERGY)
    found = index_pattern(table, view)
    assert found[0].explained == 1.0
    assert found[0].evidence > found[1].evidence + 10
    # h, k and l of PETS to a tenth or two, the finite width of the rotation slice.
    theirs = np.rint(rows[:, :3] @ np.linalg.inv(ub).T).astype(int)
    ours = found[0].hkl
    two_fold = ours * [-1, 1, -1]
    agree = max((ours == theirs).all(1).mean(), (two_fold == theirs).all(1).mean())
    assert agree > 0.75


def test_the_frame_alone_gives_the_orientation_of_pets(experimental: Path) -> None:
    rows, ub = pets_peaks(experimental)
    table = kinematic_table(glycine(experimental))
    pattern = read(experimental / "ccp4__electron-diffraction" / "00001.tiff")
    analysis = analyse(
        pattern.with_calibration(pixel_size=PIXEL, energy=ENERGY, pixel_size_error=0.02)
    )
    found = index_pattern(table, spot_view(analysis))
    theirs = pets_orientation(experimental, rows, ub)
    assert found[0].evidence > found[1].evidence + 10
    assert np.degrees(misorientation(table, found[0].matrix[None], theirs)[0]) < 1.5
    assert found[0].scale == pytest.approx(PIXEL, rel=0.02)
