"""`diskern bragg`: a 4D-STEM scan in, its Bragg vectors out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from diskern.cli import _scan_options as given
from diskern.cli._output import console, write_json
from diskern.errors import DiskernError

if TYPE_CHECKING:
    from diskern.bragg.vectors import BraggVectors

Output = Annotated[
    Path, given.option("Output", "FILE", ".h5 (EMD, as py4DSTEM), .zarr, .csv.", "--output", "-o")
]  # fmt: skip


def bragg(
    file: given.ScanFile,
    output: Output,
    probe: given.ProbeFile = None,
    mask: given.MaskFile = None,
    dark_level: given.DarkLevel = None,
    proposer: given.ProposerName = None,
    dataset: given.Dataset = None,
    pixel_size: given.PixelSize = None,
    voltage: given.Voltage = None,
    step: given.Step = None,
    jobs: given.Jobs = 1,
    scheduler: given.Scheduler = None,
    resume: given.Resume = True,
    json: given.Json = None,
) -> None:
    """Find and measure the disks of every pattern of a 4D-STEM scan.

    The scan may be larger than memory. A run that was cut off goes on where it was when called
    again.

    Example:  diskern bragg scan.h5 -o vectors.h5 --jobs 4
    """
    from diskern.bragg.find import how_found
    from diskern.cli._search import Request, forget, search

    _check_ending(output)
    request = Request.of(locals())
    blocks = output.with_name(f"{output.name}.blocks")
    known = output if output.suffix.lower() in _EMD else None
    vectors, there = search(request, blocks, known)
    there = there and pixel_size is voltage is step is None
    if not there:
        save(vectors, output)
        forget(vectors, blocks)
    if json is not None:
        write_json(facts(vectors, output), json)
    if json != "-":
        console().print(repr(vectors), markup=False)
        for name, words in how_found(vectors.provenance).items():
            console().print(f"  {name:<16} {words}", markup=False)
        for note in vectors.provenance.get("notes", ()):
            console().print(f"note: {note}", markup=False)
        console().print(f"{'Already there' if there else 'Written'}: {output}", markup=False)


_EMD = (".h5", ".hdf5", ".emd")


def _check_ending(path: Path) -> None:
    if path.suffix.lower() not in (*_EMD, ".zarr", ".csv"):
        raise DiskernError(f"{path.name} has no known ending; use .h5, .zarr or .csv")
    if not path.parent.is_dir():
        raise DiskernError(f"{path.parent} is no folder; make it first")


def save(vectors: BraggVectors, path: Path) -> None:
    """Write vectors in the format that the ending names."""
    writers = {".zarr": vectors.to_zarr, ".csv": vectors.to_csv}
    writers.get(path.suffix.lower(), vectors.to_emd)(path)


def facts(vectors: BraggVectors, path: Path) -> dict[str, Any]:
    """What was found, ready for JSON."""
    import numpy as np

    def median(name: str) -> float | None:
        known = vectors[name][np.isfinite(vectors[name])]
        return float(np.median(known)) if len(known) else None

    counts = vectors.counts
    return {
        "file": str(path),
        "scan_shape": list(vectors.scan_shape),
        "pattern_shape": list(vectors.pattern_shape),
        "disks": len(vectors),
        "disks_per_pattern": [int(counts.min()), float(np.median(counts)), int(counts.max())],
        "median": {n: median(n) for n in ("intensity", "sigma_row", "sigma_col", "v_g", "q_z")},
        "provenance": dict(vectors.provenance),
    }
