"""`diskern simulate`: files, JSON, and one clear line for what cannot be."""

import json

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from diskern.cli.simulate import app
from diskern.errors import DiskernError


def run(*arguments):
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=True)
    if isinstance(done.exception, DiskernError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def test_saed_writes_image_figure_and_table(tmp_path):
    image, figure = tmp_path / "si.tif", tmp_path / "si.png"
    said = run(
        "saed", "Si", "--zone", "0,1,1", "--thickness", "5", "--displacement", "0.08",
        "--size", "128", "-o", str(image), "--figure", str(figure),
    )  # fmt: skip
    assert tifffile.imread(image).shape == (128, 128)
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert "SpotPattern" in said
    assert str(image) in said.replace("\n", "")


def test_saed_json_lists_reflections():
    answer = json.loads(run("saed", "Si", "--zone", "0,0,1", "--json", "-"))
    assert answer["crystal"] == "Si"
    first = answer["reflections"][0]
    assert sorted(abs(i) for i in first["hkl"]) == [0, 2, 2]
    assert first["intensity"] == pytest.approx(1)


def test_bloch_json_holds_the_direct_beam():
    answer = json.loads(run("saed", "Si", "--method", "bloch", "--thickness", "20", "--json", "-"))
    total = answer["direct_beam"] + sum(r["intensity"] for r in answer["reflections"])
    assert total == pytest.approx(1, abs=1e-3)


def test_absorption_is_a_fraction_or_thermal():
    known = ("saed", "Si", "--method", "bloch", "--thickness", "60", "--displacement", "0.08")
    left = []
    for extra in ((), ("--absorption", "thermal"), ("--absorption", "0.1")):
        answer = json.loads(run(*known, *extra, "--json", "-"))
        left.append(answer["direct_beam"] + sum(r["intensity"] for r in answer["reflections"]))
    assert left[0] > left[1] + 0.03 > left[2]
    with pytest.raises(DiskernError, match="thermal"):
        run(*known, "--absorption", "some")


def test_a_camera_length_stands_for_the_pixel_size(tmp_path):
    image = tmp_path / "al.tif"
    known = ("saed", "Al", "--size", "256", "-o", str(image), "--json", "-")
    answer = json.loads(run(*known, "--camera-length", "0.5", "--detector-pixel", "56"))
    # 200 kV: lambda is 0.02508 Å.
    assert answer["pixel_size"] == pytest.approx(56e-6 / (0.5 * 0.025079), rel=1e-4)
    seen = tifffile.imread(image).astype(float)
    spot = 2 / 4.05 / answer["pixel_size"]  # 200
    row = seen[128 - 3 : 128 + 4, 128 + round(spot) - 3 : 128 + round(spot) + 4]
    assert row.sum() > 0.05 * seen.max()
    assert row.argmax() // 7 == 3
    with pytest.raises(DiskernError, match="--detector-pixel"):
        run(*known, "--camera-length", "0.5")
    with pytest.raises(DiskernError, match="--pixel-size alone"):
        run(*known, "--camera-length", "1", "--detector-pixel", "9", "--pixel-size", "0.01")
    with pytest.raises(DiskernError, match="no reflection falls on the image"):
        run(*known, "--camera-length", "2", "--detector-pixel", "9")


def test_tilt_moves_the_pattern_off_the_zone_axis():
    plain, turned = (
        json.loads(run("saed", "Si", "--json", "-", *extra))["reflections"]
        for extra in ((), ("--tilt", "15,90"))
    )
    lopsided = [abs(sum(r["intensity"] * r["q"][0] for r in rs)) for rs in (plain, turned)]
    assert lopsided[0] < 1e-9 < 0.1 < lopsided[1]


def test_cbed_writes_a_thickness_series(tmp_path):
    path = tmp_path / "si.tif"
    run(
        "cbed", "Si", "--thickness", "5,10", "--semiangle", "1.5", "--g-max", "1",
        "--size", "128", "-o", str(path),
    )  # fmt: skip
    series = tifffile.imread(path)
    assert series.shape == (2, 128, 128)
    assert 0.9 < series[0].sum() < 1.01
    assert not np.array_equal(series[0], series[1])


def test_cbed_absorbs_by_bloch_waves():
    known = ("cbed", "Si", "--thickness", "60", "--semiangle", "1.5", "--displacement", "0.08")
    known += ("--size", "128", "--json", "-")
    left = [
        json.loads(run(*known, *extra))["in_frame"][0]
        for extra in ((), ("--absorption", "thermal"))
    ]
    assert left[1] < left[0] - 0.02
    with pytest.raises(DiskernError, match="Bloch"):
        run(*known, "--absorption", "0.1", "--method", "multislice")


def test_thick_kinematic_patterns_are_questioned():
    assert "--method bloch" in run("saed", "Si", "--zone", "0,1,1", "--thickness", "30")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("saed", "Unobtainium"), "neither a CIF file"),
        (("saed", "Fe"), "may be"),
        (("saed", "Si", "--zone", "0,0,0"), "no direction"),
        (("saed", "Si", "--zone", "1,2"), "three numbers"),
        (("saed", "Si", "--zone", "a,b,c"), "no numbers"),
        (("saed", "Si", "--voltage", "0.2"), "energy"),
        (("saed", "Si", "--size", "3"), "--size"),
        (("saed", "Si", "--tilt", "1,2,3"), "--tilt"),
        (("saed", "Si", "--method", "bloch"), "thickness"),
        (("saed", "Si", "--displacement", "7"), "--displacement"),
        (("saed", "Si", "-o", "x.bmp"), "ending"),
        (("saed", "Si", "--figure", "x.tif"), "figure"),
        (("cbed", "Si", "--thickness", "-4"), "thickness"),
        (("cbed", "Si", "--semiangle", "0"), "semiangle"),
        (("cbed", "Si", "--thickness", "5,10", "-o", "x.png"), "PNG"),
    ],
)
def test_impossible_requests_are_one_clear_line(arguments, word, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DiskernError, match=word) as caught:
        run(*arguments)
    assert "\n" not in str(caught.value)
