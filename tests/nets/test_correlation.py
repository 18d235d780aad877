from __future__ import annotations

import numpy as np
import pytest
import torch

from diskern.errors import DiskernError
from diskern.nets.correlation import (
    Correlation,
    correlate,
    correlation_spectrum,
    parabolic_peaks,
    upsampled_peaks,
)


def disk(shape: tuple[int, int], centre: tuple[float, float], radius: float = 5.0) -> torch.Tensor:
    rows, cols = torch.arange(shape[0]).double(), torch.arange(shape[1]).double()
    r = torch.hypot(rows[:, None] - centre[0], cols[None, :] - centre[1])
    return 0.5 - 0.5 * torch.tanh((r - radius) / 0.8)


@pytest.mark.parametrize("shape", [(32, 32), (33, 48), (40, 31)])
def test_cross_correlation_is_the_overlap_with_the_shifted_probe(shape: tuple[int, int]) -> None:
    rng = torch.Generator().manual_seed(0)
    patterns = torch.rand(3, *shape, generator=rng, dtype=torch.float64)
    probe = torch.rand(*shape, generator=rng, dtype=torch.float64)
    maps = correlate(patterns, probe)
    for row, col in ((0, 0), (7, 20), (shape[0] - 1, 3)):
        moved = torch.roll(probe, (row - shape[0] // 2, col - shape[1] // 2), (0, 1))
        assert maps[1, row, col] == pytest.approx(float((patterns[1] * moved).sum()))


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_maximum_lies_on_the_disk_whatever_the_power(power: float) -> None:
    shape = (64, 48)
    patterns = torch.stack([disk(shape, (20, 30)), disk(shape, (41, 11))]) + 0.01
    maps = correlate(patterns, disk(shape, (32, 24)), power)
    assert [divmod(int(i), 48) for i in maps.flatten(1).argmax(1)] == [(20, 30), (41, 11)]


def test_one_probe_per_pattern_and_the_layer_agree_with_the_function() -> None:
    rng = torch.Generator().manual_seed(1)
    patterns = torch.rand(2, 32, 32, generator=rng)
    probes = torch.rand(2, 32, 32, generator=rng)
    each = torch.cat([correlate(patterns[i : i + 1], probes[i], 0.5) for i in range(2)])
    torch.testing.assert_close(Correlation(0.5)(patterns, probes), each)
    assert not list(Correlation().parameters())


def test_sub_pixel_steps_find_a_centre_between_pixels() -> None:
    shape, probe = (64, 65), disk((64, 65), (32, 32))
    truth = np.array([(20.31, 30.77), (41.5, 15.05), (9.9, 50.44)])
    patterns = torch.stack([disk(shape, (r, c)) for r, c in truth])
    spectrum = correlation_spectrum(patterns, probe)
    maps = correlate(patterns, probe)
    index = torch.arange(3)
    row, col = torch.tensor(np.rint(truth).astype(int).T)
    coarse = parabolic_peaks(maps, index, row, col)
    np.testing.assert_allclose(torch.stack(coarse, 1), truth, atol=0.08)
    fine = upsampled_peaks(spectrum, shape, index, *coarse)
    np.testing.assert_allclose(torch.stack(fine, 1), truth, atol=0.006)


def test_upsampled_value_at_whole_pixels_is_the_map() -> None:
    from diskern.nets import correlation

    rng = torch.Generator().manual_seed(2)
    for shape in ((16, 18), (15, 17)):
        patterns = torch.rand(1, *shape, generator=rng, dtype=torch.float64)
        probe = torch.rand(*shape, generator=rng, dtype=torch.float64)
        rows, cols = torch.arange(shape[0])[None], torch.arange(shape[1])[None]
        value = correlation._evaluate(correlation_spectrum(patterns, probe), shape, rows, cols)
        torch.testing.assert_close(value, correlate(patterns, probe))


def test_no_peaks_give_no_positions() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    spectrum = torch.zeros(1, 8, 5, dtype=torch.complex64)
    assert len(upsampled_peaks(spectrum, (8, 8), none, none, none)[0]) == 0


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(DiskernError, match="do not fit"):
        correlate(torch.zeros(2, 8, 8), torch.zeros(9, 8))
    with pytest.raises(DiskernError, match=r"power 1\.5"):
        correlate(torch.zeros(2, 8, 8), torch.zeros(8, 8), 1.5)
