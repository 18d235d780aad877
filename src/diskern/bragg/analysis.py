"""All that one image tells before any crystallography: the `Analysis`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from diskern.bragg.lattice import Lattice2D
from diskern.bragg.rings import Rings
from diskern.bragg.spots import Spots
from diskern.patterns.geometry import Centre, Ellipse
from diskern.patterns.pattern import Pattern

Kind = Literal["spots", "rings", "none"]


@dataclass(frozen=True, eq=False)
class Analysis:
    """What was found on one pattern.

    Attributes
    ----------
    flaws : (Q_y, Q_x) uint16 bits of `diskern.patterns.geometry.Flaw`.
    background : (Q_y, Q_x) float32, smooth part of the image in its own units.
    kind : "spots" (one or more lattices, or isolated Bragg spots), "rings" (polycrystal, with or
        without spots on the rings) or "none".
    refusal : why there is no crystal here, or None.
    ellipse : distortion measured on this image or given for the setting.
    notes : sentences for the report (what was masked, how the centre was found, …).
    """

    pattern: Pattern
    flaws: NDArray[np.uint16]
    background: NDArray[np.float32]
    centre: Centre
    spots: Spots
    lattices: tuple[Lattice2D, ...]
    rings: Rings | None
    kind: Kind
    refusal: str | None
    ellipse: Ellipse = field(default_factory=Ellipse)
    scale_bar: float | None = None
    notes: tuple[str, ...] = ()
