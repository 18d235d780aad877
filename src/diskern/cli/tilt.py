"""`diskern tilt`: Bragg vectors in, a map of the zone axis' tilt out."""

from __future__ import annotations

from diskern.cli import _scan_options as given
from diskern.cli._output import progress, write_json


def tilt(
    vectors: given.VectorFile,
    output: given.Folder,
    thickness: given.Thickness = None,
    lattices: given.Lattices = 2,
    pixel_size: given.PixelSize = None,
    voltage: given.Voltage = None,
    step: given.Step = None,
    json: given.Json = None,
) -> None:
    """Tilt of the zone axis off the beam, no crystal given, from Bragg vectors.

    Needs pixel size and voltage, and vectors with q_z; without q_z, a thickness for a rough map.

    Example:  diskern tilt vectors.h5 -o out
    """
    from diskern.cli._maps import (
        Wishes,
        load_vectors,
        make_folder,
        make_maps,
        show,
        summary,
        write_maps_to,
    )

    wishes = Wishes(lattices=lattices, thickness=thickness, strain=False, must=True)
    make_folder(output)
    with progress("reading") as tell:
        found = load_vectors(vectors, pixel_size, voltage, step)
        results = make_maps(found, wishes, vectors.name, tell)
        written = write_maps_to(results, output, None, tell)
    if json is not None:
        write_json(summary(results, written), json)
    if json != "-":
        show(results, output)
