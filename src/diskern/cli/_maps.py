"""Maps from Bragg vectors, as the verbs `map`, `strain` and `tilt` make and write them."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import radians
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diskern.cli._scan_options import parse_axes, parse_region, parse_zone
from diskern.crystal.common import find_phase
from diskern.errors import DiskernError

if TYPE_CHECKING:
    from diskern.bragg.vectors import BraggVectors
    from diskern.crystal.crystal import Crystal
    from diskern.mapping.lattice_map import LatticeMap
    from diskern.mapping.maps_file import AnyMap
    from diskern.report.map_report import MapResults


@dataclass(frozen=True)
class Wishes:
    """What the command line said of the maps.

    Attributes
    ----------
    strain, tilt : whether that map is wanted.
    must : whether a map that cannot be made is an error, or a note.
    """

    reference: str = "median"
    crystal: str | None = None
    zone: str | None = None
    axes: str = "detector"
    rotation: float | None = None
    lattices: int = 2
    thickness: float | None = None
    strain: bool = True
    tilt: bool = True
    must: bool = False

    def __post_init__(self) -> None:
        """Find wrong words before an hour of searching, not after."""
        parse_axes(self.axes)
        if self.reference not in ("median", "crystal"):
            parse_region(self.reference)
        if (self.crystal is None) != (self.zone is None):
            raise DiskernError("--crystal and --zone go together; give both or none")
        if self.reference == "crystal" and self.crystal is None:
            raise DiskernError("--reference crystal needs --crystal CIF and --zone u,v,w")
        if self.axes == "scan" and self.rotation is None:
            raise DiskernError("--axes scan needs --rotation, the angle of detector against scan")
        if self.zone is not None:
            parse_zone(self.zone)
        if self.crystal is not None:
            find_phase(self.crystal)


def make_maps(
    vectors: BraggVectors, wishes: Wishes, title: str, tell: Callable[[str], None]
) -> MapResults:
    """Lattices, calibration, strain, tilt and thickness as far as the vectors allow."""
    from diskern.mapping.calibration import calibrate
    from diskern.mapping.index import IndexOptions, index_vectors
    from diskern.mapping.thickness import thickness_map
    from diskern.report.map_report import MapResults

    crystal = None if wishes.crystal is None else find_phase(wishes.crystal)
    zone = None if wishes.zone is None else parse_zone(wishes.zone)
    if wishes.rotation is not None:
        vectors = vectors.with_calibration(rotation=radians(wishes.rotation))
    tell("indexing")
    lattices = index_vectors(vectors, options=IndexOptions(max_lattices=wishes.lattices))
    tell("calibrating")
    by_crystal = crystal if wishes.reference != "crystal" else None
    region = None if wishes.reference in ("median", "crystal") else parse_region(wishes.reference)
    calibration = calibrate(
        vectors,
        lattices,
        crystal=by_crystal,
        zone_axis=zone if by_crystal else None,
        region=region if by_crystal else None,
    )
    vectors = calibration.apply(vectors)
    notes = [str(note) for note in vectors.provenance.get("notes", ())]
    maps: dict[str, Any] = {}
    for name, wanted, make in (
        ("strain", wishes.strain, _strain),
        ("tilt", wishes.tilt, _tilt),
    ):
        if not wanted:
            continue
        tell(f"mapping {name}")
        try:
            maps[name] = make(lattices, vectors, wishes, crystal)
        except DiskernError as error:
            if wishes.must:
                raise
            notes.append(f"no {name} map: {error}")
    return MapResults(
        title=title,
        vectors=vectors,
        lattices=lattices,
        calibration=calibration,
        strain=maps.get("strain"),
        tilt=maps.get("tilt"),
        thickness=thickness_map(lattices, vectors.calibration.energy),
        provenance={
            "command": shlex.join(["diskern", *sys.argv[1:]]),
            "vectors": dict(vectors.provenance),
        },
        notes=tuple(notes),
    )


def _strain(
    lattices: LatticeMap, vectors: BraggVectors, wishes: Wishes, crystal: Crystal | None
) -> AnyMap:
    from diskern.mapping.strain import strain_map

    reference: Any = wishes.reference
    if reference == "crystal":
        reference = crystal
    elif reference != "median":
        reference = parse_region(reference)
    return strain_map(
        lattices,
        reference,
        zone_axis=parse_zone(wishes.zone) if wishes.zone is not None else None,
        calibration=vectors.calibration,
        axes=parse_axes(wishes.axes),
    )


def _tilt(
    lattices: LatticeMap, vectors: BraggVectors, wishes: Wishes, crystal: Crystal | None
) -> AnyMap:
    from diskern.mapping.tilt import tilt_map

    thickness = None if wishes.thickness is None else wishes.thickness * 10
    return tilt_map(lattices, calibration=vectors.calibration, thickness=thickness)


def write_maps_to(
    results: MapResults, folder: Path, report: Path | None, tell: Callable[[str], None]
) -> list[Path]:
    """Maps as HDF5 and CSV, figures, and the report; the files written."""
    from diskern.mapping.maps_file import write_csv, write_maps
    from diskern.report.map_report import save_map_figures, write_map_report

    named = {
        "strain": results.strain,
        "tilt": results.tilt,
        "thickness": results.thickness,
        "lattices": results.lattices,
    }
    maps: dict[str, AnyMap] = {name: made for name, made in named.items() if made is not None}
    tell("writing maps")
    write_maps(folder / "maps.h5", maps, results.provenance)
    written = [folder / "maps.h5"]
    for name in ("strain", "tilt"):
        if name in maps:
            write_csv(folder / f"{name}.csv", maps[name])
            written.append(folder / f"{name}.csv")
    tell("drawing")
    written += save_map_figures(results, folder)
    written.append(write_map_report(results, report or folder / "report.html"))
    return written


def make_folder(folder: Path) -> None:
    """The folder for the results.

    Raises
    ------
    DiskernError
        Where it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DiskernError(f"cannot make {folder}: {error.strerror or error}") from error


def summary(results: MapResults, written: list[Path]) -> dict[str, Any]:
    """What was mapped, ready for JSON."""
    import numpy as np

    lattices, strain, tilt = results.lattices, results.strain, results.tilt
    out: dict[str, Any] = {
        "title": results.title,
        "scan_shape": list(results.vectors.scan_shape),
        "disks": len(results.vectors),
        "files": [str(path) for path in written],
        "notes": list(results.notes),
        "provenance": dict(results.provenance),
    }
    if lattices is not None:
        out["lattices"] = len(lattices.bases)
        out["indexed"] = float((lattices.label[0] >= 0).mean())
    if results.calibration is not None:
        out["pixel_size"] = results.calibration.pixel_size
        out["notes"] += list(results.calibration.notes)

    def spread(values: Any, sigma: Any) -> dict[str, float] | None:
        known = values[np.isfinite(values)]
        if not len(known):
            return None
        low, middle, high = np.percentile(known, [2, 50, 98])
        return {"2%": low, "50%": middle, "98%": high, "sigma": float(np.nanmedian(sigma))}

    if strain is not None:
        names = ("e_xx", "e_yy", "e_xy", "rotation")
        out["strain"] = {
            n: spread(strain.component(n), strain.component(f"sigma_{n}")) for n in names
        }
    if tilt is not None:
        out["tilt"] = {
            f"tilt_{axis}": spread(tilt.tilt[..., i], tilt.sigma[..., i])
            for i, axis in enumerate("xy")
        }
        out["tilt"]["method"] = tilt.method
    return out


def show(results: MapResults, folder: Path) -> None:
    """The answer on the terminal."""
    from diskern.bragg.find import how_found
    from diskern.cli._output import console

    out = console()
    for name, words in how_found(results.vectors.provenance).items():
        out.print(f"{name:<11} {words}", markup=False)
    parts = (results.lattices, results.calibration, results.strain, results.tilt)
    for part in parts:
        if part is not None:
            out.print(repr(part), markup=False)
    for note in results.notes:
        out.print(f"note: {note}", markup=False)
    out.print(f"Written: {folder}", markup=False)


def load_vectors(
    path: Path, pixel_size: float | None, voltage: float | None, step: float | None
) -> BraggVectors:
    """Vectors of a file, with what the command line knows better."""
    from diskern.bragg.vectors import BraggVectors
    from diskern.physics import check_energy

    vectors = BraggVectors.from_emd(path)
    known: dict[str, Any] = {}
    if pixel_size is not None:
        known["pixel_size"] = pixel_size
    if voltage is not None:
        known["energy"] = check_energy(voltage * 1e3)
    if step is not None:
        if not step > 0:
            raise DiskernError(f"--step {step:g} nm must be above 0")
        known["scan_step"] = (10 * step, 10 * step)
    return replace(vectors, calibration=replace(vectors.calibration, **known))
