"""The relativistic electron against tabulated values."""

import pytest

from diskern import DiskernError
from diskern.physics import interaction_parameter, wavelength


@pytest.mark.parametrize(
    ("kilovolt", "angstrom"),
    [(60, 0.048661), (80, 0.041757), (100, 0.037014), (120, 0.033492), (200, 0.025079),
     (300, 0.019687), (1000, 0.008719)],
)  # fmt: skip
def test_wavelength(kilovolt, angstrom):
    assert wavelength(kilovolt * 1e3) == pytest.approx(angstrom, abs=6e-7)


@pytest.mark.parametrize(("kilovolt", "sigma"), [(100, 9.244e-4), (200, 7.288e-4), (300, 6.526e-4)])
def test_interaction_parameter(kilovolt, sigma):
    assert interaction_parameter(kilovolt * 1e3) == pytest.approx(sigma, abs=6e-8)


@pytest.mark.parametrize("energy", [0, -1, 200, float("nan"), 1e9])
def test_impossible_energies_name_the_unit(energy):
    with pytest.raises(DiskernError, match="electronvolts"):
        wavelength(energy)
