import io
import sys

import numpy as np
import pytest
from PIL import Image

from diskern.patterns.geometry import Flaw
from diskern.report import figures
from diskern.report.scale_bar import scale_bar


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def offsets(figure):
    return np.concatenate(
        [c.get_offsets() for c in figure.axes[0].collections if len(c.get_offsets()) > 1]
    )


def test_spots_are_drawn_where_they_were_measured(identified):
    figure = figures.pattern_figure(identified)
    drawn = offsets(figure)
    measured = identified.analyses[0].spots.position[:, ::-1]
    for spot in measured:
        assert np.abs(drawn - spot).sum(1).min() < 1e-9


def test_indices_zone_axis_and_scale_are_written(identified):
    words = texts(figures.pattern_figure(identified))
    assert any(r"[$01\bar{1}$]" in word for word in words)
    assert any(word.endswith("1/nm") for word in words)
    assert {"a", "b"} <= set(words)
    assert "?" not in words
    assert not any("999" in word for word in words)


def test_without_phase_the_lattice_indices_stand_in(uncalibrated):
    words = texts(figures.pattern_figure(uncalibrated))
    assert "1,0" in words or "0,1" in words
    assert any(word.endswith(" px") for word in words)


def test_labels_do_not_overlap(identified):
    figure = figures.pattern_figure(identified)
    figure.canvas.draw()
    boxes = [
        t.get_window_extent()
        for t in figure.axes[0].texts
        if r"$" in t.get_text() and "[" not in t.get_text()
    ]
    assert len(boxes) > 10
    for i, one in enumerate(boxes):
        assert not any(one.overlaps(other) for other in boxes[i + 1 :])


def test_rings_are_labelled_or_marked_unknown(ringed):
    words = texts(figures.pattern_figure(ringed))
    assert "$111$" in words
    assert "?" in words


def test_mask_is_shaded_in_its_colour(identified):
    png = figures.png_bytes(figures.pattern_figure(identified), dpi=100)
    image = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
    rows, cols = identified.analyses[0].pattern.shape
    inside = image[int(126 / rows * image.shape[0]), int(20 / cols * image.shape[1])]
    assert inside[2] > inside[0] + 20


@pytest.mark.parametrize(
    "image", [np.zeros((32, 32)), np.full((32, 32), np.nan), np.eye(32) * 1e30]
)
def test_levels_of_odd_images_stay_finite(image):
    flaws = np.where(np.isfinite(image), 0, Flaw.MISSING).astype(np.uint16)
    levels = figures.display_levels(image, flaws)
    assert np.isfinite(levels).all()
    assert levels.min() >= 0
    assert levels.max() <= 1


def test_large_images_are_shrunk_before_drawing(identified):
    assert max(figures._block_mean(np.ones((4096, 3000))).shape) <= figures.DISPLAY_SIDE


def test_no_global_matplotlib_state_is_touched(identified):
    figures.pattern_figure(identified)
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()


def test_scale_bar_is_round_and_fits():
    for pixel_size in (0.0003, 0.0124, 0.07):
        bar = scale_bar(512, pixel_size)
        value, unit = bar.label.split()
        assert unit == "1/nm"
        assert value.strip("0.") in {"1", "2", "5"}
        assert bar.pixels * pixel_size * 10 == pytest.approx(float(value))
        assert 0.08 * 512 < bar.pixels <= 0.22 * 512
    assert scale_bar(512, None).label == "100 px"
