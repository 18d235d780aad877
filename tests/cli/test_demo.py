import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from diskern.cli import _demo_images as images
from diskern.cli._app import run
from diskern.cli.demo import fits
from diskern.report.gallery import Exhibit


@pytest.fixture(scope="module")
def cases():
    return {case.name: case for case in images.cases()}


def test_exposures_are_the_same_every_time(cases):
    again = images._glass()
    np.testing.assert_array_equal(again.images["halos.tif"], cases["glass"].images["halos.tif"])


def test_spots_stand_where_the_lattice_puts_them(cases):
    """The strongest spot of [011] silicon, 111, lies 1/3.136 Å from the direct beam."""
    image = cases["silicon"].images["zone_a.tif"].astype(float)
    row, col = np.indices(image.shape)
    beam = (image > 0.5 * image.max()) & (np.hypot(row - 256, col - 256) < 40)
    radius = np.hypot(row - row[beam].mean(), col - col[beam].mean())
    ring = (radius > 40) & (radius < 75)
    peak = np.unravel_index(np.argmax(np.where(ring, image, 0)), image.shape)
    assert radius[peak] * images.PIXEL_SIZE == pytest.approx(1 / 3.1357, rel=0.03)


def test_rings_of_gold_are_face_centred(cases):
    image = cases["gold"].images["rings.png"].astype(float)
    row, col = np.indices(image.shape)
    beam = (image > 250) & (np.hypot(row - 256, col - 256) < 40)
    centre = row[beam].mean(), col[beam].mean()
    bins = np.hypot(row - centre[0], col - centre[1]).astype(int).ravel()
    profile = np.bincount(bins, image.ravel()) / np.bincount(bins)
    peaks = [r for r in range(30, 130) if profile[r] == profile[r - 6 : r + 7].max()]
    spacing = np.array(peaks[:3]) * images.PIXEL_SIZE
    assert spacing == pytest.approx(np.sqrt([3, 4, 8]) / 4.078, rel=0.03)


def test_the_exposures_have_what_makes_them_hard(cases):
    tilted = cases["silicon"].images["zone_b_tilted.tif"].astype(float) - 20  # the pedestal
    across = np.median(tilted[:, 205:225], axis=1)  # a cut just left of the direct beam
    assert across[230:270].min() < 0.1 * across[230:270].max()  # the shadow of the beam stop
    assert cases["gold"].images["rings.png"].dtype == np.uint8
    assert cases["rutile"].known == {"elements": ["Ti", "O"]}


def test_what_counts_as_agreeing(cases, answer, refusal):
    assert fits(cases["silicon"], answer)
    assert not fits(cases["silicon"], refusal)
    assert not fits(cases["gold"], answer)
    assert fits(cases["glass"], refusal)
    assert not fits(cases["glass"], answer)
    wrong = replace(
        answer, extinction_symbol=(replace(answer.extinction_symbol[0], space_groups=(216,)),)
    )
    assert not fits(cases["silicon"], wrong)


@pytest.fixture
def mapped(monkeypatch):
    """A scan that was mapped at once."""
    exhibit = Exhibit("A scan", "w", "c", "2 lattices", b"png", "maps/report.html", "2", True)
    monkeypatch.setattr(
        "diskern.cli._demo_scan.map_demo", lambda folder, tell: (exhibit, {"lattices": 2})
    )


def test_everything_lands_in_the_folder(identify_says, answer, refusal, mapped, tmp_path, capsys):
    asked = identify_says(answer, answer, answer, refusal)
    assert run(["demo", str(tmp_path / "d"), "--json", str(tmp_path / "all.json")]) == 0
    page = (tmp_path / "d" / "report.html").read_text()
    out = capsys.readouterr().out
    assert "3 of 5 answers agree" in page
    assert "3 of 5 answers agree" in out
    assert str(tmp_path / "d" / "report.html") in out
    for name, case in {c.name: c for c in images.cases()}.items():
        assert (tmp_path / "d" / name / "report.html").exists()
        assert json.loads((tmp_path / "d" / name / "answer.json").read_text())["patterns"]
        for file, image in case.images.items():
            np.testing.assert_array_equal(
                np.asarray(Image.open(tmp_path / "d" / name / file)), image
            )
    assert 'href="scan/maps/report.html"' in page
    assert len(asked.calls) == 4
    assert [e["agrees"] for e in json.loads((tmp_path / "all.json").read_text())] == [
        True, False, False, True, True,
    ]  # fmt: skip


def test_a_folder_that_cannot_be_written_is_one_line(identify_says, answer, tmp_path, capsys):
    identify_says(answer)
    (tmp_path / "file").write_text("")
    assert run(["demo", str(tmp_path / "file")]) == 1
    assert capsys.readouterr().err.startswith("diskern: cannot write")
