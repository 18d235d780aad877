"""Figures of maps: they draw whatever the maps hold, and colours mean what the legend says."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diskern.errors import DiskernError
from diskern.mapping.index import index_vectors
from diskern.mapping.strain import strain_map
from diskern.mapping.tilt import tilt_map
from diskern.report import map_figures, map_style

sys.path.insert(0, str(Path(__file__).parents[1] / "mapping"))

from mapping_scans import SQUARE, combine, rotated, scan, vectors

KNOWN = {"pixel_size": 0.01, "energy": 200e3, "scan_step": (10.0, 10.0)}


def lattices_of(shape, missing_position=True):
    left, right = scan(shape, missing=0.2), scan(shape, rotated(SQUARE, 20), missing=0.2)
    x = np.indices(shape)[1]
    points = combine([(left, x < shape[1] * 0.6), (right, x >= shape[1] * 0.5)])
    points = replace(points, q_z=np.zeros(len(points)), sigma_q_z=np.full(len(points), 1e-3))
    if missing_position:
        points = points.select(points.pattern != 1)
    return index_vectors(points), vectors(points, **KNOWN).calibration


def pixels(figure):
    return np.asarray(Image.open(io.BytesIO(map_style.png(figure, 60))).convert("RGB"))


@pytest.mark.parametrize("shape", [(8, 12), (3, 60), (40, 3), (1, 9)])
def test_every_shape_of_scan_is_drawn(shape):
    lattices, known = lattices_of(shape)
    figures = [
        map_figures.strain_figure(strain_map(lattices, calibration=known)),
        map_figures.tilt_figure(tilt_map(lattices, calibration=known)),
        map_figures.grain_figure(lattices, known.scan_step),
    ]
    for figure in figures:
        image = pixels(figure)
        assert image.std() > 5
        assert max(image.shape) < 1500


def test_maps_without_any_value_are_drawn():
    lattices, known = lattices_of((4, 4), missing_position=False)
    nothing = index_vectors(lattices.points.select(np.zeros(len(lattices.points), dtype=bool)))
    assert pixels(map_figures.strain_figure(strain_map(nothing))).size
    assert pixels(map_figures.grain_figure(nothing)).size
    empty = tilt_map(lattices, calibration=known)
    empty = replace(empty, tilt=np.full_like(empty.tilt, np.nan))
    assert pixels(map_figures.tilt_figure(empty)).size


def test_unknown_positions_are_grey_not_a_colour_of_the_scale():
    figure = map_style.new_figure(2, 2)
    axes = figure.add_axes((0, 0, 1, 1))
    values = np.zeros((4, 4))
    values[:2] = np.nan
    map_style.draw_map(axes, values, map_style.DIVERGING, -1, 1)
    image = pixels(figure).astype(int)
    upper, lower = image[10:50], image[70:110]
    assert np.ptp(upper.mean(axis=(0, 1))) < 20
    assert upper.mean() < lower.mean() - 15


def test_strain_colours_are_symmetric():
    lattices, known = lattices_of((8, 12))
    figure = map_figures.strain_figure(strain_map(lattices, calibration=known))
    images = [a.images[0] for a in figure.axes if a.images and a.get_title(loc="left")]
    for image in images[:4]:
        low, high = image.get_clim()
        assert low == -high


def test_vector_map_and_images():
    lattices, _ = lattices_of((4, 4))
    histogram = vectors(lattices.points).histogram()
    figure = map_figures.vector_map_figure(
        histogram, 0.01, bases=lattices.bases, origin=(128.0, 128.0)
    )
    assert pixels(figure).max() > 200
    empty = map_figures.vector_map_figure(np.zeros((32, 48)))
    assert pixels(empty).size
    assert pixels(map_figures.images_figure({"one": np.ones((4, 5))})).size
    with pytest.raises(DiskernError, match="1 to 4"):
        map_figures.images_figure({})


def test_direction_colours_differ_and_fade_to_white():
    angle = np.radians([0, 90, 180, 270])
    full = map_style.vector_colours(np.stack([np.cos(angle), np.sin(angle)], -1), 1.0)
    apart = np.linalg.norm(full[:, None] - full[None], axis=-1)
    assert apart[~np.eye(4, dtype=bool)].min() > 0.25
    assert map_style.vector_colours(np.zeros(2), 1.0).min() > 0.93


def test_lch_of_known_colours():
    assert map_style.lch_to_rgb(np.array(100.0), np.array(0.0), np.array(0.0)) == pytest.approx(
        1, abs=2e-3
    )
    red = map_style.lch_to_rgb(np.array(53.24), np.array(104.55), np.array(40.0))
    assert red == pytest.approx([1, 0, 0], abs=0.02)


@pytest.mark.parametrize(
    ("width", "step", "label"),
    [(100, 10.0, "20 nm"), (256, 500.0, "5 µm"), (64, None, "20 px"), (2, 5.0, "0.2 nm")],
)
def test_scan_bars_are_round(width, step, label):
    bar = map_style.scan_bar(width, step)
    assert bar.label == label
    assert bar.pixels <= 0.4 * width + 1e-9


def test_limits_are_round_and_cover():
    for value in (0.0123, 0.99, 1.0, 7.2e-5):
        limit = map_style.round_up(value)
        assert value <= limit * (1 + 1e-9)
        assert limit < 1.6 * value
    assert map_style.round_up(0.0) == 1.0
    assert map_style.symmetric_limit(np.full((3, 3), np.nan)) == 1.0


def test_figures_are_written_whole(tmp_path):
    lattices, _ = lattices_of((4, 4))
    path = map_figures.save_figure(map_figures.grain_figure(lattices), tmp_path / "grains.png")
    assert Image.open(path).width > 500
    with pytest.raises(DiskernError, match="cannot write"):
        map_figures.save_figure(map_figures.grain_figure(lattices), tmp_path / "no" / "g.png")
