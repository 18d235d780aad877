from .index import IndexOptions as IndexOptions
from .index import index_vectors as index_vectors
from .lattice_map import LatticeMap as LatticeMap
from .lattice_map import Reason as Reason
from .points import Points as Points

__all__ = ["IndexOptions", "LatticeMap", "Points", "Reason", "index_vectors"]
