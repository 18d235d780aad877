"""Which of a few structures made a pattern?  Candidates may be crystals or CIF files.

python examples/own_candidates.py
"""

import numpy as np

import diskern as dk

ANGSTROM = {"CsCl-type": (2.88, [[0, 0, 0], [0.5, 0.5, 0.5]]), "primitive": (2.88, [[0, 0, 0]])}

candidates = [
    dk.Crystal.from_arrays(
        [a, a, a, 90, 90, 90], positions, [28, 13][: len(positions)], u_iso=0.006, name=name
    )
    for name, (a, positions) in ANGSTROM.items()
]
truth = candidates[0]
spots = dk.simulate_saed(truth, zone_axis=(0, 0, 1), energy=200e3, g_max=1.4, thickness=100.0)
image = dk.render_spots(spots, (256, 256), pixel_size=0.011, sigma=1.5, direct_beam=1.0)
counts = np.random.default_rng(1).poisson(1e6 * image + 5.0)

pattern = dk.Pattern.from_array(counts, pixel_size=0.011, energy=200e3)
answer = dk.identify(pattern, candidates=candidates)
best = answer.phases[0]
assert best.name == truth.name, answer
