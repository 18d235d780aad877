"""The atlas draws the nets that its labels name."""

from __future__ import annotations

import numpy as np
import pytest

from diskern.report.contact_sheet import contact_sheet
from diskern.report.crystal_counts import count_crystals, counts_figure
from diskern.report.lookalike_atlas import _net, atlas_figure, members_text
from diskern.symmetry.lookalike import lookalike_labels, zone_basis


def test_drawn_nets_have_the_shape_of_the_reflections() -> None:
    """Each drawn net is, up to scale, the net of visible spots of every member it names."""
    for entry in lookalike_labels().classes:
        basis = _net(entry)
        drawn = np.sort(np.linalg.norm([basis[0], basis[1], basis[0] - basis[1]], axis=1))
        for setting, zone in entry.members:
            ij = np.array([(i, j) for i in range(-9, 10) for j in range(-9, 10) if i or j])
            hkl = ij @ zone_basis(zone)
            lengths = np.unique(np.round(np.linalg.norm(hkl, axis=1), 6))
            scale = _fitting_scale(drawn, lengths)
            assert scale is not None, (entry.label, setting.title, zone)


def _fitting_scale(drawn: np.ndarray, lengths: np.ndarray) -> float | None:
    for length in lengths[:40]:
        wanted = drawn * length / drawn[0]
        if all(np.abs(lengths - w).min() < 2e-3 * w for w in wanted):
            return float(length)
    return None


def test_every_class_is_on_the_sheet() -> None:
    figure = atlas_figure(lookalike_labels())
    titles = [axes.get_title() for axes in figure.axes]
    assert sum(bool(t) for t in titles) == 61


def test_long_lists_are_cut() -> None:
    entry = next(c for c in lookalike_labels().classes if len(c.members) == 7)
    assert members_text(entry, 3).endswith("more")
    assert "more" not in members_text(entry, 99)


def test_sheet_needs_a_caption_each() -> None:
    from diskern.errors import DiskernError

    image = np.zeros((8, 8))
    with pytest.raises(DiskernError, match="captions"):
        contact_sheet([image], [])
    figure = contact_sheet([image, image + 3], ["dark", "flat"], title="two")
    assert len(figure.axes) == 2


def test_counts() -> None:
    from diskern.crystal.common import common_phases
    from diskern.crystal.sources.catalogue import list_crystals

    listed, refused = list_crystals((c.name, c) for c in common_phases(["Al", "Si", "Fe", "O"]))
    assert not refused
    counts = count_crystals(listed)
    assert counts["crystals"] == sum(counts["space_groups"].values()) == len(listed)
    assert list(counts["space_groups"].values()) == sorted(
        counts["space_groups"].values(), reverse=True
    )
    assert counts_figure(listed).axes
