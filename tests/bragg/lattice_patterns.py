"""Simulated spot sets for the tests of the lattice fit: nets, what hides them, and clutter."""

from __future__ import annotations

import numpy as np

from diskern.bragg.spots import Spots
from diskern.patterns.geometry import Centre

SHAPE = (512, 512)
MIDDLE = np.array([256.0, 256.0])
BRAVAIS = ("square", "hexagonal", "rectangular", "rhombic", "oblique")


def turn(degrees):
    """(2, 2) R: (row, column) vectors @ R are turned from +column towards +row."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s], [s, c]])


def net(rng, kind, spacing, distortion=0.02):
    """(2, 2) basis of a Bravais net, turned at random and slightly distorted."""
    ratio, angle = rng.uniform(1.1, 1.7), rng.uniform(65, 85)
    if kind in ("square", "hexagonal", "rhombic"):
        ratio = 1.0
    if kind in ("square", "rectangular"):
        angle = 90.0
    if kind == "hexagonal":
        angle = 60.0
    b = ratio * np.array([np.sin(np.radians(angle)), np.cos(np.radians(angle))])
    strain = np.eye(2) + rng.uniform(-distortion, distortion, (2, 2))
    return spacing * np.array([[0.0, 1.0], b]) @ turn(rng.uniform(0, 360)) @ strain


def nodes(basis, origin=MIDDLE, radius=200.0):
    """Indices and places of all nodes but the direct beam, nearest first."""
    index = np.mgrid[-40:41, -40:41].reshape(2, -1).T
    away = np.linalg.norm(index @ basis, axis=1)
    index = index[(away > 0) & (away < radius)]
    index = index[np.argsort(np.linalg.norm(index @ basis, axis=1), kind="stable")]
    return index, origin + index @ basis


def clutter(rng, count, radius=190.0, origin=MIDDLE):
    return origin + rng.uniform(-radius, radius, (count, 2))


def measured(rng, places, sigma=0.3, stated=None, intensity=None):
    """Spots at these places with noise, strongest first, and the order they were put in."""
    count = len(places)
    intensity = rng.exponential(100.0, count) if intensity is None else np.asarray(intensity)
    order = np.argsort(-intensity, kind="stable")
    position = places[order] + rng.normal(0, sigma, (count, 2))
    stated = sigma if stated is None else stated
    spots = Spots(
        position,
        np.full((count, 2), stated),
        intensity[order],
        np.maximum(np.sqrt(intensity[order]), 1.0),
        np.full(count, 2.0),
    )
    return spots, order


def beam(rng, origin=MIDDLE, sigma=0.5):
    row, col = origin + rng.normal(0, sigma, 2)
    return Centre(float(row), float(col), sigma, "simulated")


def is_same(lattice, basis, tolerance=0.06):
    """Whether a fit has found this net, up to the choice of basis."""
    if lattice.rank != 2:
        return False
    change = lattice.basis @ np.linalg.inv(basis)
    whole = np.rint(change)
    unimodular = abs(abs(np.linalg.det(whole)) - 1) < 0.1
    return bool(unimodular and np.abs(change - whole).max() < tolerance)
