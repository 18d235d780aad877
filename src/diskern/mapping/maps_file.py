"""Maps as HDF5 and as text: one column a quantity, with unit, meaning and provenance."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from diskern._version import __version__
from diskern.compute.files import whole_file
from diskern.errors import DiskernError
from diskern.mapping.deformation import COMPONENTS
from diskern.mapping.lattice_map import LatticeMap, Reason
from diskern.mapping.strain import StrainMap
from diskern.mapping.thickness import ThicknessMap
from diskern.mapping.tilt import TiltMap

FORMAT = "diskern.Maps"
AnyMap = LatticeMap | StrainMap | TiltMap | ThicknessMap


@dataclass(frozen=True, eq=False)
class MapColumn:
    """One quantity over the scan: (Y, X) values, unit and meaning in words."""

    values: NDArray[Any]
    unit: str
    meaning: str


def columns_of(result: AnyMap) -> dict[str, MapColumn]:
    """The quantities of a map by name; a second lattice's names end in ``_2``, and so on."""
    if isinstance(result, StrainMap):
        return _strain(result)
    if isinstance(result, TiltMap):
        return _tilt(result)
    if isinstance(result, ThicknessMap):
        return _thickness(result)
    return _lattice(result)


def write_maps(
    path: str | PathLike[str],
    maps: Mapping[str, AnyMap],
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write maps to one HDF5 file: a group a map, a dataset a quantity.

    Parameters
    ----------
    maps : by name, e.g. ``{"strain": strain, "tilt": tilt}``.
    provenance : command, configuration, input; version and the maps' own are added.

    Raises
    ------
    DiskernError
        For no maps, or where the file cannot be written.
    """
    if not maps:
        raise DiskernError("there are no maps to write")
    target = Path(path)
    try:
        with whole_file(target) as draft, h5py.File(draft, "w", track_order=True) as file:
            file.attrs["format"] = FORMAT
            file.attrs["program"] = f"diskern {__version__}"
            file.attrs["provenance"] = _json(provenance or {})
            for name, result in maps.items():
                group = file.create_group(name, track_order=True)
                group.attrs["provenance"] = _json(getattr(result, "provenance", {}))
                for column, data in columns_of(result).items():
                    dataset = group.create_dataset(column, data=data.values, compression="gzip")
                    dataset.attrs["unit"], dataset.attrs["meaning"] = data.unit, data.meaning
    except OSError as error:
        raise DiskernError(f"cannot write {target}: {error.strerror or error}") from error


def read_maps(path: str | PathLike[str]) -> dict[str, dict[str, MapColumn]]:
    """The maps of a file by name, each a dictionary of its quantities.

    Raises
    ------
    DiskernError
        Where the file cannot be read or holds no maps of this program.
    """
    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("format") != FORMAT:
                raise DiskernError(f"{path} holds no maps of diskern")
            return {
                name: {
                    column: MapColumn(
                        np.asarray(data[()]), str(data.attrs["unit"]), str(data.attrs["meaning"])
                    )
                    for column, data in group.items()
                }
                for name, group in file.items()
            }
    except (OSError, KeyError) as error:
        raise DiskernError(f"cannot read maps from {path}: {error}") from error


def write_csv(path: str | PathLike[str], result: AnyMap) -> None:
    """Write a map as text with commas: a line a scan position; unknown values are empty.

    Raises
    ------
    DiskernError
        Where the file cannot be written.
    """
    columns = columns_of(result)
    ny, nx = next(iter(columns.values())).values.shape
    y, x = np.indices((ny, nx)).reshape(2, -1)
    texts = [y.astype(str), x.astype(str), *(_texts(c.values) for c in columns.values())]
    units = [f"{name} ({c.unit})" if c.unit else name for name, c in columns.items()]
    lines = [",".join(["scan_y", "scan_x", *units])]
    lines += [",".join(row) for row in zip(*texts, strict=True)]
    target = Path(path)
    try:
        with whole_file(target) as draft:
            Path(draft).write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as error:
        raise DiskernError(f"cannot write {target}: {error.strerror or error}") from error


def _texts(values: NDArray[Any]) -> NDArray[np.str_]:
    flat = values.reshape(-1)
    if flat.dtype.kind != "f":
        return flat.astype(str)
    words = np.char.mod("%.7g", flat)
    return np.where(np.isfinite(flat), words, "")


def _strain(result: StrainMap) -> dict[str, MapColumn]:
    axes = result.axes if isinstance(result.axes, str) else f"{result.axes:g}° from detector +x"
    out: dict[str, MapColumn] = {}
    for lattice in _filled(result.grain):
        end = "" if lattice == 0 else f"_{lattice + 1}"
        for name in COMPONENTS:
            unit = "rad" if name == "rotation" else ""
            what = "lattice rotation, +x towards +y" if name == "rotation" else "strain"
            out[name + end] = MapColumn(
                result.component(name, lattice), unit, f"{what}, {result.measure}, axes: {axes}"
            )
            out[f"sigma_{name}{end}"] = MapColumn(
                result.component(f"sigma_{name}", lattice), unit, f"standard uncertainty of {name}"
            )
        out[f"grain{end}"] = MapColumn(result.grain[lattice], "", "connected grain, -1 none")
    out["reason"] = _reason(result.reason)
    return out


def _filled(label: NDArray[np.int64]) -> list[int]:
    """The first lattice, and those further ones that some position has."""
    return [k for k in range(len(label)) if k == 0 or (label[k] >= 0).any()]


def _tilt(result: TiltMap) -> dict[str, MapColumn]:
    note = "; rough estimate from intensities" if result.rough else ""
    out: dict[str, MapColumn] = {}
    for at, axis in enumerate("xy"):
        out[f"tilt_{axis}"] = MapColumn(
            result.tilt[..., at], "mrad", f"rotation of the zone axis about detector {axis}{note}"
        )
        out[f"sigma_tilt_{axis}"] = MapColumn(
            result.sigma[..., at], "mrad", f"standard uncertainty of tilt_{axis}"
        )
    out["chi2"] = MapColumn(result.chi2, "", "reduced chi-square")
    out["count"] = MapColumn(result.count.astype(np.int32), "", "disks, or Friedel pairs")
    return out


def _thickness(result: ThicknessMap) -> dict[str, MapColumn]:
    return {
        "scattered": MapColumn(result.scattered, "", "-ln of the direct beam's share of all disks"),
        "thickness": MapColumn(result.thickness, "Å", "indicator from weak beams"),
        "spread": MapColumn(result.spread, "", "relative scatter between the disks"),
        "strong": MapColumn(result.strong.astype(np.uint8), "", "1 where beams are not weak"),
    }


def _lattice(result: LatticeMap) -> dict[str, MapColumn]:
    out: dict[str, MapColumn] = {}
    variance = np.diagonal(result.covariance, axis1=-2, axis2=-1)
    for slot in _filled(result.label):
        end = "" if slot == 0 else f"_{slot + 1}"
        out[f"lattice{end}"] = MapColumn(result.label[slot], "", "reference lattice, -1 none")
        out[f"grain{end}"] = MapColumn(result.grain[slot], "", "connected grain, -1 none")
        values = np.concatenate(
            [result.origin[slot][..., None, :], result.basis[slot]], axis=-2
        ).reshape(*result.scan_shape, 6)
        names = [f"{vector}_{part}" for vector in ("origin", "a", "b") for part in ("row", "col")]
        for at, name in enumerate(names):
            out[name + end] = MapColumn(values[..., at], "px", "from the lattice fit")
            out[f"sigma_{name}{end}"] = MapColumn(
                np.sqrt(variance[slot, ..., at]), "px", f"standard uncertainty of {name}"
            )
        out[f"chi2{end}"] = MapColumn(result.chi2[slot], "", "reduced chi-square")
        out[f"count{end}"] = MapColumn(result.count[slot].astype(np.int32), "", "disks in the fit")
    out["reason"] = _reason(result.reason)
    return out


def _reason(values: NDArray[Any]) -> MapColumn:
    words = "; ".join(f"{why.value} {why.words}" for why in Reason)
    return MapColumn(values.astype(np.int8), "", words)


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(dict(values), default=str, ensure_ascii=False)


def with_provenance(result: StrainMap | TiltMap, **more: Any) -> StrainMap | TiltMap:
    """A copy that also carries this (version, weights' hash, input's identity)."""
    return replace(result, provenance={**result.provenance, **more})
