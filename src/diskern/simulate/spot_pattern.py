"""The result of a spot simulation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False, repr=False)
class SpotPattern:
    """Simulated reflections, strongest first; the direct beam is not among them.

    Attributes
    ----------
    hkl : (N, 3) indices in the crystal's own cell.
    q : (N, 2) detector position (q_x, q_y) in 1/Å; columns of an image grow with q_x, rows with q_y.
    s_g : (N,) excitation error in 1/Å, positive inside the Ewald sphere.
    intensity : (N,) fraction of the incident beam where ``thickness`` was given, else relative.
    """

    hkl: NDArray[np.int64]
    q: NDArray[np.float64]
    s_g: NDArray[np.float64]
    intensity: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.intensity)

    def __repr__(self) -> str:
        lines = [
            f"SpotPattern of {len(self)} reflections",
            "   h   k   l      q_x      q_y      s_g  intensity",
        ]
        for (h, k, m), (x, y), s, i in zip(
            self.hkl[:12], self.q[:12], self.s_g[:12], self.intensity[:12], strict=True
        ):
            lines.append(f"{h:4d}{k:4d}{m:4d} {x:8.4f} {y:8.4f} {s:8.5f}  {i:9.3e}")
        return "\n".join(lines + (["  …"] if len(self) > 12 else []))
