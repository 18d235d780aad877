"""The instrument and the specimen's scars: what stands between a computed pattern and a file.

Small frozen transforms, each ``apply(image, labels, rng) -> (image, labels)``, composed by
`Instrument`, which draws them from documented ranges and repeats bit for bit from a seed.
"""

from diskern.simulate.instrument.beam_stop import BeamStop
from diskern.simulate.instrument.defects import DetectorCross, DetectorEdge, PixelDefects
from diskern.simulate.instrument.diffuse import (
    AmorphousHalo,
    DiffuseBackground,
    DirectBeam,
    InelasticBlur,
)
from diskern.simulate.instrument.geometry import (
    CentreOffset,
    Crop,
    Descan,
    Ellipticity,
    InPlaneRotation,
    ScaleError,
)
from diskern.simulate.instrument.grains import mistilted, overlapped, rotated, twin_orientation
from diskern.simulate.instrument.instrument import Instrument
from diskern.simulate.instrument.labels import Labels
from diskern.simulate.instrument.noise import Dose, Gain, ModulationTransfer, ReadNoise
from diskern.simulate.instrument.saturation import Blooming, Saturation
from diskern.simulate.instrument.scars import EightBit, Inverted, Jpeg, ScaleBar
from diskern.simulate.instrument.transform import Scene, Transform

__all__ = [
    "AmorphousHalo",
    "BeamStop",
    "Blooming",
    "CentreOffset",
    "Crop",
    "Descan",
    "DetectorCross",
    "DetectorEdge",
    "DiffuseBackground",
    "DirectBeam",
    "Dose",
    "EightBit",
    "Ellipticity",
    "Gain",
    "InPlaneRotation",
    "InelasticBlur",
    "Instrument",
    "Inverted",
    "Jpeg",
    "Labels",
    "ModulationTransfer",
    "PixelDefects",
    "ReadNoise",
    "Saturation",
    "ScaleBar",
    "ScaleError",
    "Scene",
    "Transform",
    "mistilted",
    "overlapped",
    "rotated",
    "twin_orientation",
]
