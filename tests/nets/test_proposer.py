"""From patterns to proposals: probes measured, binning undone, units, refusals."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from diskern.bragg.disk_probe import Probe
from diskern.bragg.disk_proposer import LearnedProposer
from diskern.errors import DiskernError
from diskern.nets.disk_scale import scale_of
from diskern.nets.disk_unet import STRIDE, DiskMaps, DiskUNet
from diskern.nets.disk_units import unit_of, volts_of
from diskern.nets.proposer import (
    ProbeShape,
    Proposer,
    estimated_gain,
    heat_peaks,
)
from diskern.nets.registry import Card, Model


def model(net: torch.nn.Module, **calibration: float) -> Model:
    return Model(Card("test", "proposer", {"width": 8}, "", calibration=calibration), net)


class Oracle(DiskUNet):
    """Says that there is a disk where the pattern, rescaled, has its brightest pixel."""

    def __init__(self) -> None:
        super().__init__(8)

    def forward(self, patterns, probes, radius, edge, fill, *, twice):  # type: ignore[no-untyped-def]
        count, height, width = patterns.shape
        at = patterns.flatten(1).argmax(1)
        row, col = at // width, at % width
        cells = [(x + 0.5) / STRIDE - 0.5 for x in (row.float(), col.float())]
        i, j = (torch.round(c).long() for c in cells)
        blank = torch.zeros(count, height // STRIDE, width // STRIDE)
        heat = blank - 9
        offset = torch.zeros(count, 2, *blank.shape[1:])
        for b in range(count):
            heat[b, i[b], j[b]] = 3.0
            offset[b, :, i[b], j[b]] = torch.stack([cells[0][b] - i[b], cells[1][b] - j[b]])
        return DiskMaps(heat, offset, blank + 1, blank - 2, blank - 1, blank - 1, blank - 1)


@pytest.mark.parametrize(("radius", "edge"), [(2.3, 0.4), (5.0, 0.8), (9.4, 1.5), (17.0, 2.0)])
def test_a_probe_is_measured(radius: float, edge: float) -> None:
    shape = ProbeShape.of(Probe.synthetic((96, 96), radius, edge).image)
    assert shape.radius == pytest.approx(radius, abs=0.35)
    assert shape.edge == pytest.approx(edge, abs=0.6)
    assert shape.fill > 0.9


def test_an_annular_probe_keeps_its_outer_radius() -> None:
    shape = ProbeShape.of(Probe.synthetic((96, 96), 9.0, 0.6, "annular", hole=0.6).image)
    assert shape.radius == pytest.approx(9.0, abs=0.4)
    assert shape.fill == pytest.approx(1 - 0.36, abs=0.1)


@pytest.mark.parametrize("radius", [3.0, 8.5, 13.0, 19.0])
def test_places_come_back_in_pixels_of_the_pattern(radius: float) -> None:
    patterns = np.zeros((2, 90, 110), dtype=np.float32)
    scale = scale_of(radius)
    truth = [(31, 40), (60, 77)]
    for pattern, (row, col) in zip(patterns, truth, strict=True):
        pattern[row, col] = 100
    probe = Probe.synthetic((90, 110), radius).image
    found = Proposer(model(Oracle()))(patterns, probe)
    assert found.pattern.tolist() == [0, 1]
    # A single pixel is known to within the square it was summed into, or to one of its quarters.
    off = abs(scale - 1) / 2 + 1e-4
    assert found.row == pytest.approx([r for r, _ in truth], abs=off)
    assert found.col == pytest.approx([c for _, c in truth], abs=off)


def test_units_need_energy_and_scale() -> None:
    patterns = np.zeros((1, 64, 64), dtype=np.float32)
    patterns[0, 20, 30] = 50
    probe = Probe.synthetic((64, 64), 4.0)
    bare = Proposer(model(Oracle()))(patterns, probe.image)
    assert np.isnan([bare.v_g, bare.sigma_v_g, bare.q_z, bare.sigma_q_z]).all()
    told = Proposer(model(Oracle(), temperature_q=2.0), energy=200e3, pixel_size=0.02)
    found = told(patterns, probe.image)
    unit = unit_of(200e3, ProbeShape.of(probe.image).radius * 0.02)
    assert found.v_g == pytest.approx(float(volts_of(np.e, 200e3, unit)))
    assert found.q_z == pytest.approx(-4 * np.sinh(2) * unit)
    assert found.sigma_q_z == pytest.approx(np.sinh(2 * np.exp(-1)) * 4 * np.cosh(2) * unit)


def test_maxima_closer_than_half_a_radius_are_one() -> None:
    heat = torch.full((1, 32, 32), -9.0)
    heat[0, 10, 10], heat[0, 10, 12], heat[0, 25, 25] = 2.0, 1.0, 0.5
    blank = torch.zeros_like(heat)
    maps = DiskMaps(heat, blank[:, None].repeat(1, 2, 1, 1), *(blank,) * 5)
    assert len(heat_peaks(maps, 0.3, 8.0)[0]) == 2
    assert len(heat_peaks(maps, 0.3, 2.0)[0]) == 3
    assert len(heat_peaks(maps, 0.7, 2.0)[0]) == 2


def test_bad_input_is_refused_in_one_line() -> None:
    proposer = Proposer(model(DiskUNet(8)))
    with pytest.raises(DiskernError, match="do not fit"):
        proposer(np.zeros((2, 64, 64)), np.ones((32, 32)))
    with pytest.raises(DiskernError, match="probe"):
        proposer(np.zeros((2, 64, 64)), np.zeros((64, 64)))
    with pytest.raises(DiskernError, match="radius"):
        ProbeShape.of(np.eye(1, 64 * 64, 64 * 32 + 32).reshape(64, 64))
    with pytest.raises(DiskernError, match="pixel_size"):
        Proposer(model(DiskUNet(8)), pixel_size=-1.0)
    with pytest.raises(DiskernError, match="threshold"):
        Proposer(model(DiskUNet(8)), threshold=1.5)
    with pytest.raises(DiskernError, match="no proposer"):
        Proposer(replace(model(torch.nn.Linear(1, 1))))


@pytest.mark.parametrize("value", [0.0, -5.0, np.nan, np.inf, 1e9])
def test_hostile_patterns_pass_through_the_network(value: float) -> None:
    patterns = np.full((1, 64, 80), value, dtype=np.float32)
    probe = Probe.synthetic((64, 80), 4.0).image
    found = LearnedProposer(Proposer(model(DiskUNet(8)), threshold=0.01))(patterns, probe)
    assert np.isfinite(found.row).all()
    assert len(LearnedProposer(Proposer(model(DiskUNet(8))))(patterns[:0], probe)) == 0


@pytest.mark.parametrize(("gain", "expected"), [(1.0, 1.0), (40.0, 40.0), (1e-3, 1e-3), (1.7, 1.0)])
def test_gain_comes_from_the_noise(gain: float, expected: float) -> None:
    rng = np.random.default_rng(3)
    rows, cols = np.mgrid[:128, :128] - 64
    mean = 2 + 60 * np.exp(-np.hypot(rows, cols) / 25)
    mean += Probe.synthetic((128, 128), 5.0).image * 3e4
    patterns = (gain * rng.poisson(mean, (4, 128, 128))).astype(np.float32)
    assert estimated_gain(patterns) == pytest.approx(expected, rel=0.4)
    assert estimated_gain(np.zeros((1, 64, 64), dtype=np.float32)) == 1
    assert estimated_gain(np.zeros((0, 64, 64), dtype=np.float32)) == 1


def test_patterns_without_noise_are_those_of_a_great_dose() -> None:
    image = Probe.synthetic((96, 96), 5.0).image[None].astype(np.float32)
    assert image.sum() / estimated_gain(image) <= 1.01e8
