"""The scan of the demonstration: two strained, bent grains, mapped and compared with the truth."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from diskern.patterns.pattern import Scan
    from diskern.report.gallery import Exhibit
    from diskern.report.map_report import MapResults

STRAIN, BEND, THICKNESS = 0.01, 3.0, 300.0
"""Amplitude of the strain, mrad of tilt at the edges, Å of foil."""
DOSE = 3e5
"""Electrons in a pattern."""
_CLOSE = 2e-3
"""Largest rms difference of strain from the truth that counts as agreeing."""


def simulated() -> Scan:
    """24 × 32 patterns of two aluminium grains along [001], strained, bent and turned."""
    from diskern.crystal.common import common_phases
    from diskern.simulate.instrument import Dose, Instrument
    from diskern.simulate.scan import simulate_scan
    from diskern.simulate.scan_specimen import Specimen

    aluminium = next(c for c in common_phases() if c.name == "Al")
    specimen = Specimen.polycrystal(
        [aluminium], (24, 32), 2, thickness=THICKNESS, zone_axis=(0, 0, 1), seed=9
    ).with_gradients(strain=STRAIN, bend=BEND)
    return simulate_scan(
        specimen,
        semiangle=1.8,
        shape=(128, 128),
        pixel_size=0.024,
        scan_step=(20.0, 20.0),
        instrument=Instrument((Dose(DOSE),), 1),
    )


def map_demo(folder: Path, tell: Callable[[str], None]) -> tuple[Exhibit, dict[str, Any]]:
    """Write the scan as a file, map the file as a user would, compare with the truth.

    Returns what the index page shows, its report's address within ``folder``, and the facts.
    """
    from diskern.cli._maps import Wishes, make_folder, make_maps, summary, write_maps_to
    from diskern.cli._search import Request, forget, search
    from diskern.report.gallery import Exhibit
    from diskern.report.map_report import map_picture
    from diskern.simulate.scan_write import write_scan

    make_folder(folder)
    tell("simulating a scan")
    scan = simulated()
    shape = scan.shape
    file, out = folder / "scan.h5", folder / "maps"
    write_scan(scan, file)
    make_folder(out)
    tell("finding the disks of a scan")
    vectors, there = search(Request(file), out / "blocks", out / "vectors.h5", tell)
    if not there:
        vectors.to_emd(out / "vectors.h5")
        forget(vectors, out / "blocks")
    results = make_maps(vectors, Wishes(thickness=THICKNESS / 10), file.name, tell)
    results.vectors.to_emd(out / "vectors.h5")
    written = write_maps_to(results, out, None, tell)
    indexed, lattices, off = compared(results, scan.data.specimen.strain)
    exhibit = Exhibit(
        title="Two strained, bent grains of aluminium",
        words=f"A scan of {shape[0]}×{shape[1]} patterns of a foil 30 nm thick, without an image "
        "of the beam in vacuum.",
        command=shlex.join(["diskern", "map", str(file), "-o", str(out), "--thickness", "30"]),
        answer=f"{lattices} lattices, {indexed:.1%} of the patterns indexed, e_xx within "
        f"{off * 100:.3f} % rms of the truth",
        image=map_picture(results),
        address="maps/report.html",
        truth=f"2 grains along [001], strain to ±{STRAIN:.0%}, tilt to {BEND:g} mrad at the edges",
        agrees=indexed > 0.9 and lattices == 2 and off < _CLOSE,
    )
    return exhibit, {**summary(results, written), "strain_error": off}


def compared(results: MapResults, truth: NDArray[Any]) -> tuple[float, int, float]:
    """Share of indexed patterns, number of lattices, rms error of e_xx against the truth.

    A strain map is relative to each grain's median, so the truth is taken so too.
    """
    import numpy as np

    strain, lattices = results.strain, results.lattices
    if strain is None or lattices is None:
        return 0.0, 0, float("inf")
    grain = strain.grain[0]
    known = np.isfinite(strain.e_xx)
    errors = []
    for number in np.unique(grain[known]):
        mine = known & (grain == number)
        # Deformations multiply: relative to a strained reference, not less its strain.
        expected = (1 + truth[..., 0][mine]) / (1 + np.median(truth[..., 0][mine])) - 1
        miss = strain.e_xx[mine] - expected
        errors.append(miss - np.median(miss))
    off = float(np.sqrt(np.mean(np.concatenate(errors) ** 2))) if errors else float("inf")
    return float((lattices.label[0] >= 0).mean()), len(lattices.bases), off
