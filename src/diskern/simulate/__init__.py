"""From a crystal to its diffraction pattern.

Names are imported on first use; torch is loaded by the dynamical engines only.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
