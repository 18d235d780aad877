"""Recipes: everything that decides a training set, as a TOML file that is checked when read.

A recipe and a version of the program give the same samples to the last bit, whether they are
streamed into a trainer or written to shards, by one process or by many.
"""

from __future__ import annotations

import hashlib
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from diskern.errors import DiskernError

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
GroupNumber = Annotated[int, Field(ge=1, le=230)]
Kilovolts = Annotated[float, Field(ge=20, le=1500)]
Index = Annotated[int, Field(ge=-20, le=20)]
ZoneIndices = tuple[Index, Index, Index]


class Table(BaseModel):
    """A table of a recipe; words that are not known are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Range(Table):
    """A number drawn between ``low`` and ``high``; ``log`` makes every octave equally likely."""

    low: Positive
    high: Positive
    log: bool = True

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if self.high < self.low:
            raise ValueError(f"high={self.high:g} is below low={self.low:g}")
        return self

    def above(self, least: float) -> Range:
        """The part of it that is not below ``least``."""
        return Range(low=max(self.low, least), high=self.high, log=self.log)


# --- crystals -----------------------------------------------------------------------------
class _Source(Table):
    space_groups: tuple[GroupNumber, ...] = ()
    max_volume: Positive = 20000.0


class CommonSource(_Source):
    """The common phases that ship with the package."""

    source: Literal["common"]
    elements: tuple[str, ...] = ()


class FolderSource(_Source):
    """CIF files of a folder, relative to the recipe's own; disordered ones are left out."""

    source: Literal["folder"]
    path: str


class SubstitutedSource(_Source):
    """Common phases with other elements at the distances their radii ask for."""

    source: Literal["substituted"]
    per_group: Count = 50
    elements: tuple[str, ...] = ()
    min_atom_volume: Annotated[float, Field(ge=0)] = 0.0
    """Å³ an atom: denser children are left out.  Radii of bonds make metals' structures of
    nitrogen or chlorine with cells of 1.4 Å, which nothing real has."""


class RandomSource(_Source):
    """Random symmetric crystals, made when they are needed."""

    source: Literal["random"]
    count: Count = 1000
    max_volume: Positive = 4000.0


Source = Annotated[
    CommonSource | FolderSource | SubstitutedSource | RandomSource, Field(discriminator="source")
]


class Balance(Table):
    """Square-root selection over prototypes, after all sources were read."""

    total: Count | None = None
    cap: Count | None = None


class SplitTable(Table):
    """How crystals are parted into training and validation.

    ``prototype`` keeps whole prototypes together and drops training crystals whose formula is
    validated; ``crystal`` takes the share of each space group at random, as published sets do.
    """

    by: Literal["prototype", "crystal"] = "prototype"
    validation: Annotated[float, Field(ge=0, lt=1)] = 0.15


class ShardTable(Table):
    """Samples in one shard file, about: whole blocks are kept together."""

    samples: Count = 1024


class Recipe(Table):
    """What all recipes share."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=80)]
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    crystals: Annotated[tuple[Source, ...], Field(min_length=1)]
    balance: Balance | None = None
    split: SplitTable = SplitTable()
    shards: ShardTable = ShardTable()
    displacement: Positive = 0.08
    """rms displacement in Å of atoms whose structure states none."""

    @property
    def configuration(self) -> str:
        """Hash of every value of the recipe and of the way samples are computed."""
        text = f"{SAMPLES_VERSION} {self.model_dump_json()}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]


SAMPLES_VERSION = 5
"""Raised when the same recipe would give other samples."""


# --- the four sets --------------------------------------------------------------------------
class SaedRecipe(Recipe):
    """Zone-axis patterns of cubic crystals with look-alike labels (Ra et al. 2021)."""

    kind: Literal["saed"]
    zones: tuple[ZoneIndices, ...] = ()
    voltages: Annotated[tuple[Kilovolts, ...], Field(min_length=1)] = (120.0, 160.0, 200.0, 300.0)
    camera_lengths: Annotated[tuple[Positive, ...], Field(min_length=1)] = (
        0.2,
        0.23,
        0.27,
        0.31,
        0.35,
    )
    """m; at 120 kV and 0.35 m the image still reaches 1.1 1/Å, so that every net is shown."""
    detector_pixel: Positive = 100.0
    """µm"""
    size: Annotated[int, Field(ge=16, le=2048)] = 256
    sigma: Positive = 1.5
    thickness: Positive = 100.0
    """Å"""
    g_max: Annotated[float, Field(ge=0.6, le=6)] = 2.5
    gamma: Annotated[float, Field(gt=0, le=4)] = 0.5
    rotation: Annotated[float, Field(ge=0, le=360)] = 30.0
    """Augmentation: patterns are turned by up to this many degrees."""
    crop: Annotated[int, Field(ge=8)] = 224
    """Augmentation: edge in px of the random window."""

    @model_validator(mode="after")
    def _crop_fits(self) -> SaedRecipe:
        if self.crop > self.size:
            raise ValueError(f"crop={self.crop} px does not fit into size={self.size} px")
        return self


class QuartetsRecipe(Recipe):
    """Probe and convergent-beam pattern to V_g and q_z (4D>Crystal)."""

    kind: Literal["quartets"]
    orientations: Annotated[int, Field(ge=1)] = 21
    """Per crystal: [001] first, then in turn zone axes, zone axes missed by a tilt, and any."""
    max_index: Annotated[int, Field(ge=1, le=6)] = 3
    voltages: Annotated[tuple[Kilovolts, ...], Field(min_length=1)] = (300.0,)
    semiangles: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1.0, 2.0, 4.0)
    """mrad"""
    thicknesses: Annotated[tuple[Positive, ...], Field(min_length=1)] = tuple(range(10, 461, 50))
    """Å"""
    tilt: Annotated[float, Field(ge=0, le=10)] = 1.0
    """Degrees: rms tilt off a zone axis."""
    size: Annotated[int, Field(ge=16, le=2048)] = 256
    reach: Annotated[float, Field(gt=0.1, le=4)] = 1.5
    """1/Å from the direct beam to the edge."""
    depth: Annotated[float, Field(gt=0, le=0.2)] = 0.02
    """1/Å: rms rel-rod of the labels; reflections within four of it are listed."""
    method: Literal["auto", "bloch", "multislice"] = "auto"


class _OnTheFly(Recipe):
    """What spot lists and images on the fly share."""

    blocks: Count = 1000
    """Crystals in one epoch; the next epoch draws anew."""
    per_crystal: Annotated[int, Field(ge=1, le=4096)] = 128
    per_direction: Annotated[int, Field(ge=1, le=512)] = 16
    """Patterns about one direction of the beam."""
    zone_share: Share = 0.7
    """Share of directions that are zone axes; the others are random."""
    max_index: Annotated[int, Field(ge=1, le=8)] = 3
    tilt: Annotated[float, Field(ge=0, le=10)] = 0.5
    """Degrees: rms tilt off the direction, within three times that."""
    voltages: Annotated[tuple[Kilovolts, ...], Field(min_length=1)] = (80.0, 120.0, 200.0, 300.0)
    thickness: Range = Range(low=50, high=600)
    """Å"""
    bend: Range = Range(low=1.0, high=10.0)
    """Width of the rel-rods over that of a flat foil: bending and mosaic spread."""
    double_diffraction: Share = 0.2
    """Share of crystals whose twice-scattered beams light extinct reflections."""
    g_max: Annotated[float, Field(ge=0.6, le=4)] = 1.6


class SpotsRecipe(_OnTheFly):
    """Lists of spots as a spot finder reports them."""

    kind: Literal["spots"]
    max_spots: Annotated[int, Field(ge=4, le=1024)] = 96
    clean: bool = False
    """Leave out everything that the instrument does."""


class PatternsRecipe(_OnTheFly):
    """Images as a camera records them."""

    kind: Literal["patterns"]
    size: Annotated[int, Field(ge=32, le=2048)] = 128
    reach: Range = Range(low=0.8, high=1.6)
    """1/Å from the direct beam to the edge."""
    sigma: Range = Range(low=0.8, high=2.5)
    """px"""
    per_instrument: Annotated[int, Field(ge=1, le=512)] = 8
    """Patterns that one camera records: as many share distortion, beam stop and dose."""
    points: Annotated[int, Field(ge=4, le=1024)] = 64
    """Reflections whose place is given with each image, strongest first."""


AnyRecipe = SaedRecipe | QuartetsRecipe | SpotsRecipe | PatternsRecipe
_ADAPTER: TypeAdapter[AnyRecipe] = TypeAdapter(Annotated[AnyRecipe, Field(discriminator="kind")])


def parse_recipe(values: dict[str, Any], origin: str = "recipe") -> AnyRecipe:
    """Check the values of a recipe.

    Raises
    ------
    DiskernError
        Naming the first word or value that is wrong.
    """
    try:
        return _ADAPTER.validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "kind"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise DiskernError(f"{origin}: {where}: {first['msg']}{more}") from error


def load_recipe(source: str | Path) -> AnyRecipe:
    """Read a recipe from a TOML file, or one of the shipped recipes by name.

    Folders that the recipe names are made absolute, relative to the recipe's own.

    Raises
    ------
    DiskernError
        Where the file is missing, is no TOML or breaks a rule.
    """
    path = Path(source)
    shipped = recipe_names()
    if not path.exists() and str(source) in shipped:
        text = (files("diskern.train") / "recipes" / f"{source}.toml").read_text("utf-8")
        return _from_toml(text, str(source), Path())
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DiskernError(
            f"{source}: no recipe can be read there; shipped recipes: {', '.join(shipped)}"
        ) from error
    return _from_toml(text, path.name, path.resolve().parent)


def recipe_names() -> tuple[str, ...]:
    """Names of the recipes that ship with the package."""
    folder = files("diskern.train") / "recipes"
    return tuple(sorted(f.name[:-5] for f in folder.iterdir() if f.name.endswith(".toml")))


def _from_toml(text: str, origin: str, folder: Path) -> AnyRecipe:
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DiskernError(f"{origin}: no TOML ({error})") from error
    for table in values.get("crystals", []) if isinstance(values.get("crystals"), list) else []:
        if isinstance(table, dict) and isinstance(table.get("path"), str):
            table["path"] = str(folder / table["path"])
    return parse_recipe(values, origin)
