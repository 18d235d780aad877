import io

from rich.console import Console

from diskern.report.terminal import show


def told(identification, width=120):
    out = io.StringIO()
    show(identification, Console(file=out, width=width, highlight=False))
    return out.getvalue()


def test_everything_is_told(identified):
    text = told(identified)
    for expected in (
        "Cubic (97 %)", "al_011.tif", "47 spots and 1 lattice", "[0 1 -1] 91 %", "0.0124 1/Å",
        "|a| = 0.3753", "F---", "Fm-3m (225)", "explained", "+1.2 %", "face-centred",
    ):  # fmt: skip
        assert expected in text


def test_outside_text_is_neither_markup_nor_control_codes(identified):
    text = told(identified)
    assert "<b>Au</b>" in text
    assert "\x1b" not in text


def test_uncalibrated_lengths_are_in_pixels(uncalibrated):
    text = told(uncalibrated)
    assert " px, angle" in text
    assert "d =" not in text


def test_a_refusal_is_short(refused):
    assert len(told(refused).splitlines()) < 8


def test_narrow_terminals_still_work(identified):
    assert all(len(line) <= 60 for line in told(identified, 60).splitlines())
