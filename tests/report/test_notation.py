import numpy as np
import pytest

from diskern.report import notation


def test_negative_indices_are_never_glued_together():
    assert notation.direction_text((0, 1, 1)) == "[011]"
    assert notation.direction_text((0, 1, -1)) == "[0 1 -1]"
    assert notation.plane_text(np.array([10, 0, 0])) == "10 0 0"


def test_overbars_in_html_and_mathtext():
    assert notation.direction_html((0, 1, -1)) == '[01<span class="bar">1</span>]'
    assert notation.plane_mathtext((-1, 1, 12)) == r"$\bar{1}\,1\,12$"


@pytest.mark.parametrize(
    ("number", "symbol"),
    [(2, "P-1"), (14, "P21/c"), (62, "Pnma"), (148, "R-3"), (194, "P63/mmc"), (225, "Fm-3m")],
)
def test_symbols_of_the_tables(number, symbol):
    assert notation.space_group_text(number) == symbol


def test_a_number_that_is_no_space_group_is_shown_as_it_is():
    assert notation.space_group_text(0) == "no. 0"


def test_screw_axes_are_told_from_adjacent_twofold_axes():
    assert "3<sub>2</sub>" in notation.space_group_html(145)  # P3_2
    assert "<sub>" not in notation.space_group_html(150)  # P321
    assert "6<sub>3</sub>" in notation.space_group_html(194)


def test_extinction_symbols_keep_their_dashes():
    assert notation.symbol_html("F---") == "<i>F</i>&#8211;&#8211;&#8211;"
    assert notation.symbol_html("P42--") == "<i>P</i>4<sub>2</sub>&#8211;&#8211;"


def test_hostile_symbols_are_escaped():
    assert "<script" not in notation.symbol_html("<script>1</script>")


@pytest.mark.parametrize(
    ("value", "sigma", "text"),
    [
        (0.49381, 0.0012, "0.4938(12) 1/Å"),
        (123.4, 12.0, "123(12) 1/Å"),
        (5.0, float("nan"), "5 1/Å"),
        (float("nan"), 1.0, "unknown"),
    ],
)
def test_values_carry_two_digits_of_uncertainty(value, sigma, text):
    assert notation.with_uncertainty(value, sigma, "1/Å") == text


def test_probabilities_never_claim_certainty():
    assert notation.percent(1.0) == "> 99 %"
    assert notation.percent(0.004) == "< 1 %"
    assert notation.percent(0.0) == "0 %"
    assert notation.percent(float("nan")) == "unknown"
