import numpy as np
import pytest

from diskern.crystal.spacegroups import laue_operations, space_group, systematically_absent
from diskern.errors import DiskernError
from diskern.symmetry.extinctions import extinction_evidence

CELLS = {
    2: (5.1, 6.7, 8.0, 84, 97, 103),
    14: (5.1, 11.4, 5.4, 90, 112, 90),
    15: (9.1, 6.2, 7.7, 90, 104, 90),
    19: (5.1, 7.4, 9.9, 90, 90, 90),
    61: (5.1, 7.4, 9.9, 90, 90, 90),
    62: (8.2, 5.9, 11.0, 90, 90, 90),
    141: (5.1, 5.1, 11.0, 90, 90, 90),
    194: (4.1, 4.1, 9.3, 90, 90, 120),
    227: (8.1, 8.1, 8.1, 90, 90, 90),
}


def _data(number, reach=6, noise=0.02, lit=0.0, seed=0):
    """Wilson intensities with the symmetry of a group, all of reciprocal space to ``reach``."""
    rng = np.random.default_rng(seed)
    axis = np.arange(-reach, reach + 1)
    hkl = np.stack(np.meshgrid(axis, axis, axis), -1).reshape(-1, 3)
    hkl = hkl[hkl.any(1) & ((hkl**2).sum(1) <= reach**2)]
    turns = laue_operations(space_group(number).laue_class)
    code = ((hkl @ turns + 50) @ np.array([10000, 100, 1])).min(0)
    _, label = np.unique(code, return_inverse=True)
    true = rng.exponential(1.0, label.max() + 1)[label] * 100 * np.exp(-0.05 * (hkl**2).sum(1))
    absent = systematically_absent(number, hkl)
    true[absent] = lit * rng.exponential(1.0, absent.sum()) * 100
    sigma = noise * true + 0.1
    return hkl, true * np.exp(rng.normal(0, 0.1, len(hkl))) + rng.normal(0, sigma), sigma


@pytest.mark.parametrize("number", sorted(CELLS))
def test_the_symbol_is_found(number):
    hkl, value, sigma = _data(number)
    found = extinction_evidence(hkl, value, sigma, cell=CELLS[number])
    assert number in found.symbol.space_groups
    assert found.groups.sum() == pytest.approx(1)
    assert found.diffraction_symbol()[0].probability > 0.5


def test_another_cell_choice_of_monoclinic_is_named():
    hkl, value, sigma = _data(14)
    # P 1 21/c 1 seen in the axes a' = -a-c, b' = b, c' = a, which make it P 1 21/n 1.
    axes = np.array([[-1, 0, -1], [0, 1, 0], [1, 0, 0]])
    moved = hkl @ axes.T
    found = extinction_evidence(moved, value, sigma, system="monoclinic")
    assert found.symbol.extinction == "P 21/c"
    assert found.setting == "P 1 21/n 1"
    assert [c.rule for c in found.conditions] == ["h + l = 2n", "k = 2n"]


def test_permuted_axes_of_orthorhombic_do_not_matter():
    hkl, value, sigma = _data(62)
    found = extinction_evidence(hkl[:, [2, 0, 1]], value, sigma, system="orthorhombic")
    assert 62 in found.symbol.space_groups


def test_weak_multiple_scattering_does_not_hide_the_glide():
    hkl, value, sigma = _data(62, lit=0.02)
    found = extinction_evidence(hkl, value, sigma, cell=CELLS[62])
    assert 62 in found.symbol.space_groups
    assert all(c.mean_forbidden < 0.2 * c.mean_allowed for c in found.conditions)


def test_reflections_that_were_not_measured_leave_the_question_open():
    hkl, value, sigma = _data(14)
    keep = hkl[:, [0, 2]].any(1)  # the 0k0 row lies in the missing wedge
    found = extinction_evidence(hkl[keep], value[keep], sigma[keep], system="monoclinic")
    best = {r.name: r.probability for r in found.diffraction_symbol()[:2]}
    assert best["2/m P c"] == pytest.approx(best["2/m P 21/c"])


def test_counts_are_those_of_the_data():
    hkl, value, sigma = _data(15)
    found = extinction_evidence(hkl, value, sigma, cell=CELLS[15])
    centring = next(c for c in found.conditions if c.reflections == "hkl")
    assert centring.forbidden + centring.allowed == len(hkl)
    odd = (hkl[:, 0] + hkl[:, 1]) % 2 != 0
    assert centring.forbidden == odd.sum()
    assert centring.mean_forbidden == pytest.approx(value[odd].mean())
    assert "mean I" in repr(found)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"hkl": np.zeros((20, 2))}, "disagree"),
        ({"hkl": np.full((20, 3), 0.5)}, "whole numbers"),
        ({"intensity": np.full(20, np.nan)}, "not finite"),
        ({"sigma": np.zeros(20)}, "too few"),
        ({"system": "cubical"}, "none of"),
        ({"system": None}, "give a cell"),
        ({"system": None, "cell": (1, 2, 3)}, "cell has shape"),
    ],
)
def test_bad_input_is_refused_in_one_line(change, line):
    good = {
        "hkl": np.arange(60).reshape(20, 3),
        "intensity": np.ones(20),
        "sigma": np.ones(20),
        "system": "monoclinic",
    }
    with pytest.raises(DiskernError, match=line):
        extinction_evidence(**(good | change))


def test_glycine(experimental):
    path = experimental / "ccp4__electron-diffraction" / "glycine.hkl"
    table = np.loadtxt(path)
    found = extinction_evidence(
        table[:, :3], table[:, 3], table[:, 4], cell=(4.925, 11.433, 5.378, 88.85, 111.97, 90.03)
    )
    # The n glide is plain; no 0k0 was measured, so the screw axis stays open.
    assert found.symbol.extinction in ("P c", "P 21/c")
    glide = next(c for c in found.conditions if c.reflections == "h0l")
    assert glide.rule == "h + l = 2n"
    assert glide.mean_forbidden == pytest.approx(0.19, abs=0.005)
    assert glide.mean_allowed == pytest.approx(19.4, abs=0.1)
    both = [r.probability for r in found.diffraction_symbol() if r.name.startswith("2/m P")]
    assert both[0] + both[1] > 0.99
