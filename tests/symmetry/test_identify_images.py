"""`identify` from images to an answer, on simulated and on real patterns."""

import json

import numpy as np
import pytest

import diskern as dk
from diskern import DiskernError, IdentifyOptions, Pattern
from diskern.crystal.common import common_phases

PIXEL = 0.006
SHAPE = (320, 320)


def phase(name):
    return next(c for c in common_phases() if c.name == name)


def image_of(name, zone, seed=0, dose=3e5):
    """A noisy zone-axis picture on a diffuse background, its beam off the image centre."""
    rng = np.random.default_rng(seed)
    spots = dk.simulate_saed(phase(name), zone_axis=zone, g_max=0.85, thickness=80.0)
    row, col = 171.0, 148.0
    y, x = np.indices(SHAPE)
    radius = np.hypot(y - row, x - col)
    signal = 0.4 * np.exp(-((radius / 3.0) ** 2) / 2)
    brightest = spots.intensity.max()
    for (qx, qy), intensity in zip(spots.q, spots.intensity, strict=True):
        distance = np.hypot(y - row - qy / PIXEL, x - col - qx / PIXEL)
        signal += 0.1 * intensity / brightest * np.exp(-((distance / 2.0) ** 2) / 2)
    signal += 0.004 * np.exp(-radius / 40) + 2e-4
    return rng.poisson(signal / signal.sum() * dose).astype(np.uint16)


@pytest.fixture(scope="module")
def silicon():
    zones = [(0, 1, 1), (1, 1, 2)]
    images = [image_of("Si", z, seed) for seed, z in enumerate(zones)]
    return dk.identify(
        [Pattern.from_array(i, PIXEL, 200e3) for i in images], elements=["Si", "Ge", "C"]
    )


def test_two_zones_of_silicon(silicon):
    assert silicon.crystal
    assert silicon.system[0].name == "cubic"
    # Two dark 200 nodes speak for d glides, the commonness of Fm-3m against them.
    truth = next(r for r in silicon.extinction_symbol if 227 in r.space_groups)
    assert truth.probability > 0.2
    assert silicon.phases[0].name == "Si"
    assert silicon.phases[0].scale == pytest.approx(1, abs=0.01)
    zones = [sorted(map(abs, z[0].uvw)) for z in silicon.zone_axes]
    assert zones == [[0, 1, 1], [1, 1, 2]]


def test_every_level_sums_to_one(silicon):
    for level in (silicon.system, silicon.laue_class, silicon.extinction_symbol,
                  silicon.space_group):  # fmt: skip
        values = [r.probability for r in level]
        assert sum(values) == pytest.approx(1, abs=1e-3)
        assert values == sorted(values, reverse=True)


def test_json_holds_the_promised_keys(silicon):
    answer = json.loads(json.dumps(silicon.to_dict(), allow_nan=False))
    assert {"crystal", "refusal", "patterns", "system", "extinction_symbol", "space_group",
            "ambiguity_set", "next_zone", "phases", "provenance"} <= set(answer)  # fmt: skip
    lattice = answer["patterns"][0]["lattices"][0]
    assert lattice["unit"] == "1/Å"
    # Si [011]: the net of (1 1 -1) and (1 -1 1), 70.5° and its complement between equal vectors.
    assert lattice["a"] == pytest.approx(np.sqrt(3) / 5.431, rel=0.01)
    assert answer["phases"][0]["space_group"] == 227
    assert answer["provenance"]["program"].startswith("diskern ")
    assert len(answer["provenance"]["input"][0]["sha256"]) == 64


def test_without_a_scale_the_lattice_is_in_pixels_and_shape_still_speaks():
    answer = dk.identify(image_of("Si", (0, 1, 1)), elements=["Si"])
    assert answer.to_dict()["patterns"][0]["lattices"][0]["unit"] == "px"
    assert answer.zone_axes[0]


def test_the_wrong_phase_alone_does_not_pass_for_the_right_one():
    pattern = Pattern.from_array(image_of("Si", (0, 1, 1)), PIXEL, 200e3)
    wrong = dk.identify(pattern, candidates=[phase("Cu")]).phases
    right = dk.identify(pattern, candidates=[phase("Si"), phase("Cu")]).phases
    assert right[0].name == "Si"
    assert not wrong or wrong[0].score < 0.1


@pytest.mark.parametrize("kind", ["constant", "noise", "halo"])
def test_no_crystal_is_refused(kind):
    rng = np.random.default_rng(1)
    y, x = np.indices((256, 256)) - 128.0
    radius = np.hypot(y, x)
    images = {
        "constant": np.full((256, 256), 7),
        "noise": rng.poisson(20, (256, 256)),
        "halo": rng.poisson(
            3000 * np.exp(-radius / 6) + 200 * np.exp(-(((radius - 55) / 9) ** 2)) + 20
        ),
    }
    answer = dk.identify(images[kind])
    assert not answer.crystal
    assert answer.refusal
    assert not answer.space_group
    assert answer.to_dict()["crystal"] is False


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ({"pixel_size": -1.0}, "pixel_size"),
        ({"energy": 200.0}, "electronvolts"),
        ({"elements": ["Xx"]}, "Xx"),
        ({"options": IdentifyOptions(scale_bar=0.2)}, "no scale bar"),
        ({"candidates": "no/such/folder"}, "does not exist"),
    ],
)
def test_impossible_knowledge_is_one_line(known, words):
    with pytest.raises(DiskernError, match=words) as error:
        dk.identify(image_of("Si", (0, 1, 1)), **known)
    assert "\n" not in str(error.value)


def test_nothing_given():
    with pytest.raises(DiskernError, match="no patterns"):
        dk.identify([])


@pytest.mark.parametrize("part", range(8))
def test_every_real_file_gives_an_answer_or_a_refusal(experimental, part):
    pictures = [
        p for p in sorted(experimental.glob("*/*"))
        if p.suffix in {".png", ".tif", ".tiff", ".dm3", ".dm4", ".mib", ".img", ".hspy", ".blo"}
    ]  # fmt: skip
    assert len(pictures) > 20
    few = [phase(n) for n in ("Al", "Au", "Si", "ZnO")]
    for path in pictures[part::8]:  # in parts, for processes to share
        answer = dk.identify(path, candidates=few)
        assert answer.crystal == (answer.refusal is None), path.name
        json.dumps(answer.to_dict(), allow_nan=False)
        assert repr(answer)


def test_amorphous_film_is_refused(experimental):
    answer = dk.identify(experimental / "pyxem__pyxem-demos" / "Amorphous.hspy")
    assert not answer.crystal
    assert "amorphous" in answer.refusal


def test_the_twinned_crystal_shows_two_lattices(experimental):
    answer = dk.identify(experimental / "Godllolzzz__virtual-lab-saed" / "twinsFault_crop.png")
    assert len(answer.analyses[0].lattices) == 2


def test_a_pattern_without_crystal_keeps_its_place_among_the_others():
    rng = np.random.default_rng(0)
    good = Pattern.from_array(image_of("Si", (0, 1, 1)), PIXEL, 200e3)
    empty = Pattern.from_array(rng.poisson(20, SHAPE), PIXEL, 200e3)
    answer = dk.identify([empty, good], elements=["Si"])
    best = answer.phases[0]
    assert np.isnan(best.orientations[0]).all()
    assert np.isfinite(best.orientations[1]).all()
    assert best.zone_axes[0] is None
    assert len(best.hkl[1]) == len(answer.analyses[1].spots)
    assert any("left out" in reason for reason in answer.reasons)


def test_frames_of_a_stack_are_one_pattern_or_each_their_own(tmp_path):
    stack = np.stack([image_of("Si", zone, 5) for zone in ((0, 1, 1), (1, 1, 2))])
    np.save(tmp_path / "stack.npy", stack)
    known = {"pixel_size": PIXEL, "elements": ["Si"]}
    apart = dk.identify(
        tmp_path / "stack.npy", **known, options=IdentifyOptions(frames="each", network=False)
    )
    zones = [sorted(map(abs, z[0].uvw)) for z in apart.zone_axes]
    assert zones == [[0, 1, 1], [1, 1, 2]]
    assert [a.pattern.source for a in apart.analyses] == ["stack.npy[0,0]", "stack.npy[0,1]"]
    mean = dk.identify(tmp_path / "stack.npy", **known, options=IdentifyOptions(network=False))
    assert len(mean.analyses) == 1
    assert any("mean of 2 frames" in note for note in mean.analyses[0].pattern.notes)


def test_a_film_is_no_set_of_patterns(tmp_path):
    np.save(tmp_path / "film.npy", np.zeros((21, 32, 32)))
    with pytest.raises(DiskernError, match=r"film\.npy: 21 frames .* 20 at most"):
        dk.identify(tmp_path / "film.npy", options=IdentifyOptions(frames="each"))
    with pytest.raises(DiskernError, match="frames='all' is unknown"):
        dk.identify(tmp_path / "film.npy", options=IdentifyOptions(frames="all"))
