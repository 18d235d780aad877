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


@pytest.mark.parametrize(("clearance", "above"), [(6.0, 6.0), (12.0, 0.0)])
def test_indices_stand_above_disks_or_on_their_middles_where_these_overlap(clearance, above):
    figure = simulation_figure(np.ones((128, 128)), PIXEL, four_around(), clearance=clearance)
    labels = [text for text in figure.axes[0].texts if "nm" not in text.get_text()]
    places = {tuple(np.round(text.get_position(), 6)) for text in labels}
    expected = {(64 + 20 * x, 64 + 20 * y - above) for x, y in ((1, 0), (0, 1), (-1, 0), (0, -1))}
    assert places == expected
