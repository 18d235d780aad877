"""How far reflections lie from the Ewald sphere."""

from __future__ import annotations

from typing import Any

from diskern.simulate.arrays import namespace


def excitation_errors(lab: Any, lam: float) -> Any:
    """(...) signed s_g in 1/Å of (..., 3) lab-frame g, beam along +z, free of cancellation.

    (|k|² - |k+g|²)/(2|k+g|), written so that float32 keeps its digits.
    """
    x, y, z = lab[..., 0], lab[..., 1], lab[..., 2]
    # Three products: a sum over an axis of three is slow.
    return errors_of(2 / lam * z + (x * x + y * y + z * z), lam)


def errors_of(excess: Any, lam: float) -> Any:
    """(...) signed s_g in 1/Å from |k+g|² - |k|² in 1/Å²."""
    k = 1 / lam
    return -excess / (2 * namespace(excess).sqrt(k * k + excess))
