"""Maps of a 4D-STEM scan from its Bragg vectors: lattices, strain, tilt, virtual images.

Names are imported on first use.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
