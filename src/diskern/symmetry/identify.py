"""`identify`: diffraction patterns of an unknown crystal in, crystallography out."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from diskern._version import __version__
from diskern.bragg.analyse import analyse
from diskern.bragg.analysis import Analysis
from diskern.bragg.recentre import agreed
from diskern.crystal.common import check_elements, common_phases, load_candidates
from diskern.crystal.crystal import Crystal
from diskern.errors import DiskernError
from diskern.patterns.geometry import Ellipse
from diskern.patterns.pattern import Pattern, Scan
from diskern.patterns.read import read
from diskern.symmetry.doubts import doubts
from diskern.symmetry.evidence import evidence_from
from diskern.symmetry.identification import Identification, PhaseMatch, ZoneAxis
from diskern.symmetry.joined import Witness
from diskern.symmetry.learned import learned_symmetry
from diskern.symmetry.phases import search_phases
from diskern.symmetry.posterior import Posterior, Prior
from diskern.symmetry.reasoner import reason
from diskern.symmetry.retrieval import shortlist
from diskern.symmetry.ring_phases import search_ring_phases
from diskern.symmetry.second_opinion import second_opinion, sets_of_both

PatternLike: TypeAlias = "Pattern | Scan | str | os.PathLike[str] | Any"
Candidates: TypeAlias = "Sequence[Crystal] | Sequence[str | Path] | str | Path"

MOST_FRAMES = 20
"""Frames of one file that can be patterns of their own; longer stacks are scans or films."""
MOST_INDEXED = 400
"""Candidates up to which each is indexed; of more, those whose nets fit best."""
SHORTLIST = 150
SCALE_BAR_ERROR = 0.04
"""Relative uncertainty of a printed scale bar; 3 to 5 % off is common on real images."""
NO_NET = (
    "No pattern shows a two-dimensional lattice about the direct beam, so the symmetry is not "
    "judged; the phases stand alone."
)


@dataclass(frozen=True)
class IdentifyOptions:
    """What the user knows beyond the images.

    Attributes
    ----------
    pixel_size_error : relative standard uncertainty of the pixel size; None takes each
        pattern's own, or 4 % for a scale bar.
    tilts : goniometer angle of each pattern in degrees about one common axis, or None.
    ellipse : distortion of the setting, measured on a ring pattern, or None.
    scale_bar : length that the burnt-in scale bar stands for, in 1/Å, or None.
    prior : what is held of the symmetry before any pattern is seen; by default
        `Prior.natural`, in which frequent space groups count more.
    dataset : which dataset of each file, where a file holds several, or None.
    frames : what the frames of a stack or scan are: "mean", one pattern, seen in all of them, or
        "each", up to `MOST_FRAMES` patterns of their own.
    limit : how many phases to keep in the answer.
    network : whether the trained network has a say in the symmetry beside the rules.
    """

    pixel_size_error: float | None = None
    tilts: Sequence[float] | None = None
    ellipse: Ellipse | None = None
    scale_bar: float | None = None
    prior: Prior | None = None
    dataset: str | None = None
    frames: Literal["mean", "each"] = "mean"
    limit: int = 10
    network: bool = True


def identify(
    patterns: PatternLike | Sequence[PatternLike],
    *,
    pixel_size: float | None = None,
    energy: float | None = None,
    elements: Iterable[str] | None = None,
    candidates: Candidates | None = None,
    options: IdentifyOptions | None = None,
    progress: Callable[[str], None] | None = None,
) -> Identification:
    """Lattice, zone axes, symmetry and phases of one crystal from its diffraction patterns.

    Parameters
    ----------
    patterns : one or more patterns of the same crystal: `Pattern`, (Q_y, Q_x) array, or the path
        of a file.  Of a `Scan` the average pattern is taken, or every frame: see
        `IdentifyOptions.frames`.
    pixel_size : 1/Å per pixel for all patterns; by default what each file states.
    energy : beam energy in eV; by default what each file states.
    elements : symbols of all elements that may be present; phases with others are not tried.
    candidates : crystals, or CIF files or folders of them, to index against; by default the
        table of common phases.
    progress : called with a few words whenever a new step begins.

    Returns
    -------
    What the patterns say, most probable first.  The symmetry is judged without assuming that
    any candidate is right, by rules and a trained network together; the phases are an opinion of
    their own.

    Raises
    ------
    DiskernError
        For input that cannot be read or is impossible.
    """
    options = options or IdentifyOptions()
    tell = progress or (lambda words: None)
    inputs: list[Any] = [patterns] if _is_one(patterns) else list(patterns)  # type: ignore[arg-type]
    if not inputs:
        raise DiskernError("no patterns given; name at least one file")
    allowed = None if elements is None else sorted(check_elements(elements))
    loaded = [
        _calibrated(pattern, pixel_size, energy, options)
        for given in inputs
        for pattern in _load(given, options, tell)
    ]
    crystals = _candidates(candidates, allowed)
    analyses = agreed([_analyse(p, options, tell) for p in loaded])
    provenance = _provenance(inputs, pixel_size, energy, allowed, crystals, options)
    if all(a.kind == "none" for a in analyses):
        whys = dict.fromkeys(a.refusal or "nothing crystalline was found" for a in analyses)
        return Identification(False, "; ".join(whys), analyses, provenance=provenance)
    tell("weighing symmetries")
    answer = _with_symmetry(Identification(True, None, analyses, provenance=provenance), options)
    tell(f"indexing against {len(crystals)} phases")
    return replace(answer, phases=_phases(analyses, crystals, options))


# --- input ----------------------------------------------------------------------------------
def _is_one(patterns: Any) -> bool:
    if isinstance(patterns, Pattern | Scan | str | os.PathLike):
        return True
    return bool(getattr(patterns, "ndim", 0) == 2)


def _load(
    given: PatternLike, options: IdentifyOptions, tell: Callable[[str], None]
) -> list[Pattern]:
    """The patterns of one input; one, unless every frame of a stack is to be a pattern."""
    if isinstance(given, str | os.PathLike):
        tell(f"reading {Path(given).name}")
        given = read(given, dataset=options.dataset)
    if isinstance(given, Scan):
        return _frames(given, options.frames)
    return [given if isinstance(given, Pattern) else Pattern.from_array(given)]


def _frames(scan: Scan, frames: str) -> list[Pattern]:
    """The mean of a stack or scan, or its frames."""
    if frames not in ("mean", "each"):
        raise DiskernError(f'frames={frames!r} is unknown; use "mean" or "each"')
    count = scan.shape[0] * scan.shape[1]
    if frames == "each":
        if count > MOST_FRAMES:
            raise DiskernError(
                f"{scan.source or 'the scan'}: {count} frames cannot each be a pattern of its own; "
                f"{MOST_FRAMES} at most"
            )
        return list(scan.patterns())
    mean = scan.mean_pattern()
    if not 1 < count <= MOST_FRAMES:
        return [mean]
    note = f'The mean of {count} frames; if they are patterns of their own, ask for frames "each".'
    return [replace(mean, notes=(*mean.notes, note))]


def _calibrated(
    pattern: Pattern, pixel_size: float | None, energy: float | None, options: IdentifyOptions
) -> Pattern:
    """A pattern with the calibration the user stated."""
    # Through from_array once more, so that a stated value is checked as any other.
    pattern = replace(
        pattern,
        pixel_size=Pattern.from_array(
            pattern.image, pixel_size or pattern.pixel_size, energy or pattern.energy
        ).pixel_size,
        energy=energy or pattern.energy,
    )
    if options.pixel_size_error is not None:
        pattern = replace(pattern, pixel_size_error=options.pixel_size_error)
    return pattern


def _analyse(pattern: Pattern, options: IdentifyOptions, tell: Callable[[str], None]) -> Analysis:
    """What the image shows, with the scale of its scale bar where that is the only one."""
    tell(f"measuring {pattern.source or 'the pattern'}")
    found = analyse(pattern, ellipse=options.ellipse)
    if options.scale_bar is None:
        return found
    if found.scale_bar is None:
        raise DiskernError(
            f"{pattern.source or 'the image'} shows no scale bar; give the pixel size instead"
        )
    error = options.pixel_size_error or SCALE_BAR_ERROR
    scaled = replace(
        pattern, pixel_size=options.scale_bar / found.scale_bar, pixel_size_error=error
    )
    return replace(found, pattern=scaled)


def _candidates(given: Candidates | None, elements: list[str] | None) -> list[Crystal]:
    if given is None:
        return list(common_phases(elements))
    if not isinstance(given, str | Path) and all(isinstance(c, Crystal) for c in given):
        crystals = [c for c in given if isinstance(c, Crystal)]
    else:
        crystals = load_candidates([Path(str(g)) for g in _as_list(given)])
    if elements is not None:
        crystals = [c for c in crystals if set(c.elements) <= set(elements)]
    return crystals


def _as_list(given: Any) -> list[Any]:
    return [given] if isinstance(given, str | Path) else list(given)


# --- the two opinions -------------------------------------------------------------------------
def _with_symmetry(answer: Identification, options: IdentifyOptions) -> Identification:
    """The answer with what rules and network say of the symmetry."""
    analyses = answer.analyses
    prior = options.prior or Prior.natural()
    learned = learned_symmetry(analyses, prior=prior) if options.network else None
    posterior, spoke = _symmetry(analyses, prior, learned.witness if learned else None)
    network = second_opinion(learned, analyses, rules=posterior) if learned else None
    asked = network.crystal if network else (None,) * len(analyses)
    answer = replace(
        answer,
        doubts=doubts(analyses, asked),
        zone_axes=_zones(len(analyses), posterior, spoke),
        reasons=(*_refusals(analyses), *(posterior.reasons if posterior else (NO_NET,))),
        network=network,
    )
    if posterior is None:
        return answer
    return replace(
        answer,
        system=posterior.system(),
        laue_class=posterior.laue_class(),
        extinction_symbol=posterior.extinction_symbol(),
        space_group=posterior.space_group(),
        ambiguity_set=posterior.ambiguity_set,
        next_zone=posterior.next_zone,
        sets=sets_of_both(posterior, learned) if learned else {},
    )


def _symmetry(
    analyses: Sequence[Analysis], prior: Prior, witness: Witness | None
) -> tuple[Posterior | None, list[int]]:
    """The posterior of the reasoner and its witness, and which patterns it was made from."""
    spoke, evidence = [], []
    sizes = {a.pattern.pixel_size for a in analyses}
    # One stated pixel size for all: whatever its error, all patterns share it.
    camera = "common" if len(sizes) == 1 and None not in sizes else None
    for i, analysis in enumerate(analyses):
        nets = [lattice for lattice in analysis.lattices if lattice.rank == 2]
        if analysis.kind == "spots" and nets:
            spoke.append(i)
            found = evidence_from(analysis, nets[0])
            if camera is not None:
                found = found.with_scale(
                    analysis.pattern.pixel_size, analysis.pattern.pixel_size_error, camera
                )
            # Images without a net are not among the evidence, but the user counts them.
            evidence.append(replace(found, number=i + 1 if len(analyses) > 1 else None))
    return (reason(evidence, prior=prior, witness=witness), spoke) if evidence else (None, [])


def _phases(
    analyses: Sequence[Analysis], crystals: Sequence[Crystal], options: IdentifyOptions
) -> tuple[PhaseMatch, ...]:
    """Matching phases; spots and rings of one specimen are multiplied into one opinion."""
    if not crystals:
        return ()
    if len(crystals) > MOST_INDEXED:
        crystals = shortlist(analyses, crystals, SHORTLIST)
    spots = any(a.kind == "spots" for a in analyses)
    rings = any(a.kind == "rings" for a in analyses)
    # Both opinions are multiplied name by name, so neither may leave a name out.
    limit = len(crystals) if spots and rings else options.limit
    by_spots = search_phases(
        analyses, crystals, tilts=options.tilts, ellipse=options.ellipse, limit=limit
    )
    by_rings = search_ring_phases(analyses, crystals, limit=limit)
    if by_spots and by_rings:
        ring_score = {m.name: m.score for m in by_rings}
        scores = np.array([m.score * ring_score.get(m.name, 0.0) for m in by_spots])
        scores /= max(float(scores.sum()), 1e-300)
        by_spots = [replace(m, score=float(s)) for m, s in zip(by_spots, scores, strict=True)]
    found = by_spots or by_rings
    return tuple(sorted(found, key=lambda m: -m.score)[: options.limit])


def _zones(
    count: int, posterior: Posterior | None, spoke: Sequence[int]
) -> tuple[tuple[ZoneAxis, ...], ...]:
    out: list[tuple[ZoneAxis, ...]] = [()] * count
    if posterior is not None:
        for i, zones in zip(spoke, posterior.zone_axes, strict=True):
            out[i] = zones
    return tuple(out)


def _refusals(analyses: Sequence[Analysis]) -> tuple[str, ...]:
    """Why single patterns of an otherwise crystalline set were left out."""
    return tuple(
        f"{a.pattern.source or f'Pattern {i + 1}'} was left out: {a.refusal}"
        for i, a in enumerate(analyses)
        if a.kind == "none"
    )


# --- provenance -----------------------------------------------------------------------------
def _provenance(
    inputs: Sequence[PatternLike],
    pixel_size: float | None,
    energy: float | None,
    elements: list[str] | None,
    crystals: Sequence[Crystal],
    options: IdentifyOptions,
) -> dict[str, Any]:
    chosen = replace(options, prior=None)
    stated = asdict(chosen) | {
        "prior": "natural" if options.prior is None else "given",
        "pixel_size": pixel_size,
        "energy": energy,
        "elements": elements,
        "candidates": len(crystals),
    }
    return {
        "program": f"diskern {__version__}",
        "configuration": {k: v for k, v in stated.items() if v is not None},
        "input": [_identity(given) for given in inputs],
    }


def _identity(given: PatternLike) -> dict[str, Any]:
    """Name and SHA-256 of a file, or of the bytes of an image."""
    if isinstance(given, str | os.PathLike):
        path = Path(given)
        if path.is_dir():
            return {"file": str(path)}
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256")
        return {"file": str(path), "sha256": digest.hexdigest()}
    if isinstance(given, Scan):
        return {"file": given.source, "shape": list(given.shape)}
    image = given.image if isinstance(given, Pattern) else np.asarray(given)
    name = given.source if isinstance(given, Pattern) else "array"
    digest = hashlib.sha256(np.ascontiguousarray(image).tobytes())
    return {"file": name, "sha256": digest.hexdigest()}
