"""What a training set looks like: random samples with their labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diskern.errors import DiskernError
from diskern.report.contact_sheet import contact_sheet
from diskern.report.notation import direction_text, space_group_text
from diskern.train.pictures import export_pictures, picture, sample_facts
from diskern.train.samples import Block

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def preview_sheet(
    source: Any, *, count: int = 24, seed: int = 0, folder: Path | None = None
) -> tuple[Figure, tuple[Path, ...]]:
    """A contact sheet of random samples.

    Parameters
    ----------
    source : a `TrainingSet` or a `ShardedSet`.
    folder : writes each sample as a PNG file too.

    Returns
    -------
    The figure, and the files that were written.
    """
    if not 1 <= count <= 400:
        raise DiskernError(f"count={count} samples do not fit on a sheet; give 1 to 400")
    rng = np.random.default_rng(seed)
    # Few blocks make a sheet dull, many take long: two samples of each.
    wanted = min(source.blocks, -(-count // min(2, source.block_size)))
    blocks = rng.choice(source.blocks, wanted, replace=False)
    each = -(-count // wanted)
    names = crystal_names(source)
    pictures, captions = [], []
    written: list[Path] = []
    for number in blocks.tolist():
        block = source.block(number)
        size = len(block["seed"])
        places = rng.choice(size, min(each, size), replace=False)
        few = {name: array[places] for name, array in block.items()}
        if folder is not None:
            first = number * source.block_size
            written += export_pictures(
                few, folder, names, vocabulary=source.vocabulary, first=first
            )
        for place in range(len(places)):
            pictures.append(picture(few, place))
            captions.append(_caption(few, place, names, source.vocabulary))
    byte = "image" in few and few["image"].dtype == np.uint8
    gamma = 1.0 if byte else 0.4
    title = f"{source.recipe.name}, {source.side}: {len(source)} samples"
    figure = contact_sheet(pictures[:count], captions[:count], title=title, gamma=gamma)
    return figure, tuple(written)


def crystal_names(source: Any) -> list[str]:
    """Name of each crystal of a set."""
    if hasattr(source, "crystals"):
        return [c["name"] for c in source.crystals]
    return [m.name for m in source.materials]


def _caption(block: Block, place: int, names: list[str], vocabulary: Any) -> str:
    facts = sample_facts(block, place, names, vocabulary)
    zone = direction_text(facts["zone"]) if any(facts["zone"]) else "any"
    group = space_group_text(int(facts["space_group"]))
    lines = [f"{facts['crystal'][:24]}", f"{group} {zone}"]
    if "label" in facts:
        lines[-1] += f"  {facts['label']}"
    lines.append(f"{facts['energy'] / 1e3:.0f} kV  {facts['thickness'] / 10:.0f} nm")
    if "semiangle" in facts:
        lines[-1] += f"  {facts['semiangle']:.1f} mrad"
    if "count" in facts:
        lines[-1] += f"  {facts['count']} spots"
    return "\n".join(lines)
