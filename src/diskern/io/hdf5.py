"""The HDF5 family: finds out which convention a file follows and reads any dataset by its path.

HyperSpy, Velox, Berkeley and py4DSTEM files are taken by their own conventions; everything else
(NeXus, MATLAB 7.3, home-made) needs the path of the dataset unless only one can be meant.  The
attributes ``pixel_size`` (1/Å), ``energy`` (eV), ``camera_length`` (m), ``centre`` (px) and
``scan_step`` (Å) of a dataset or its file are honoured everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diskern.io import emd, hspy
from diskern.io.calibration import Axis, Stated, finish, number
from diskern.io.h5_arrays import H5Array, choose, plausible, safe_dataset, times
from diskern.io.recording import Recording
from diskern.io.registry import Format

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_USER_BLOCKS = (0, 512, 1024, 2048)


def sniff(head: bytes, path: Path) -> bool:
    """Whether the HDF5 signature stands at the start or behind a user block (MATLAB)."""
    return any(head[at : at + 8] == _SIGNATURE for at in _USER_BLOCKS)


def read_hdf5(path: Path, dataset: str | None = None) -> Recording:
    """Read a dataset lazily, by the file's own convention where it is known."""
    import h5py

    with h5py.File(path, "r") as file:
        if hspy.is_hspy(file):
            name, stated = hspy.describe(path, file, dataset)
            return finish(path, H5Array(path, name), "HyperSpy", stated)
        if emd.is_velox(file):
            return emd.read_velox(path, file, dataset)
        arrays = emd.arrays(file)
        if arrays and (dataset is None or emd.holds(arrays, dataset)):
            name, stated = emd.describe(path, file, arrays, dataset)
            return finish(path, H5Array(path, name), "EMD", stated)
        names = {name: times(shape) for name, shape in plausible(file)}
        if dataset is not None and isinstance(file.get(dataset), h5py.Dataset):
            name = dataset
        else:
            name = choose(path, names, dataset, "dataset")
        stated = own_attributes(file.attrs, safe_dataset(path, file, name).attrs)
    return finish(path, H5Array(path, name), "HDF5", stated)


def own_attributes(*sources: Mapping[str, Any]) -> Stated:
    """Calibration in attributes named as the fields of `Recording`; later sources win."""
    said: dict[str, Any] = {}
    for source in sources:
        said.update(source)

    def pair(name: str) -> tuple[float, float] | None:
        values = [number(v) for v in np.ravel(said.get(name, ()))[:3]]
        if len(values) == 2 and values[0] is not None and values[1] is not None:
            return values[0], values[1]
        return None

    step = pair("scan_step")
    return Stated(
        scan=(Axis(step[0], "Å"), Axis(step[1], "Å")) if step else None,
        pixel_size=number(said.get("pixel_size")),
        energy=number(said.get("energy")),
        camera_length=number(said.get("camera_length")),
        centre=pair("centre"),
        metadata={k: v for k, v in said.items() if isinstance(v, str | bytes | np.generic | float)},
    )


FORMATS = (
    Format(
        "HDF5",
        (".h5", ".hdf5", ".hdf", ".he5", ".emd", ".hspy", ".nxs", ".mat", ".cxi", ".py4dstem"),
        sniff,
        read_hdf5,
    ),
)
