"""`diskern strain`: Bragg vectors in, strain maps out."""

from __future__ import annotations

from diskern.cli import _scan_options as given
from diskern.cli._output import progress, write_json


def strain(
    vectors: given.VectorFile,
    output: given.Folder,
    reference: given.Reference = "median",
    crystal: given.CrystalFile = None,
    zone: given.Zone = None,
    axes: given.Axes = "detector",
    rotation: given.Rotation = None,
    lattices: given.Lattices = 2,
    pixel_size: given.PixelSize = None,
    step: given.Step = None,
    json: given.Json = None,
) -> None:
    """Strain and rotation with their uncertainties, from Bragg vectors.

    The vectors may come from diskern bragg, diskern map or py4DSTEM.

    Example:  diskern strain vectors.h5 -o out --reference 0:64,0:10
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

    wishes = Wishes(reference, crystal, zone, axes, rotation, lattices, tilt=False, must=True)
    make_folder(output)
    with progress("reading") as tell:
        found = load_vectors(vectors, pixel_size, None, step)
        results = make_maps(found, wishes, vectors.name, tell)
        written = write_maps_to(results, output, None, tell)
    if json is not None:
        write_json(summary(results, written), json)
    if json != "-":
        show(results, output)
