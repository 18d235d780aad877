"""Constants and the relativistic electron: wavelength, interaction parameter.

Units here and everywhere: Å, 1/Å, eV, V, mrad.  Constants are CODATA 2018.
"""

import math

from diskern.errors import DiskernError

PLANCK = 6.62607015e-34
"""Planck constant in J s (exact)."""
ELECTRON_MASS = 9.1093837015e-31
"""Electron rest mass in kg."""
ELEMENTARY_CHARGE = 1.602176634e-19
"""Elementary charge in C (exact)."""
LIGHT_SPEED = 299792458.0
"""Speed of light in m/s (exact)."""
BOHR_RADIUS = 0.529177210903
"""Bohr radius in Å."""
REST_ENERGY = ELECTRON_MASS * LIGHT_SPEED**2 / ELEMENTARY_CHARGE
"""Electron rest energy in eV."""


def check_energy(energy: float) -> float:
    """Return ``energy`` in eV, or raise where it cannot be a microscope's."""
    if not (math.isfinite(energy) and 1e3 <= energy <= 1e7):
        raise DiskernError(
            f"energy={energy!r} eV is outside 1e3 to 1e7; give electronvolts, e.g. 200e3"
        )
    return float(energy)


def wavelength(energy: float) -> float:
    """Relativistic electron wavelength in Å for a kinetic energy in eV."""
    energy = check_energy(energy)
    momentum = math.sqrt(energy * (energy + 2 * REST_ENERGY)) * ELEMENTARY_CHARGE / LIGHT_SPEED
    return PLANCK / momentum * 1e10


def lorentz_factor(energy: float) -> float:
    """γ = m/m0 of the beam electron."""
    return 1 + check_energy(energy) / REST_ENERGY


def interaction_parameter(energy: float) -> float:
    """σ = 2π m e λ / h² in rad/(V Å) (Kirkland, Advanced Computing in Electron Microscopy)."""
    mass = lorentz_factor(energy) * ELECTRON_MASS
    sigma = 2 * math.pi * mass * ELEMENTARY_CHARGE * wavelength(energy) * 1e-10 / PLANCK**2
    return sigma * 1e-10
