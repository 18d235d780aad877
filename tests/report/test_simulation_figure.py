"""The figure of a simulated pattern: where the indices stand."""

import numpy as np
import pytest

from diskern.report.simulation_figure import simulation_figure
from diskern.simulate.spot_pattern import SpotPattern

PIXEL = 0.02


def four_around() -> SpotPattern:
    """Reflections 20 px from the beam."""
    hkl = np.array([[1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0]])
    return SpotPattern(hkl, hkl[:, :2] * 20 * PIXEL, np.zeros(4), np.ones(4), 200e3, 100.0, 1.0)


@pytest.mark.parametrize(("radius", "above"), [(6.0, 9.0), (12.0, 0.0), (0.0, 9.0)])
def test_indices_stand_above_disks_or_on_their_middles_where_these_overlap(radius, above):
    figure = simulation_figure(
        np.ones((128, 128)), PIXEL, four_around(), clearance=9.0, radius=radius
    )
    labels = [text for text in figure.axes[0].texts if "nm" not in text.get_text()]
    places = {tuple(np.round(text.get_position(), 6)) for text in labels}
    expected = {(64 + 20 * x, 64 + 20 * y - above) for x, y in ((1, 0), (0, 1), (-1, 0), (0, -1))}
    assert places == expected


def test_indices_stay_above_spots_however_close():
    figure = simulation_figure(np.ones((128, 128)), PIXEL, four_around(), clearance=15.0)
    assert min(t.get_position()[1] for t in figure.axes[0].texts) == pytest.approx(64 - 20 - 15)
