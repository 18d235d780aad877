"""From a file to a `Pattern` or a lazy `Scan`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from diskern.errors import DiskernError
from diskern.io.files import label, reading
from diskern.io.registry import open_file
from diskern.patterns.pattern import Pattern, Scan


def read(path: str | os.PathLike[str], *, dataset: str | None = None) -> Pattern | Scan:
    """Read a diffraction image, stack or scan with the calibration its file states.

    Parameters
    ----------
    path : image or microscope file, or a Zarr folder.
    dataset : which dataset, where the file holds several: the path inside HDF5 or Zarr, the
        member of an archive, the number of an image.

    Returns
    -------
    Pattern
        for one image; colours become grey levels.
    Scan
        for a stack (N, Q_y, Q_x), as one row, or a scan (scan_y, scan_x, Q_y, Q_x); its frames
        stay in the file until they are asked for.

    Raises
    ------
    DiskernError
        One line with the file's name, what is wrong with it and what would mend it.
    """
    recording = open_file(path, dataset)
    known: dict[str, Any] = {
        "pixel_size": recording.pixel_size,
        "energy": recording.energy,
        "camera_length": recording.camera_length,
        "centre": recording.centre,
        "source": Path(path).name,
        "metadata": {"format": recording.format, **recording.metadata},
        "notes": recording.notes,
    }
    try:
        if len(recording.data.shape) == 2:
            with reading(Path(path), recording.format):
                image = np.asarray(recording.data)
            return Pattern.from_array(image, **known)
        return Scan.from_array(recording.data, scan_step=recording.scan_step, **known)
    except DiskernError as error:
        name = label(path)
        raise error if str(error).startswith(name) else DiskernError(f"{name}: {error}") from error
