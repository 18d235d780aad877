"""`diskern map`: a 4D-STEM scan in; Bragg vectors, strain and tilt out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from diskern.cli import _scan_options as given
from diskern.cli._output import progress, write_json

Report = Annotated[
    Path | None, given.option("Output", "FILE", "The report, in place of DIR/report.html.")
]


def map_scan(
    file: given.ScanFile,
    output: given.Folder,
    probe: given.ProbeFile = None,
    mask: given.MaskFile = None,
    dark_level: given.DarkLevel = None,
    proposer: given.ProposerName = None,
    dataset: given.Dataset = None,
    pixel_size: given.PixelSize = None,
    voltage: given.Voltage = None,
    step: given.Step = None,
    reference: given.Reference = "median",
    crystal: given.CrystalFile = None,
    zone: given.Zone = None,
    axes: given.Axes = "detector",
    rotation: given.Rotation = None,
    lattices: given.Lattices = 2,
    thickness: given.Thickness = None,
    jobs: given.Jobs = 1,
    scheduler: given.Scheduler = None,
    resume: given.Resume = True,
    report: Report = None,
    json: given.Json = None,
) -> None:
    """Bragg vectors, strain, tilt and virtual images of a 4D-STEM scan, with a report.

    The scan may be larger than memory. A run that was cut off goes on where it was when called
    again; other maps of vectors that are there already take seconds.

    Examples:

      diskern map scan.h5 -o out --jobs 4

      diskern map scan.h5 -o out --reference 0:64,0:10 --rotation 12.5 --axes scan
    """
    from diskern.cli._maps import Wishes, make_folder, make_maps, show, summary, write_maps_to
    from diskern.cli._search import Request, forget, search

    wishes = Wishes(reference, crystal, zone, axes, rotation, lattices, thickness)
    request = Request.of(locals())
    make_folder(output)
    vectors, there = search(request, output / "blocks", output / "vectors.h5")
    with progress("writing vectors") as tell:
        if not there:
            vectors.to_emd(output / "vectors.h5")
            forget(vectors, output / "blocks")
        results = make_maps(vectors, wishes, file.name, tell)
        tell("writing vectors")
        results.vectors.to_emd(output / "vectors.h5")
        written = write_maps_to(results, output, report, tell)
    if json is not None:
        write_json(summary(results, [output / "vectors.h5", *written]), json)
    if json != "-":
        show(results, output)
