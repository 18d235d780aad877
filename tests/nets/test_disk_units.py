"""Units without calibration: what they promise, and the way back to volts."""

import numpy as np
import pytest

from diskern.crystal.common import common_phases
from diskern.nets.disk_units import unit_of, volts_of
from diskern.physics import wavelength
from diskern.simulate.structure_factors import Reflections


def test_coupling_becomes_the_volts_of_the_structure_factor() -> None:
    aluminium = next(c for c in common_phases(["Al"]) if c.formula == "Al")
    table = Reflections.of(aluminium, 1.0)
    table = table.select(table.allowed)
    for energy, aperture in ((80e3, 0.03), (300e3, 0.15)):
        unit = unit_of(energy, aperture)
        coupling = 1 / (table.extinction_distance(energy) * unit)
        assert volts_of(coupling, energy, unit) == pytest.approx(np.abs(table.V()), rel=1e-6)


def test_unit_is_the_sagitta_of_the_ewald_sphere_twice() -> None:
    # Over k_R the sphere leaves its tangent plane by λ k_R²/2.
    energy, aperture = 200e3, 0.1
    k = 1 / wavelength(energy)
    sagitta = k - np.sqrt(k * k - aperture * aperture)
    assert unit_of(energy, aperture) == pytest.approx(2 * sagitta, rel=1e-3)
