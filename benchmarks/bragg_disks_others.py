"""Part of `bragg_disks.py` that runs in another program's environment, without diskern.

    PYTHON bragg_disks_others.py py4dstem|blobfinder|quantem FOLDER

Reads ``FOLDER/cube.npz``; for every method writes an array of (pattern, row, col) and a line
``RESULT`` with its name, CPU seconds and file.  Thresholds are the same share of the strongest
disk for all.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import json  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
import warnings  # noqa: E402
from importlib.metadata import version  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402

WEAKEST = 0.004


def tell(folder: Path, method: str, seconds: float, disks: list) -> None:
    """Keep a result."""
    rows = [np.column_stack([np.full(len(d), n), d]) for n, d in enumerate(disks)]
    file = f"{method.replace(' ', '_')}.npy"
    np.save(folder / file, np.concatenate(rows))
    line = {"method": method, "seconds": seconds, "file": file}
    sys.stdout.write("RESULT" + json.dumps(line) + "\n")


def run_py4dstem(cube: dict, folder: Path) -> None:
    import py4DSTEM
    from py4DSTEM.braggvectors.diskdetection import find_Bragg_disks

    count, size = len(cube["patterns"]), cube["patterns"].shape[1]
    radius, spacing = float(cube["radius"]), float(cube["spacing"])
    data = py4DSTEM.DataCube(cube["patterns"].astype(np.float32)[:, None])
    probe = py4DSTEM.Probe(cube["probe"].astype(np.float32))
    probe.measure_disk(plot=False)
    kinds = {"sigmoid": {"radii": (radius, 2 * radius)}, "flat": {}}
    for kind, subpixel in (("sigmoid", "multicorr"), ("flat", "multicorr"), ("sigmoid", "poly")):
        probe.get_kernel(mode=kind, origin=(size / 2, size / 2), **kinds[kind])
        start = time.process_time()
        found = find_Bragg_disks(
            data,
            probe.kernel,
            corrPower=1.0,
            sigma_cc=0.25 * radius,
            subpixel=subpixel,
            upsample_factor=16,
            minAbsoluteIntensity=0,
            minRelativeIntensity=WEAKEST,
            relativeToPeak=0,
            minPeakSpacing=0.6 * spacing,
            edgeBoundary=int(radius) // 2 + 1,
            maxNumPeaks=60,
        )
        seconds = time.process_time() - start
        raw = [found.raw[n, 0] for n in range(count)]
        name = f"py4DSTEM {kind} {subpixel}{16 if subpixel == 'multicorr' else ''}"
        tell(folder, f"{name} {version('py4DSTEM')}", seconds, [np.c_[p.qx, p.qy] for p in raw])


def run_blobfinder(cube: dict, folder: Path) -> None:
    from libertem_blobfinder.common.correlation import process_frames_fast
    from libertem_blobfinder.common.patterns import BackgroundSubtraction, RadialGradient

    radius = float(cube["radius"])
    frames = cube["patterns"].astype(np.float32)
    # The mean of the true positions: the best that candidates common to all patterns can be.
    peaks = np.round(cube["candidates"]).astype(np.int32)
    search = 1.6 * radius
    kinds = {
        "RadialGradient": RadialGradient(radius=radius, search=search),
        "BackgroundSubtraction": BackgroundSubtraction(
            radius=radius, radius_outer=1.5 * radius, search=search
        ),
    }
    for name, pattern in kinds.items():
        process_frames_fast(pattern=pattern, frames=frames[:4], peaks=peaks, upsample=False)
        start = time.process_time()
        result = process_frames_fast(pattern=pattern, frames=frames, peaks=peaks, upsample=False)
        seconds = time.process_time() - start
        release = version("libertem-blobfinder")
        tell(folder, f"blobfinder {name} (given candidates) {release}", seconds, list(result[1]))


def run_quantem(cube: dict, folder: Path) -> None:
    import torch
    from quantem.diffraction import disk_detection

    torch.set_num_threads(1)
    radius, spacing = float(cube["radius"]), float(cube["spacing"])
    frames = cube["patterns"].astype(np.float32)
    probe = torch.as_tensor(cube["probe"], dtype=torch.float32)
    template = disk_detection.template_fourier(
        disk_detection.make_template(probe, subtract_mean=True)
    )
    for subpixel in ("parabolic", "upsample"):
        disk_detection.detect_disks_batch(torch.as_tensor(frames[:8]), template, subpixel=subpixel)
        disks = []
        start = time.process_time()
        for first in range(0, len(frames), 32):
            found = disk_detection.detect_disks_batch(
                torch.as_tensor(frames[first : first + 32]),
                template,
                min_spacing=0.6 * spacing,
                edge_boundary=int(radius) // 2 + 1,
                subpixel=subpixel,
                upsample_factor=16,
                max_num_peaks=60,
            )
            disks += [np.asarray(f) for f in found]
        seconds = time.process_time() - start
        kept = [d[d[:, 2] > WEAKEST * d[:, 2].max()][:, :2] if len(d) else d for d in disks]
        tell(folder, f"quantem {subpixel} {version('quantem')}", seconds, kept)


def main() -> None:
    warnings.filterwarnings("ignore")
    program, folder = sys.argv[1], Path(sys.argv[2])
    cube = dict(np.load(folder / "cube.npz"))
    runs = {"py4dstem": run_py4dstem, "blobfinder": run_blobfinder, "quantem": run_quantem}
    runs[program](cube, folder)


if __name__ == "__main__":
    main()
