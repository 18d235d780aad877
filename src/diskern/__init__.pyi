from .bragg.disk_probe import Probe as Probe
from .bragg.find import find_bragg_vectors as find_bragg_vectors
from .bragg.vectors import BraggVectors as BraggVectors
from .crystal.crystal import Crystal as Crystal
from .errors import DiskernError as DiskernError
from .mapping.calibration import calibrate as calibrate
from .mapping.index import index_vectors as index_vectors
from .mapping.strain import StrainMap as StrainMap
from .mapping.strain import strain_map as strain_map
from .mapping.tilt import TiltMap as TiltMap
from .mapping.tilt import tilt_map as tilt_map
from .patterns.pattern import Pattern as Pattern
from .patterns.pattern import Scan as Scan
from .patterns.read import read as read
from .simulate.cbed import simulate_cbed as simulate_cbed
from .simulate.render import render_spots as render_spots
from .simulate.saed import simulate_saed as simulate_saed
from .simulate.scan import simulate_scan as simulate_scan
from .simulate.spot_pattern import SpotPattern as SpotPattern
from .symmetry.identification import Identification as Identification
from .symmetry.identify import IdentifyOptions as IdentifyOptions
from .symmetry.identify import identify as identify

__version__: str
