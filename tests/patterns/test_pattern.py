"""The pattern and the scan as containers."""

import numpy as np
import pytest

from diskern import DiskernError, Pattern, Scan

IMAGE = np.arange(32 * 40).reshape(32, 40)


def test_a_pattern_is_float32_and_says_what_it_knows():
    pattern = Pattern.from_array(IMAGE.astype(np.uint16), pixel_size=0.01, energy=200e3)
    assert pattern.image.dtype == np.float32
    assert pattern.shape == (32, 40)
    assert "0.01 1/Å" in repr(pattern)
    assert "200 kV" in repr(pattern)
    assert "uncalibrated" in repr(Pattern.from_array(IMAGE))


@pytest.mark.parametrize(
    ("image", "known", "words"),
    [
        (np.zeros((4, 4)), {}, "at least 16"),
        (np.zeros(300), {}, "2-D"),
        (np.zeros((32, 32), dtype=complex), {}, "real"),
        (np.full((32, 32), np.nan), {}, "finite"),
        (np.array([["a"] * 32] * 32), {}, "real"),
        (IMAGE, {"pixel_size": -0.1}, "pixel_size"),
        (IMAGE, {"pixel_size": float("inf")}, "pixel_size"),
        (IMAGE, {"energy": 200}, "electronvolts"),
    ],
)
def test_impossible_patterns(image, known, words):
    with pytest.raises(DiskernError, match=words):
        Pattern.from_array(image, **known)


class Counting:
    """A cube that remembers how much was read at once."""

    def __init__(self, cube):
        self.cube, self.shape, self.dtype, self.largest = cube, cube.shape, cube.dtype, 0

    def __getitem__(self, key):
        block = self.cube[key]
        self.largest = max(self.largest, block.size)
        return block


def test_a_scan_reads_only_what_is_asked_for():
    cube = np.random.default_rng(0).poisson(5, (3, 4, 16, 18))
    lazy = Counting(cube)
    scan = Scan.from_array(lazy, pixel_size=0.02)
    assert lazy.largest == 0
    assert np.array_equal(scan.pattern(1, 2).image, cube[1, 2])
    assert np.array_equal(scan.pattern(-1, -1).image, cube[-1, -1])
    assert lazy.largest == 16 * 18
    assert np.allclose(scan.mean_pattern().image, cube.mean((0, 1)))
    assert lazy.largest == 4 * 16 * 18
    assert len(list(scan.patterns())) == 12
    assert scan.pattern(0, 0).pixel_size == 0.02
    with pytest.raises(DiskernError, match="outside the 3×4 scan"):
        scan.pattern(3, 0)


def test_a_stack_is_one_scan_row():
    stack = np.random.default_rng(0).poisson(5, (5, 16, 16))
    scan = Scan.from_array(stack)
    assert scan.shape == (1, 5, 16, 16)
    assert np.array_equal(scan.pattern(0, 3).image, stack[3])
    assert np.allclose(scan.mean_pattern().image, stack.mean(0))
    assert np.array_equal(scan.data[0:1, 1:3], stack[None, 1:3])


def test_a_scan_needs_four_dimensions():
    with pytest.raises(DiskernError, match="scan_y"):
        Scan.from_array(np.zeros((16, 16)))
