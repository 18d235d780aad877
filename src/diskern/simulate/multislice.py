"""The multislice engine: transmit, propagate, read the pattern at any number of depths.

Conventional split-step solution of the paraxial wave equation (Cowley & Moodie, Acta Cryst. 10
(1957) 609; Kirkland, Advanced Computing in Electron Microscopy) with the exact vacuum dispersion
in the propagator and the beam tilt in it too, so one potential serves every tilt.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from diskern.errors import DiskernError
from diskern.physics import interaction_parameter, wavelength
from diskern.simulate.multislice_grid import Grid


def transmission(
    potentials: torch.Tensor, grid: Grid, energy: float, *, band_limit: bool = True
) -> torch.Tensor:
    """exp(iσV) of (M, ny, nx) projected potentials in V Å, limited to what the grid carries."""
    phase = interaction_parameter(energy) * potentials
    wave = torch.polar(torch.ones_like(phase), phase)
    if not band_limit:
        return wave
    mask = grid.antialias(wave.device).to(phase.dtype)
    limited: torch.Tensor = torch.fft.ifft2(torch.fft.fft2(wave) * mask)
    return limited


def propagator(
    grid: Grid,
    energy: float,
    distance: float,
    k_transverse: torch.Tensor | None = None,
    *,
    band_limit: bool = True,
    dtype: torch.dtype = torch.complex64,
    device: torch.device | None = None,
) -> torch.Tensor:
    """Free flight over ``distance`` Å in reciprocal space.

    Parameters
    ----------
    k_transverse : (B, 2) transverse wave vectors (k_y, k_x) of the incident beams in 1/Å,
        sin(tilt)/λ; the waves propagated are then those with exp(2πi k·r) divided out.

    Returns
    -------
    (ny, nx), or (B, ny, nx) with tilts; the phase of the incident beam itself is left out.
    """
    k0 = 1 / wavelength(energy)
    k_y, k_x = grid.wave_numbers(device)
    if k_transverse is None:
        tilt_y = tilt_x = torch.zeros((), dtype=torch.float64, device=device)
    else:
        tilt = k_transverse.to(device=device, dtype=torch.float64)
        tilt_y, tilt_x = tilt[:, 0, None, None], tilt[:, 1, None, None]
    in_plane = (k_y + tilt_y) ** 2 + (k_x + tilt_x) ** 2
    incident = tilt_y**2 + tilt_x**2
    if float(incident.max()) >= 0.25 * k0**2:
        raise DiskernError("the beam is tilted by more than 30°; orient the crystal instead")
    # k_z(k) - k_z(incident) without cancellation; evanescent waves are dropped by the mask.
    k_z = torch.sqrt(torch.clamp(k0**2 - in_plane, min=0.0))
    change = (incident - in_plane) / (k_z + torch.sqrt(k0**2 - incident))
    wave = torch.polar(torch.ones_like(change), 2 * math.pi * distance * change)
    if band_limit:
        wave = wave * grid.antialias(device)
    return wave.to(dtype)


def multislice(
    wave: torch.Tensor,
    transmissions: torch.Tensor | Callable[[int], torch.Tensor],
    propagate: torch.Tensor,
    exits: Sequence[int],
) -> torch.Tensor:
    """Carry waves through a stack of slices.

    Parameters
    ----------
    wave : (B, ny, nx) incident waves in reciprocal space.
    transmissions : (M, ny, nx) slices, repeated as often as the deepest exit needs, or a function
        that returns slice number n.
    propagate : (ny, nx) or (B, ny, nx) from `propagator`.
    exits : numbers of slices after which the wave is wanted, in any order, 0 for the incident
        wave.

    Returns
    -------
    (T, B, ny, nx) waves in reciprocal space, in the order of ``exits``.
    """
    if not exits or min(exits) < 0:
        raise DiskernError(f"exits={list(exits)} must be slice counts of 0 or more")
    if callable(transmissions):
        slice_at = transmissions
    else:
        stack = transmissions

        def slice_at(n: int) -> torch.Tensor:
            return stack[n % len(stack)]

    wanted: dict[int, list[int]] = {}
    for place, n in enumerate(exits):
        wanted.setdefault(int(n), []).append(place)
    out = wave.new_empty((len(exits), *wave.shape), dtype=propagate.dtype)
    current = wave.to(propagate.dtype)
    for n in range(max(wanted) + 1):
        for place in wanted.get(n, ()):
            out[place] = current
        if n == max(wanted):
            break
        real = torch.fft.ifft2(current)
        real *= slice_at(n)
        current = torch.fft.fft2(real)
        current *= propagate
    return out
