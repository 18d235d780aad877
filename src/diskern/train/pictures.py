"""Samples as PNG files for people, named by what they show."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diskern.errors import DiskernError
from diskern.simulate.export import save_image
from diskern.simulate.render import draw_gaussians
from diskern.train.samples import Block, Field

IMAGE_FIELDS = ("image", "cbed", "probe", "v_g", "q_z", "visibility")


def export_pictures(
    block: Block,
    folder: str | os.PathLike[str],
    names: Sequence[str],
    *,
    vocabulary: Mapping[str, Sequence[str]] | None = None,
    first: int = 0,
) -> tuple[Path, ...]:
    """Write the image of each sample of a block as an 8-bit PNG with its facts inside.

    Parameters
    ----------
    names : name of each crystal of the set, by number.
    vocabulary : class names; samples with a ``label`` go into a folder of that name.
    first : number of the block's first sample, for the file names.

    Raises
    ------
    DiskernError
        Where the folder cannot be written.
    """
    root, made = Path(folder), []
    labels = (vocabulary or {}).get("label")
    for place in range(len(block["seed"])):
        facts = sample_facts(block, place, names, vocabulary or {})
        label = labels[int(block["label"][place])] if labels is not None else ""
        zone = "".join(str(v) for v in facts["zone"])
        words = re.sub(r"[^\w.-]+", "_", f"{first + place:06d}_{facts['crystal']}_{zone}")
        target = root / label / f"{words[:120]}.png"
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DiskernError(f"cannot write {target.parent}: {error.strerror}") from error
        gamma = 1.0 if block.get("image", np.zeros(0)).dtype == np.uint8 else 0.4
        made.append(save_image(target, picture(block, place), metadata=facts, gamma=gamma))
    return tuple(made)


def picture(block: Block, place: int, size: int = 192) -> NDArray[np.float32]:
    """(H, W) image of one sample: its own, the thickest of a series, or its spots drawn."""
    if "image" in block:
        return np.asarray(block["image"][place], dtype=np.float32)
    if "cbed" in block:
        return np.asarray(block["cbed"][place][-1], dtype=np.float32)
    q, flux = block["q"][place].astype(float), block["intensity"][place].astype(float)
    reach = max(float(np.abs(q).max()), 1e-6) * 1.05
    spots = q / reach * (size / 2) + size / 2
    args = spots[None, :, 1], spots[None, :, 0], np.sqrt(flux)[None]
    return np.asarray(draw_gaussians(*args, (size, size), 1.3)[0])


def sample_facts(
    block: Block, place: int, names: Sequence[str], vocabulary: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """Everything of a sample that is no array of pixels or spots, ready for JSON."""
    facts: dict[str, Any] = {}
    for name, array in block.items():
        value = array[place]
        if value.size > 4 or name in IMAGE_FIELDS:
            continue
        if name == "crystal":
            facts[name] = names[int(value)]
        elif name in vocabulary:
            facts[name] = vocabulary[name][int(value)]
        else:
            facts[name] = value.tolist()
    return facts


def described(fields: Mapping[str, Field]) -> str:
    """A line for each array of a sample."""
    return "\n".join(
        f"  {name:14} {f.dtype:8} {'×'.join(map(str, f.shape)) or '-':12} {f.meaning}"
        + (f" [{f.unit}]" if f.unit else "")
        for name, f in fields.items()
    )
