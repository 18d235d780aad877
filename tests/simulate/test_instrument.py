"""The instrument counts like a real one, moves its labels with the image, repeats by seed."""

import json

import numpy as np
import pytest
from PIL import Image as PillowImage
from scipy.ndimage import gaussian_filter, shift

from diskern.crystal.crystal import Crystal
from diskern.crystal.orientation import zone_axis_orientation
from diskern.errors import DiskernError
from diskern.patterns.geometry import Flaw
from diskern.simulate.instrument import (
    AmorphousHalo,
    BeamStop,
    Blooming,
    CentreOffset,
    Crop,
    Descan,
    DetectorCross,
    DetectorEdge,
    DiffuseBackground,
    DirectBeam,
    Dose,
    EightBit,
    Ellipticity,
    Gain,
    InelasticBlur,
    InPlaneRotation,
    Instrument,
    Inverted,
    Jpeg,
    Labels,
    ModulationTransfer,
    PixelDefects,
    ReadNoise,
    Saturation,
    ScaleBar,
    ScaleError,
    Scene,
    mistilted,
    overlapped,
    rotated,
    twin_orientation,
)
from diskern.simulate.instrument.saturation import spill
from diskern.simulate.saed import simulate_saed

SHAPE = (192, 224)
PX = 0.01
RNG = np.random.default_rng


def spots(points, shape=SHAPE, sigma=2.0):
    rows, cols = np.indices(shape)
    return sum(
        np.exp(-((rows - r) ** 2 + (cols - c) ** 2) / (2 * sigma**2)) for r, c in points
    ).astype(np.float32)


@pytest.fixture
def scattered():
    """Well separated spots and their labels."""
    grid = np.stack(np.meshgrid(np.arange(40, 160, 24.0), np.arange(40, 190, 27.0)), -1)
    points = grid.reshape(-1, 2) + RNG(0).uniform(-3, 3, (grid.size // 2, 2))
    image = spots(points)
    return image, Labels.of(image, points, pixel_size=PX)


def centroid(image, point, half=7):
    r, c = np.round(point).astype(int)
    window = image[r - half : r + half + 1, c - half : c + half + 1].astype(float)
    rows, cols = np.indices(window.shape)
    total = window.sum()
    return np.array([(rows * window).sum(), (cols * window).sum()]) / total + [r - half, c - half]


GEOMETRY = [
    Ellipticity(1.04, 35.0),
    ScaleError(1.05),
    ScaleError(0.95),
    InPlaneRotation(23.0),
    CentreOffset(7.3, -11.6),
    Descan((0.5, 0.1), (-0.2, 0.4), (3.0, -2.0)),
    Crop(9, 14, 170, 190),
]


@pytest.mark.parametrize("transform", GEOMETRY, ids=lambda t: type(t).__name__)
def test_labels_follow_the_spots(scattered, transform):
    image, labels = transform.apply(*scattered, RNG(0))
    margin = (labels.points > 8).all(1) & (labels.points < np.array(image.shape) - 9).all(1)
    assert margin.sum() > 10
    for point in labels.points[margin & labels.visible]:
        np.testing.assert_allclose(centroid(image, point), point, atol=0.05)


def test_all_geometry_at_once_is_one_interpolation(scattered):
    transforms = tuple(t for t in GEOMETRY if not isinstance(t, Crop))
    image, labels = Instrument(transforms).apply(*scattered)
    step_image, step_labels = scattered
    for t in transforms:
        step_image, step_labels = t.apply(step_image, step_labels, RNG(0))
    np.testing.assert_allclose(labels.points, step_labels.points, atol=1e-9)
    np.testing.assert_allclose(labels.centre, step_labels.centre, atol=1e-9)
    for point in labels.points[labels.visible]:
        if (point > 8).all() and (point < np.array(SHAPE) - 9).all():
            np.testing.assert_allclose(centroid(image, point), point, atol=0.05)
    assert image.max() > step_image.max()


def test_truth_can_be_undone_with_the_distortion(scattered):
    labels = Instrument((Ellipticity(1.03, 70), ScaleError(0.97))).apply(*scattered)[1]
    ideal = (labels.points - labels.centre) @ np.linalg.inv(labels.distortion).T
    np.testing.assert_allclose(ideal, scattered[1].points - scattered[1].centre, atol=1e-9)


def test_geometry_keeps_the_counts_of_each_spot(scattered):
    image, labels = ScaleError(1.05).apply(*scattered, RNG(0))
    inside = ((labels.points > 15) & (labels.points < np.array(SHAPE) - 16)).all(1)
    for before, after in zip(scattered[1].points[inside], labels.points[inside], strict=True):
        sums = []
        for frame, point in ((scattered[0], before), (image, after)):
            r, c = np.round(point).astype(int)
            sums.append(frame[r - 9 : r + 10, c - 9 : c + 10].sum())
        assert sums[1] == pytest.approx(sums[0], rel=0.01)


def test_ellipse_has_its_axes_where_it_says():
    rows, cols = np.indices((200, 200)) - 100
    ring = np.exp(-((np.hypot(rows, cols) - 60) ** 2) / 8).astype(np.float32)
    image, _ = Ellipticity(1.04, 30.0).apply(ring, Labels.of(ring), RNG(0))
    angle = np.degrees(np.arctan2(rows, cols))
    radius = []
    for along in (30.0, 120.0):
        sector = np.abs((angle - along + 90) % 180 - 90) < 4
        radius.append((np.hypot(rows, cols) * image)[sector].sum() / image[sector].sum())
    assert radius[0] / radius[1] == pytest.approx(1.04, abs=0.004)


def test_label_maps_move_with_the_image(scattered):
    image, labels = scattered
    labels = Labels.of(image, labels.points, pixel_size=PX, maps=image[None].copy())
    moved, after = Instrument((InPlaneRotation(15.0), CentreOffset(3.4, 5.1))).apply(image, labels)
    inner = (slice(20, -20),) * 2
    np.testing.assert_allclose(after.maps[0][inner], moved[inner], atol=0.12)
    assert np.corrcoef(after.maps[0][inner].ravel(), moved[inner].ravel())[0, 1] > 0.995


@pytest.mark.parametrize("electrons", [1e2, 1e4, 1e8])
def test_dose_is_poisson(electrons):
    flat = np.full((64, 64), 1 / 4096, dtype=np.float32)
    image, _ = Dose(electrons).apply(flat, Labels.of(flat), RNG(1))
    assert image.sum() == pytest.approx(electrons, abs=5 * electrons**0.5 + 1)
    assert image.var() / image.mean() == pytest.approx(1, abs=0.12)
    assert (image == np.round(image)).all()


def test_mtf_has_its_value_at_nyquist_and_keeps_the_counts():
    stripes = np.tile([0.0, 2.0], (64, 32)).astype(np.float32)
    image, _ = ModulationTransfer(0.25).apply(stripes, Labels.of(stripes), RNG(0))
    inner = image[:, 8:-8]
    assert (inner.max() - inner.min()) / 2 == pytest.approx(0.25, abs=0.02)
    assert image.mean() == pytest.approx(1, rel=1e-5)


def test_background_falls_as_written_and_carries_its_share():
    image = spots([(96, 112)])
    labels = Labels.of(image, pixel_size=PX)
    out, _ = DiffuseBackground(0.6, 0.02, 1.2, 0.8).apply(image, labels, RNG(0))
    assert out.sum() == pytest.approx(image.sum(), rel=1e-4)
    added = out - 0.4 * image
    q = np.hypot(*(np.indices(SHAPE) - labels.centre[:, None, None])) * PX
    ring = [added[np.abs(q - x) < 0.004].mean() for x in (0.2, 0.6)]
    expected = [(1 + (x / 0.02) ** 2) ** -0.6 * np.exp(-x / 0.8) for x in (0.2, 0.6)]
    assert ring[0] / ring[1] == pytest.approx(expected[0] / expected[1], rel=0.02)


def test_halo_is_where_it_says():
    image = spots([(96, 112)])
    labels = Labels.of(image, pixel_size=PX)
    out, _ = AmorphousHalo(0.2, 0.48, 0.04).apply(image, labels, RNG(0))
    q = np.hypot(*(np.indices(SHAPE) - labels.centre[:, None, None])) * PX
    profile = [out[np.abs(q - x) < 0.006].mean() for x in (0.38, 0.48, 0.58, 0.66, 0.84)]
    assert np.argmax(profile) == 1
    assert profile[4] > profile[3]


def test_inelastic_blur_keeps_counts_and_gives_a_skirt():
    image = spots([(96, 112)])
    out, _ = InelasticBlur(0.4, 3.0).apply(image, Labels.of(image), RNG(0))
    assert out.sum() == pytest.approx(image.sum(), rel=1e-3)
    assert out[96, 112 + 15] > 100 * image[96, 112 + 15]


@pytest.mark.parametrize("seed", range(25))
def test_beam_stop_covers_the_beam_and_at_most_an_eighth(seed):
    image = np.ones(SHAPE, dtype=np.float32)
    stop = BeamStop.draw(RNG(seed), Scene(SHAPE, PX))
    labels = Labels.of(image, np.array([[96.0, 112.0]]), pixel_size=PX)
    out, after = stop.apply(image, labels, RNG(0))
    shadow = (after.flaws & Flaw.BEAM_STOP) > 0
    assert 0.002 < shadow.mean() < 0.13
    edge = np.concatenate([shadow[0], shadow[-1], shadow[:, 0], shadow[:, -1]])
    assert edge.any()
    assert shadow[96, 112]
    assert not after.visible[0]
    assert out[shadow].mean() < 0.4


def test_beam_stop_tip_glows_outside_its_outline():
    image = spots([(96, 112)], sigma=4) * 100
    labels = Labels.of(image, pixel_size=PX)
    dark = BeamStop(glow=0.0).apply(image, labels, RNG(0))[0]
    bright = BeamStop(glow=0.05).apply(image, labels, RNG(0))[0]
    distance = BeamStop().distance(SHAPE, labels.centre)
    near = (distance > 2) & (distance < 5)
    assert bright[near].max() > dark[near].max() + 1
    assert (bright[distance < -2] == dark[distance < -2]).all()


def test_frames_of_a_stack_bloom_alone():
    frames = np.random.default_rng(2).exponential(3.0, (3, 2, 30, 20)).astype(np.float32)
    full = frames.max((-2, -1), keepdims=True) * np.float32(0.4)
    out = spill(frames, full, 0.2, 7)
    for place in np.ndindex(3, 2):
        assert np.array_equal(out[place], spill(frames[place], full[place], 0.2, 7))
    # The same, one column and one step at a time.
    column, limit = frames[1, 1, :, 4].copy(), full[1, 1, 0, 0]
    excess = np.maximum(column - limit, 0) * np.float32(0.4)
    column = np.minimum(column, limit)
    for direction in (1, -1):
        moving = excess.copy()
        for _ in range(7):
            moving = np.roll(moving, direction)
            moving[0 if direction == 1 else -1] = 0
            room = np.minimum(limit - column, moving)
            column, moving = column + room, moving - room
    assert out[1, 1, :, 4] == pytest.approx(column, rel=1e-6)


def test_blooming_conserves_what_is_not_drained_and_stays_in_its_columns():
    frame = np.zeros((101, 20), dtype=np.float32)
    frame[50, 7] = 100.0
    out = spill(frame, 10.0, 0.0, 100)
    assert out.sum() == pytest.approx(100)
    assert out.max() == 10
    assert (out[:, np.arange(20) != 7] == 0).all()
    assert spill(frame, 10.0, 0.5, 100).sum() == pytest.approx(10 + 45)
    image, labels = Blooming(0.1, 0.0).apply(frame, Labels.of(frame), RNG(0))
    assert (labels.flaws[46:55, 7] & Flaw.BLOOMING).sum() > 0
    assert labels.flaws[50, 7] & Flaw.SATURATED
    assert image[46, 7] == 10


def test_saturation_clips_and_marks():
    image = spots([(96, 112)]) * 1000
    out, labels = Saturation(300.0).apply(image, Labels.of(image), RNG(0))
    assert out.max() == 300
    np.testing.assert_array_equal((labels.flaws & Flaw.SATURATED) > 0, image >= 300)
    assert Saturation(0.5).apply(image, Labels.of(image), RNG(0))[0].max() == pytest.approx(500)


def test_defects_stay_put_and_are_marked():
    image = np.full((3, *SHAPE), 5.0, dtype=np.float32)
    faults = PixelDefects(1e-3, 2e-3, 2, 1.0, seed=9)
    out, labels = faults.apply(image, Labels.of(image), RNG(0))
    dead = (labels.flaws & Flaw.DEAD) > 0
    assert (out[:, dead] == 0).all()
    assert dead.mean() == pytest.approx(2e-3 + 2 / 200, abs=4e-3)
    np.testing.assert_array_equal(out[0], out[2])
    assert ((labels.flaws & Flaw.HOT) > 0).mean() == pytest.approx(1e-3, rel=0.6)


def test_cross_and_edge_are_marked():
    image = np.ones((64, 64), dtype=np.float32)
    labels = Labels.of(image, np.array([[2.0, 2.0], [32.0, 40.0]]))
    out, after = DetectorCross(1, 3.0).apply(image, labels, RNG(0))
    assert out[31, 5] == 3
    assert after.flaws[32, 60] & Flaw.CROSS
    out, after = DetectorEdge(1.0).apply(image, labels, RNG(0))
    assert out[0, 0] == 0
    assert after.visible.tolist() == [False, True]


def test_gain_and_read_noise():
    image = np.full((128, 128), 100.0, dtype=np.float32)
    labels = Labels.of(image)
    flat = Gain(2.0, 0.02, seed=4).apply(image, labels, RNG(0))[0]
    assert flat.mean() == pytest.approx(200, rel=0.002)
    assert flat.std() / flat.mean() == pytest.approx(0.02, rel=0.05)
    np.testing.assert_array_equal(flat, Gain(2.0, 0.02, seed=4).apply(image, labels, RNG(1))[0])
    noisy = ReadNoise(3.0, 40.0).apply(image, labels, RNG(0))[0]
    assert noisy.mean() == pytest.approx(140, abs=0.2)
    assert noisy.std() == pytest.approx(3, rel=0.05)


def test_grey_levels_overlay_jpeg_and_negative():
    image = spots([(96, 112), (60, 60)]) * 1000 + 1
    labels = Labels.of(image, np.array([[158.0, 30.0], [96.0, 112.0]]), pixel_size=PX)
    grey, _ = EightBit(0.5, 0.001, 0.0).apply(image, labels, RNG(0))
    assert grey.min() >= 0
    assert grey.max() == 255
    assert (grey == np.round(grey)).all()
    assert EightBit(0.5, 0.001, -34.0).apply(image, labels, RNG(0))[0].min() == 34
    bar, marked = ScaleBar(5.0, 0, 0.08).apply(grey, labels, RNG(0))
    ink = (bar == 255) & (grey < 255)
    assert ink.sum(axis=1).max() == pytest.approx(0.5 / PX, abs=2)
    assert ((marked.flaws & Flaw.OVERLAY) > 0)[ink].all()
    assert marked.visible.tolist() == [False, True]
    lossy = Jpeg(50).apply(grey, labels, RNG(0))[0]
    assert 0.1 < np.abs(lossy - grey).max() < 120
    assert np.corrcoef(lossy.ravel(), grey.ravel())[0, 1] > 0.97
    assert Inverted().apply(grey, labels, RNG(0))[0].max() == 255 - grey.min()


@pytest.mark.parametrize("kind", ["hybrid", "ccd", "picture"])
def test_one_seed_repeats_to_the_bit(scattered, kind):
    image, labels = scattered
    image = image / image.sum()
    runs = [Instrument.draw(s, SHAPE, PX, kind).apply(image, labels) for s in (3, 3, 4)]
    np.testing.assert_array_equal(runs[0][0], runs[1][0])
    np.testing.assert_array_equal(runs[0][1].flaws, runs[1][1].flaws)
    assert not np.array_equal(runs[0][0], runs[2][0])
    instrument = Instrument.draw(3, SHAPE, PX, kind)
    assert instrument == Instrument.draw(3, SHAPE, PX, kind)
    other_frame = instrument.apply(image, labels, frame=1)[0]
    assert not np.array_equal(runs[0][0], other_frame)


def test_every_draw_is_logged_and_finite(scattered):
    image = scattered[0] / scattered[0].sum()
    names = set()
    for seed in range(60):
        instrument = Instrument.draw(seed, SHAPE, PX)
        log = instrument.log()
        assert json.loads(json.dumps(log)) is not None
        assert len(log) == len(instrument.transforms)
        names |= {entry["name"] for entry in log}
        out, labels = instrument.apply(image, scattered[1])
        assert np.isfinite(out).all()
        assert out.shape == SHAPE
        assert labels.points.shape == scattered[1].points.shape
        assert np.hypot(*(labels.centre - [96, 112])) <= 0.15 * 192 + 1e-6
    assert len(names) >= 18


def test_leaving_a_transform_out_keeps_the_others_noise(scattered):
    image, labels = scattered
    image = image / image.sum()
    one = Instrument((Dose(1e5), ReadNoise(1.0)), 5).apply(image, labels)[0]
    two = Instrument((Dose(1e5),), 5).apply(image, labels)[0]
    assert (one - two).std() == pytest.approx(1.0, rel=0.05)


def test_drawing_in_place_equals_resampling():
    points = RNG(5).uniform(40, 150, (12, 2))
    image = spots(points)
    labels = Labels.of(image, points, pixel_size=PX)
    instrument = Instrument((Ellipticity(1.03, 20.0), CentreOffset(6.2, -3.9), Saturation(1e9)))
    resampled, moved = instrument.apply(image, labels)
    placed = instrument.place(labels)
    np.testing.assert_allclose(placed.points, moved.points)
    drawn, _ = instrument.recorder().apply(spots(placed.points), placed)
    assert np.abs(drawn - resampled).max() < 0.03 * image.max()


def test_stack_of_frames_shares_geometry_but_not_noise(scattered):
    image, labels = scattered
    stack = np.stack([image, image])[None] / image.sum()
    out, _ = Instrument((ScaleError(1.02), Dose(1e6), ReadNoise(1.0))).apply(stack, labels)
    assert out.shape == (1, 2, *SHAPE)
    assert not np.array_equal(out[0, 0], out[0, 1])


def test_bad_input_is_refused(scattered):
    with pytest.raises(DiskernError, match="finite"):
        Instrument(()).apply(np.full((8, 8), np.nan), scattered[1])
    with pytest.raises(DiskernError, match="kind='film'"):
        Instrument.draw(0, SHAPE, PX, "film")
    with pytest.raises(DiskernError, match="does not fit"):
        Crop(0, 0, 1000, 10).apply(*scattered, RNG(0))
    with pytest.raises(DiskernError, match="pixel_size"):
        DiffuseBackground().apply(scattered[0], Labels.of(scattered[0]), RNG(0))
    with pytest.raises(DiskernError, match="electrons=-1"):
        Dose(-1)


# --- the specimen -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def aluminium():
    sites = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
    return Crystal.from_arrays((4.05,) * 3 + (90,) * 3, sites, [13] * 4, u_iso=0.01)


def test_mistilt_makes_friedel_pairs_unequal_by_ten(aluminium):
    orientation = zone_axis_orientation(aluminium, (0, 0, 1))
    ratios, tilts = [], []
    rng = RNG(2)
    for _ in range(12):
        tilted_orientation, (angle, _) = mistilted(orientation, rng)
        tilts.append(angle)
        pattern = simulate_saed(aluminium, orientation=tilted_orientation, thickness=300.0)
        at = {tuple(h): i for h, i in zip(pattern.hkl.tolist(), pattern.intensity, strict=True)}
        pairs = [(i, at.get(tuple(-k for k in h), 0.0)) for h, i in at.items()]
        ratios.append(max(a / max(b, 1e-6 * pattern.intensity.max()) for a, b in pairs))
    assert max(tilts) <= np.radians(3) * 1e3
    assert np.median(ratios) > 10


def test_overlap_and_rotation(aluminium):
    one = simulate_saed(aluminium, zone_axis=(0, 0, 1), thickness=100.0)
    two = rotated(one, 30.0)
    both = overlapped([one, two], [3, 1])
    assert len(both) == 2 * len(one)
    assert both.intensity.sum() == pytest.approx(one.intensity.sum())
    assert (np.diff(both.intensity) <= 0).all()
    np.testing.assert_allclose(np.hypot(*two.q.T), np.hypot(*one.q.T))
    turned = np.degrees(np.arctan2(two.q[0, 1], two.q[0, 0]) - np.arctan2(one.q[0, 1], one.q[0, 0]))
    assert turned % 360 == pytest.approx(30.0)


def test_twin_shares_its_plane_and_mirrors_the_rest(aluminium):
    orientation = zone_axis_orientation(aluminium, (0, 1, -1))
    twin = twin_orientation(aluminium, orientation, (1, 1, 1))
    g = np.array([[1, 1, 1], [2, 0, 0]]) @ aluminium.reciprocal
    here, there = orientation.apply(g), twin.apply(g)
    np.testing.assert_allclose(there[0], here[0], atol=1e-12)
    normal = here[0] / np.linalg.norm(here[0])
    np.testing.assert_allclose(there[1], 2 * (here[1] @ normal) * normal - here[1], atol=1e-12)
    np.testing.assert_allclose(there[:, 2], 0, atol=1e-12)


# --- against real frames ------------------------------------------------------------------


def radial_medians(image, centre, at=(20, 50, 100, 150, 200)):
    r = np.hypot(*(np.indices(image.shape) - np.asarray(centre)[:, None, None]))
    return np.array([np.median(image[np.abs(r - x) < 2]) for x in at])


def summary(image, centre):
    """Share within 12 px of the beam, zeros, slope of the background, Fano factor."""
    r = np.hypot(*(np.indices(image.shape) - np.asarray(centre)[:, None, None]))
    step, mean = image[:, 2:] - image[:, :-2], (image[:, 2:] + image[:, :-2]) / 2
    ring = (r[:, 1:-1] > 80) & (r[:, 1:-1] < 120)
    # Spots are left out: the background alone must fluctuate as counts do.
    ring &= mean < 2 * np.median(mean[ring]) + 1
    medians = radial_medians(image, centre, (20, 100))
    return {
        "beam": image[r < 12].sum() / image.sum(),
        "zeros": (image <= 0).mean(),
        "slope": np.log((medians[0] + 0.5) / (medians[1] + 0.5)) / np.log(5),
        "fano": (step[ring] ** 2).mean() / 2 / max(mean[ring].mean(), 1e-9),
    }


def real_frames(folder):
    fabio = pytest.importorskip("fabio")
    yield (
        fabio.open(str(folder / "dials__data-files/TIMEPIX_SU_512-stdgoni_0001.img")).data,
        (240, 246),
    )
    with PillowImage.open(folder / "ccp4__electron-diffraction/00001.tiff") as image:
        frame = np.asarray(image)
    centre = np.unravel_index(gaussian_filter(frame.astype(float), 3).argmax(), frame.shape)
    yield frame, centre


def simulated_frame(power, reach, beam, share, electrons, shape=(512, 512)):
    """Weak spots of a tilted crystal under a background, on a counting detector."""
    rng = RNG(7)
    points = rng.uniform(20, 490, (150, 2))
    image = spots(points, shape, 1.3) * 0
    for r, c in points:
        window = (slice(int(r) - 8, int(r) + 9), slice(int(c) - 8, int(c) + 9))
        image[window] += rng.exponential() * shift(spots([(8, 8)], (17, 17), 1.3), (r % 1, c % 1))
    image = np.maximum(image, 0) / image.sum()
    instrument = Instrument(
        (
            DiffuseBackground(share, 0.02, power, reach),
            DirectBeam(beam, 2.0),
            ModulationTransfer(0.6),
            Dose(electrons),
        )
    )
    return instrument.apply(image, Labels.of(image, pixel_size=0.0041))[0]


def test_background_model_follows_both_counting_frames(experimental):
    """Two frames, one model: medians at 20 to 200 px within 30 % (and a count)."""
    settings = [(1.0, 1.03, 0.14), (1.3, 0.48, 0.30)]
    for (frame, centre), (power, reach, beam) in zip(
        real_frames(experimental), settings, strict=True
    ):
        measured = radial_medians(frame, centre)
        total = float(frame.sum())
        made = simulated_frame(power, reach, beam, 0.75, total)
        found = radial_medians(made, (256, 256))
        scale = measured[1] / found[1]
        assert 0.5 < scale < 2
        np.testing.assert_allclose(found * scale, measured, rtol=0.3, atol=1.5)
        real, simulated = summary(frame.astype(float), centre), summary(made, (256, 256))
        assert simulated["beam"] == pytest.approx(real["beam"], abs=0.06)
        assert simulated["fano"] == pytest.approx(real["fano"], abs=0.25)
        assert abs(simulated["zeros"] - real["zeros"]) < 0.15


def test_drawn_instruments_surround_the_real_frames(experimental):
    """Each summary of each counting frame lies within 5 to 95 % of those drawn."""
    base = spots(RNG(1).uniform(30, 480, (60, 2)), (512, 512), 1.3)
    base = base / base.sum()
    labels = Labels.of(base, pixel_size=0.0041)
    drawn = []
    for seed in range(60):
        instrument = Instrument.draw(seed, (512, 512), 0.0041, "hybrid")
        if not any(isinstance(t, BeamStop) for t in instrument.transforms):
            image, after = instrument.recorder().apply(base, instrument.place(labels))
            drawn.append(summary(image, after.centre))
    for frame, centre in real_frames(experimental):
        for name, value in summary(frame.astype(float), centre).items():
            values = [d[name] for d in drawn]
            assert np.quantile(values, 0.05) <= value <= np.quantile(values, 0.95), name
