"""Uncertainties that know in which direction diffraction draws.

The excitation error changes along g and hardly across it, so the lines and fringes inside a disk
run across g.  What of them no polynomial follows, or drowns in noise, moves the fitted place along
g and not across.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from diskern.bragg.disks import Disks, directness

ALONG, ACROSS = 1.2, 0.85
"""Times σ along and across g, of disks that show contrast: errors of simulated patterns of the
validation side of `diskern.train.disks` are 1.25 (Bloch waves) to 1.4 (two beams) times as large
along g.  The product is left as it is."""
FAR = 1.5
"""Radii from the direct beam from which on the direction of g is known."""


def directed(disks: Disks, shape: tuple[int, ...], radius: float) -> Disks:
    """The disks with covariances longer along g than across.

    Parameters
    ----------
    disks : sorted by pattern.
    shape : of the patterns in px.
    radius : of a disk in px.
    """
    if len(disks) == 0:
        return disks
    place = np.stack([disks.row, disks.col], 1)
    order = np.lexsort((-directness(place, disks.intensity, shape), disks.pattern))
    patterns, first = np.unique(disks.pattern[order], return_index=True)
    g = place - place[order[first]][np.searchsorted(patterns, disks.pattern)]
    length = np.hypot(g[:, 0], g[:, 1])
    known = (length > FAR * radius) & (disks.order > 0)
    down, right = (np.divide(x, length, out=np.zeros(len(g)), where=known) for x in g.T)
    # M = ACROSS + (ALONG - ACROSS) u uᵀ with u along g; the covariance becomes M C M.
    across = np.where(known, ACROSS, 1.0)
    more = np.where(known, ALONG - ACROSS, 0.0)
    m = np.empty((len(g), 2, 2))
    m[:, 0, 0], m[:, 1, 1] = across + more * down**2, across + more * right**2
    m[:, 0, 1] = m[:, 1, 0] = more * down * right
    c = np.empty_like(m)
    c[:, 0, 0], c[:, 1, 1] = disks.sigma_row**2, disks.sigma_col**2
    c[:, 0, 1] = c[:, 1, 0] = disks.covariance
    c = m @ c @ m
    return replace(
        disks,
        sigma_row=np.sqrt(c[:, 0, 0]),
        sigma_col=np.sqrt(c[:, 1, 1]),
        covariance=c[:, 0, 1],
    )
