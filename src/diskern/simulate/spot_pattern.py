"""The results of spot simulations: one pattern, or many at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diskern.simulate.arrays import to_numpy


@dataclass(frozen=True, eq=False, repr=False)
class SpotPattern:
    """Simulated reflections, strongest first; the direct beam is not among them.

    Attributes
    ----------
    hkl : (N, 3) indices in the crystal's own cell.
    q : (N, 2) detector position (q_x, q_y) in 1/Å; columns grow with q_x, rows with q_y.
    s_g : (N,) excitation error in 1/Å, positive inside the Ewald sphere.
    intensity : (N,) fraction of the incident beam where ``thickness`` was given, else relative.
    energy : beam energy in eV, or None where unknown.
    thickness : in Å, or None where the intensities are relative to the strongest.
    direct : what is left in the direct beam as a fraction of the incident one, or None where the
        simulation does not say (kinematic theory leaves it untouched).
    """

    hkl: NDArray[np.int64]
    q: NDArray[np.float64]
    s_g: NDArray[np.float64]
    intensity: NDArray[np.float64]
    energy: float | None = None
    thickness: float | None = None
    direct: float | None = None

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


@dataclass(frozen=True, eq=False, repr=False)
class SpotBatch:
    """Patterns of one crystal in B orientations, padded to the longest with zero intensity.

    The arrays are numpy's, or torch tensors where a device was asked for.

    Attributes
    ----------
    hkl : (B, N, 3) indices.
    q : (B, N, 2) detector positions in 1/Å.
    s_g : (B, N) excitation errors in 1/Å.
    intensity : (B, N) as in `SpotPattern`, strongest first, 0 where padded.
    count : (B,) number of reflections of each pattern.
    """

    hkl: Any
    q: Any
    s_g: Any
    intensity: Any
    count: Any
    energy: float | None = None
    thickness: float | None = None

    def __len__(self) -> int:
        return len(self.count)

    def __getitem__(self, index: int) -> SpotPattern:
        n = int(self.count[index])
        return SpotPattern(
            to_numpy(self.hkl[index, :n]).astype(np.int64),
            to_numpy(self.q[index, :n]).astype(np.float64),
            to_numpy(self.s_g[index, :n]).astype(np.float64),
            to_numpy(self.intensity[index, :n]).astype(np.float64),
            self.energy,
            self.thickness,
        )

    def __iter__(self) -> Iterator[SpotPattern]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        most = self.intensity.shape[1]
        return f"SpotBatch of {len(self)} patterns, at most {most} reflections each"
