"""What decides the patterns that a disk finder is trained on."""

from __future__ import annotations

import hashlib
from typing import Annotated

from pydantic import Field, model_validator

from diskern.train.recipe import Count, Kilovolts, Range, Recipe, Share


class DisksRecipe(Recipe):
    """Convergent-beam patterns on the fly: any crystal, camera and dose.

    Everything is drawn anew for each block of ``per_block`` patterns of one crystal, which share
    the microscope but neither orientation, thickness nor dose.
    """

    size: Annotated[int, Field(ge=32, le=1024, multiple_of=16)] = 128
    """px; patterns are square."""
    per_block: Annotated[int, Field(ge=1, le=256)] = 8
    disks: Annotated[int, Field(ge=8, le=1024)] = 160
    """Disks listed with each pattern, most visible first."""
    voltages: Annotated[tuple[Kilovolts, ...], Field(min_length=1)] = (80, 120, 200, 300)
    semiangle: Range = Range(low=0.5, high=6.0)
    """mrad"""
    radius: Range = Range(low=2.0, high=8.0)
    """px of the disks, after the binning that a finder does for large ones."""
    taught: Annotated[float, Field(ge=0)] = 0.0
    """px: the training side has no smaller disks, where a finder has them enlarged before it
    sees them; held-out sides have them all."""
    spacing: Annotated[float, Field(ge=0.5, le=20)] = 1.15
    """Smallest |g| in aperture radii: below 2 disks of neighbours overlap."""
    reach: Range = Range(low=0.45, high=2.2)
    """1/Å from the middle of the pattern to its edge."""
    thickness: Range = Range(low=30, high=1500)
    """Å"""
    zone_share: Share = 0.7
    """Share of patterns near a zone axis; the others are random orientations."""
    max_index: Annotated[int, Field(ge=1, le=8)] = 3
    tilt: Range = Range(low=0.05, high=3.0)
    """Degrees off the zone axis."""
    dose: Range = Range(low=1e3, high=1e7)
    """Electrons per pattern."""
    second_grain: Share = 0.12
    """Share of patterns with those of another grain under them."""
    annular: Share = 0.05
    """Share of blocks with an annular aperture."""
    flooded: Share = 0.0
    """Share of blocks whose camera is full before the brightest disk is; in half of them the charge
    spills down the columns."""
    roughness: Range = Range(low=2.0, high=8.0)
    """Å: rms roughness of the foil's faces, which damps the tails of rocking curves."""
    bloch: Share = 0.0
    """Share of blocks whose disks come from tables of Bloch waves (`diskern.train.disks_bloch`)."""
    bloch_count: Count = 160
    """Tables of the training side; the others have a quarter of it."""
    bloch_tables: str = ""
    """Folder where tables are kept, relative to the recipe's own; by default the user's cache."""
    blocks: Count = 4096
    """Blocks of one epoch."""

    @model_validator(mode="after")
    def _teaches_some(self) -> DisksRecipe:
        if self.taught >= self.radius.high:
            raise ValueError(
                f"taught={self.taught:g}: the largest disks have {self.radius.high:g} px"
            )
        return self

    @property
    def table_key(self) -> str:
        """Hash of everything that decides the tables of Bloch waves."""
        words = {
            "name",
            "size",
            "taught",
            "per_block",
            "disks",
            "dose",
            "second_grain",
            "annular",
            "bloch",
            "bloch_count",
            "bloch_tables",
            "blocks",
            "flooded",
            "roughness",
            "shards",
        }
        text = f"{TABLES_VERSION} {self.model_dump_json(exclude=words)}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]


TABLES_VERSION = 2
"""Raised when the same recipe would give other tables."""
