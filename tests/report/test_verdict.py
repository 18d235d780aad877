from dataclasses import replace

from diskern.report import verdict
from diskern.symmetry.identification import Identification, Ranked


def test_a_clear_answer(identified):
    sentence = verdict.verdict(identified)
    assert sentence.startswith("Cubic (97 %); extinction symbol F--- (90 %).")
    assert "Al (Fm-3m) fits best" in sentence
    assert "cannot be excluded" in sentence


def test_a_weak_best_phase_is_no_answer(identified):
    weak = tuple(replace(p, score=0.3) for p in identified.phases)
    assert "No candidate phase stands out" in verdict.verdict(replace(identified, phases=weak))
    poor = tuple(replace(p, score=0.01) for p in identified.phases)
    assert "unlisted phase" in verdict.verdict(replace(identified, phases=poor))


def test_an_undecided_system_is_not_announced_as_an_answer(identified):
    split = (Ranked("cubic", 0.45, (225,)), Ranked("tetragonal", 0.4, (123,)))
    sentence = verdict.verdict(replace(identified, system=split, phases=()))
    assert sentence == "Crystal system undecided: cubic (45 %) or tetragonal (40 %)."


def test_a_refusal_gives_its_reason(refused):
    assert verdict.verdict(refused).startswith("No crystal identified: a diffuse halo")


def test_spots_without_symmetry_claim_nothing():
    assert "do not settle" in verdict.verdict(Identification(True, None, ()))


def test_doubts_come_first(identified):
    doubts = ("40 spots on no common lattice", *([None] * (len(identified.analyses) - 1)))
    sentence = verdict.verdict(replace(identified, doubts=doubts))
    assert sentence.startswith("Perhaps no single crystal")
    assert "40 spots on no common lattice" in sentence
    assert "Cubic (97 %)" in sentence
    nothing = replace(identified, doubts=(None,) * len(identified.analyses))
    assert verdict.verdict(nothing) == verdict.verdict(identified)


def test_long_ambiguity_sets_are_counted(identified):
    words = verdict.ambiguity(replace(identified, ambiguity_set=tuple(range(195, 231))))
    assert "These 36 space groups" in words
    assert "24 more" in words


def test_next_zone_is_named(identified):
    assert "[111]" in verdict.next_step(identified)
    assert verdict.next_step(replace(identified, next_zone=None)) == ""


def test_what_each_pattern_showed(identified, ringed, refused):
    assert verdict.kind_words(identified, 0).endswith("spots and 1 lattice")
    assert verdict.kind_words(ringed, 0) == "4 rings"
    assert verdict.kind_words(refused, 0).startswith("a diffuse halo")
