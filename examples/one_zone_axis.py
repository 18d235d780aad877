"""Simulate one zone-axis pattern with noise, identify it, and write a report.

python examples/one_zone_axis.py
"""

import numpy as np

import diskern as dk
from diskern.crystal.common import common_phases
from diskern.report.html import write_report

crystal = next(c for c in common_phases() if c.name == "Si")
spots = dk.simulate_saed(crystal, zone_axis=(0, 1, 1), energy=200e3, g_max=1.4, thickness=200.0)
image = dk.render_spots(spots, (512, 512), pixel_size=0.0055, sigma=2.0, direct_beam=1.0)
counts = np.random.default_rng(0).poisson(1e6 * image + 10.0)

pattern = dk.Pattern.from_array(counts, pixel_size=0.0055, energy=200e3, source="simulated Si")
answer = dk.identify(pattern, elements=["Si"])
write_report(answer, "one_zone_axis.html")
