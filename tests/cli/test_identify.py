import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from diskern.cli._app import run


def test_files_and_knowledge_reach_identify(identify_says, answer, capsys):
    asked = identify_says(answer)
    code = run(
        ["identify", "a.tif", "b.tif", "--camera-constant", "200", "--voltage", "300",
         "--elements", "Al, Mg", "--candidates", "x.cif", "--candidates", "y",
         "--pixel-size-error", "2"]
    )  # fmt: skip
    assert code == 0
    ((files, known),) = asked.calls
    assert [str(f) for f in files] == ["a.tif", "b.tif"]
    assert known["pixel_size"] == pytest.approx(1 / 200)
    assert known["energy"] == 300e3
    assert known["elements"] == ["Al", "Mg"]
    assert [str(c) for c in known["candidates"]] == ["x.cif", "y"]
    assert known["options"].pixel_size_error == pytest.approx(0.02)


def test_stage_angles_are_in_the_order_of_the_files(identify_says, answer):
    asked = identify_says(answer)
    assert run(["identify", "a.tif", "b.tif", "--tilts=-20,1.5"]) == 0
    assert asked.calls[0][1]["options"].tilts == [-20.0, 1.5]


def test_frames_may_each_be_a_pattern_with_a_stage_angle(identify_says, answer):
    asked = identify_says(answer)
    assert run(["identify", "stack.tif", "--frames", "each", "--tilts=-20,0,20"]) == 0
    options = asked.calls[0][1]["options"]
    assert (options.frames, options.tilts) == ("each", [-20.0, 0.0, 20.0])
    assert run(["identify", "stack.tif", "--tilts=-20,0,20"]) != 0


def test_the_network_is_asked_unless_told_not_to(identify_says, answer):
    asked = identify_says(answer)
    assert run(["identify", "a.tif"]) == 0
    assert run(["identify", "a.tif", "--no-network"]) == 0
    assert [known["options"].network for _, known in asked.calls] == [True, False]


def test_the_scale_bar_label_is_per_nanometre(identify_says, answer):
    asked = identify_says(answer)
    assert run(["identify", "a.tif", "--scale-bar", "5"]) == 0
    assert asked.calls[0][1]["options"].scale_bar == pytest.approx(0.5)
    assert asked.calls[0][1]["pixel_size"] is None


def test_notes_of_a_pattern_are_told(identify_says, answer, capsys):
    (analysis,) = answer.analyses
    noted = replace(analysis.pattern, notes=("The mean of 3 frames.",))
    identify_says(replace(answer, analyses=(replace(analysis, pattern=noted),)))
    assert run(["identify", "a.tif"]) == 0
    assert "a.tif: The mean of 3 frames." in capsys.readouterr().out


def test_the_answer_is_told_in_words(identify_says, answer, capsys):
    identify_says(answer)
    assert run(["identify", "a.tif"]) == 0
    out = capsys.readouterr().out
    assert "Cubic (95 %); extinction symbol Fd--" in out
    for expected in (
        "8 spots and 1 lattice",
        "[001]",
        "Fd-3m",
        "h + k = 4n",
        "Si",
        "look the same",
    ):
        assert expected in out
    assert "\x1b[" not in out


def test_json_on_standard_output_is_only_json(identify_says, answer, capsys):
    identify_says(answer)
    assert run(["identify", "a.tif", "--json", "-"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["crystal"] is True
    assert data["system"][0]["name"] == "cubic"
    assert data["provenance"]["command"].startswith("diskern")


def test_json_and_report_files(identify_says, answer, tmp_path, capsys):
    identify_says(answer)
    target, page = tmp_path / "a.json", tmp_path / "a.html"
    assert run(["identify", "a.tif", "--json", str(target), "--report", str(page)]) == 0
    assert json.loads(target.read_text())["patterns"][0]["file"] == "a.tif"
    assert "<h1" in page.read_text()
    assert str(page) in capsys.readouterr().out


def test_a_refusal_is_an_answer(identify_says, refusal, capsys):
    identify_says(refusal)
    assert run(["identify", "a.tif"]) == 0
    assert "No crystal identified: only halos" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--pixel-size", "1", "--scale-bar", "5"], 2, "both set the scale"),
        (["--calibrate-from", "rings.tif"], 2, "belong together"),
        (["--pixel-size", "-0.1"], 1, "not a positive number"),
        (["--camera-constant", "nan"], 1, "not a positive number"),
        (["--pixel-size-error", "80"], 1, "0 to 50 %"),
        (["--voltage", "high"], 2, "--voltage"),
        (["--tilts", "1,2"], 1, "2 angles for 1 patterns"),
        (["--tilts", "flat"], 1, "not numbers"),
    ],
)
def test_contradictions_are_named(identify_says, answer, capsys, arguments, code, words):
    asked = identify_says(answer)
    assert run(["identify", "a.tif", *arguments]) == code
    assert words in capsys.readouterr().err
    assert not asked.calls


def test_a_calibrant_gives_scale_error_and_ellipse(identify_says, answer, rings_file):
    asked = identify_says(answer)
    arguments = ["--calibrate-from", str(rings_file), "--calibrant", "Au"]
    assert run(["identify", "a.tif", *arguments]) == 0
    ((_, known),) = asked.calls
    assert known["pixel_size"] == pytest.approx(0.005, rel=5e-3)
    assert known["options"].pixel_size_error >= 5e-3
    assert known["options"].ellipse.ratio == pytest.approx(1.02, abs=4e-3)


def test_a_calibration_without_rings_is_one_line(identify_says, answer, tmp_path, capsys):
    identify_says(answer)
    Image.fromarray(np.zeros((64, 64), dtype=np.uint8)).save(tmp_path / "dark.png")
    arguments = ["--calibrate-from", str(tmp_path / "dark.png"), "--calibrant", "Au"]
    assert run(["identify", "a.tif", *arguments]) == 1
    assert "no rings were found" in capsys.readouterr().err


def test_an_unknown_calibrant_is_one_line(identify_says, answer, rings_file, capsys):
    identify_says(answer)
    assert run(["identify", "a", "--calibrate-from", str(rings_file), "--calibrant", "Xx"]) == 1
    assert "Xx is neither a CIF file nor a common phase" in capsys.readouterr().err
