import numpy as np
import pytest
from zone_patterns import crystal, evidence

from diskern.crystal.extinction_groups import diffraction_symbols, symbol_of
from diskern.crystal.spacegroups import space_group
from diskern.errors import DiskernError
from diskern.symmetry.posterior import Prior, of_symbols
from diskern.symmetry.posterior_reasons import plane_symmetry
from diskern.symmetry.reasoner import Settings, reason


@pytest.fixture(scope="module")
def diamond():
    material = crystal(227, (5.43,) * 3 + (90,) * 3)
    return reason([evidence(material, (0, 1, 1))])


@pytest.mark.parametrize("level", ["system", "laue_class", "extinction_symbol", "space_group"])
def test_every_level_sums_to_one_and_is_in_order(diamond, level):
    ranked = getattr(diamond, level)()
    values = [r.probability for r in ranked]
    assert sum(values) == pytest.approx(1, abs=1e-3)
    assert values == sorted(values, reverse=True)


def test_levels_agree(diamond):
    for branch in diamond.extinction_symbol():
        members = np.array(branch.space_groups) - 1
        assert branch.probability == pytest.approx(diamond.groups[members].sum())
    assert diamond.symbols.sum() == pytest.approx(1)


def test_ambiguity_of_diamond_along_011(diamond):
    # F d - - in both Laue classes and F 41 - - thin the same net and darken the same row.
    assert diamond.ambiguity_set == (203, 210, 227)


def test_ambiguity_of_face_centred_cubic_with_known_zone():
    material = crystal(225, (4.05,) * 3 + (90,) * 3)
    found = reason(
        [evidence(material, u, i) for i, u in enumerate([(0, 0, 1), (1, 1, 2)])],
        settings=Settings(systems=("cubic",)),
    )
    # Fm-3m cannot be told from F432 and F-43m; m-3 shows another symmetry along [001].
    assert {209, 216, 225} <= set(found.ambiguity_set)
    assert not {221, 227, 229, 202} & set(found.ambiguity_set)


def test_intensities_tell_m3_from_m3m_on_the_zone_axis():
    pyrite = crystal(200, (5.4,) * 3 + (90,) * 3, seed=4)
    found = reason([evidence(pyrite, (0, 0, 1))], settings=Settings(systems=("cubic",)))
    assert found.laue_class()[0].name == "m-3"
    assert found.laue_class()[0].probability > 0.95
    assert 221 not in found.ambiguity_set


def test_the_next_zone_separates_what_is_left(diamond):
    assert diamond.next_zone is not None
    text = diamond.reasons[-1]
    assert str(list(diamond.next_zone)) in text
    assert "F 41 - -" in text
    parts = [part.split(", ") for part in text.split("it separates ")[1].split(" / ")]
    named = [name for part in parts for name in part]
    assert len(set(named)) == len(named) > 1


def test_nothing_left_to_ask_needs_no_further_zone():
    material = crystal(205, (5.4,) * 3 + (90,) * 3)
    found = reason(
        [evidence(material, u, i) for i, u in enumerate([(0, 0, 1), (1, 1, 2), (0, 1, 1)])],
        settings=Settings(systems=("cubic",)),
    )
    assert found.best.extinction == "P a - -"
    assert found.ambiguity_set == (205,)
    assert found.next_zone is None


def test_reasons_name_what_was_seen(diamond):
    text = "\n".join(diamond.reasons)
    assert "fits zone [0, 1, 1]" in text
    assert "dark at" in text
    assert "Friedel mates agree" in text


def test_repr_is_a_table(diamond):
    text = repr(diamond)
    assert "extinction symbol" in text
    assert "cannot be told: 203, 210, 227" in text


# --- priors ------------------------------------------------------------------------------
def test_default_prior_is_uniform_over_systems_then_extinction_groups():
    prior = Prior().of_groups()
    assert prior.sum() == pytest.approx(1)
    systems = {}
    for n in range(1, 231):
        systems.setdefault(space_group(n).system, []).append(prior[n - 1])
    assert all(sum(v) == pytest.approx(1 / 7) for v in systems.values())
    pa3 = prior[204]
    fm3m = of_symbols(prior)[symbol_of(225).index] + of_symbols(prior)[symbol_of(202).index]
    assert pa3 == pytest.approx(1 / 7 / 17)
    assert fm3m == pytest.approx(1 / 7 / 17)


def test_prior_of_frequencies_keeps_a_little_for_the_unnamed():
    prior = Prior(groups={62: 8.0, 225: 4.0}).of_groups()
    assert prior[61] / prior[224] == pytest.approx(2)
    assert prior.min() > 0
    assert prior[61] + prior[224] > 0.99


def test_prior_of_systems():
    prior = Prior(systems={"cubic": 3.0, "hexagonal": 1.0}).of_groups()
    cubic = sum(prior[n - 1] for n in range(195, 231))
    assert cubic == pytest.approx(0.75)
    assert prior[0] == 0


@pytest.mark.parametrize(
    ("prior", "line"),
    [
        (Prior(systems={"cubist": 1.0}), "none of"),
        (Prior(systems={"cubic": -1.0}), "positive"),
        (Prior(groups={231: 1.0}), "1 to 230"),
        (Prior(groups={225: float("nan")}), "positive"),
    ],
)
def test_bad_priors_are_refused(prior, line):
    with pytest.raises(DiskernError, match=line):
        prior.of_groups()


def test_names_of_plane_symmetry():
    from diskern.symmetry.hypotheses_zones import stabiliser

    names = {
        ("m-3m", (0, 0, 1)): "4mm",
        ("4/m", (0, 0, 1)): "4",
        ("m-3", (0, 0, 1)): "2mm",
        ("m-3", (1, 1, 1)): "6",
        ("m-3m", (1, 1, 1)): "6mm",
        ("mmm", (1, 2, 3)): "2",
    }
    for (laue, uvw), name in names.items():
        assert plane_symmetry(stabiliser(laue, uvw)) == name


def test_groups_share_their_symbol_evenly(diamond):
    for symbol in diffraction_symbols():
        values = diamond.groups[np.array(symbol.space_groups) - 1]
        assert np.allclose(values, values[0])


def test_the_natural_prior_keeps_every_group_and_favours_frequent_ones():
    natural, even = Prior.natural().of_groups(), Prior().of_groups()
    assert natural.sum() == pytest.approx(1)
    assert (natural > even / 4).all()
    assert natural[62 - 1] > 5 * natural[51 - 1]
    assert Prior.natural(0.0).of_groups() == pytest.approx(even)
