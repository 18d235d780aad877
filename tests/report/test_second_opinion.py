"""The network's section of the report and of the terminal."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from diskern.report.html import render_report
from diskern.report.ranked import ranked_card
from diskern.report.second_opinion import second_opinion
from diskern.report.terminal import show
from diskern.report.verdict import truth_sets
from diskern.symmetry.identification import (
    Identification,
    Ranked,
    SecondOpinion,
    SymmetryLevels,
    Voice,
)

FACE = (196, 202, 209, 216, 225)


@pytest.fixture(scope="module")
def asked(identified: Identification) -> Identification:
    said = SecondOpinion(
        "spot_set 0123456789ab", (0.98, 0.11),
        (Ranked("cubic", 0.83, tuple(range(195, 231))),), (Ranked("m-3m", 0.7, FACE),),
        (Ranked("F---", 0.66, FACE), Ranked("I---", 0.1, (229,))), (Ranked("Fm-3m", 0.4, (225,)),),
        {"system": ("cubic", "tetragonal"), "extinction_group": ("F---", "I---", "Fd--")},
        "m-3m F---",
        ((Voice((156.0, 162.0), 0.42, True), Voice((96.0, 154.0), -0.07, False)), ()),
        SymmetryLevels((Ranked("cubic", 0.915, FACE),), (), (Ranked("F---", 0.885, FACE),), ()),
    )  # fmt: skip
    sets = {"system": ("cubic", "tetragonal"), "extinction_group": ("F---",)}
    return replace(identified, network=said, sets=sets)


def test_both_tables_stand_side_by_side(asked: Identification) -> None:
    text = render_report(asked)
    assert text.index("Symmetry</h2>") < text.index("The two opinions apart</h2>")
    assert text.index("The two opinions apart") < text.index("Candidate phases</h2>")
    section = second_opinion(asked)
    for words in ("83 %", "66 %", "spot_set 0123456789ab"):
        assert words in section


def test_the_rules_stand_behind_the_network(asked: Identification) -> None:
    section = second_opinion(asked)
    assert section.index("The network</h3>") < section.index("The rules</h3>")
    assert "88 %" in section or "89 %" in section


def test_sets_that_hold_the_truth_stand_with_the_answer_of_both(asked: Identification) -> None:
    text = render_report(asked)
    first = text.index("the crystal system is one of: cubic or tetragonal")
    assert text.index("Symmetry</h2>") < first < text.index("The two opinions apart</h2>")
    assert "the extinction symbol is F---." in text
    many = {"system": tuple(f"s{i}" for i in range(11))}
    assert truth_sets(replace(asked, sets=many)) == [
        "In nine of ten such cases the crystal system is one of: "
        "s0, s1, s2, s3, s4, s5, s6, s7 or 3 more."
    ]
    assert truth_sets(replace(asked, sets={})) == []
    out = io.StringIO()
    show(asked, Console(file=out, width=120, highlight=False))
    assert "one of: cubic or tetragonal" in out.getvalue()
    assert asked.to_dict()["sets_90"]["extinction_group"] == ["F---"]


def test_what_spoke_is_told_with_its_place_and_spacing(asked: Identification) -> None:
    section = second_opinion(asked)
    assert "+0.42" in section
    assert "-0.07" in section
    assert "dark node" in section
    # 30.3 px from the beam at 0.0124 1/Å a pixel.
    assert "2.665 Å" in section


def test_a_doubted_pattern_is_named_and_escaped(asked: Identification) -> None:
    section = second_opinion(asked)
    assert "doubts that" in section
    assert "<script>" not in section
    assert "(11 %)" in section


def test_without_a_network_nothing_is_said(identified: Identification) -> None:
    assert second_opinion(identified) == ""
    assert "The two opinions" not in render_report(identified)
    assert identified.to_dict()["network"] is None


def test_the_terminal_tells_it_in_short(asked: Identification) -> None:
    out = io.StringIO()
    show(asked, Console(file=out, width=120, highlight=False))
    text = out.getvalue()
    assert "The two opinions apart" in text
    assert "cubic 83 %" in text
    assert "1 doubted" in text
    assert "rules, extinction symbol" in text


def test_json_holds_both(asked: Identification) -> None:
    said = asked.to_dict()["network"]
    assert said["system"] == [{"name": "cubic", "probability": 0.83}]
    assert said["space_group"][0]["number"] == 225
    assert said["patterns"][0]["voices"][0]["nats"] == 0.42
    assert said["patterns"][1] == {"crystal": 0.11, "voices": []}
    assert said["rules"]["extinction_symbol"][0]["probability"] == 0.885
    assert said["sets_90"]["system"] == ["cubic", "tetragonal"]


def test_symbols_of_two_systems_that_read_alike_are_told_apart() -> None:
    alike = Ranked("F - - -", 0.6, FACE), Ranked("F - - -", 0.3, (22, 42, 69))
    card = ranked_card("Extinction symbol", (*alike, Ranked("I - - -", 0.1, (229,))))
    assert "cubic" in card
    assert "orthorhombic" in card
    assert card.count("soft") == 2
