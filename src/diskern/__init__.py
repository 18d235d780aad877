"""Electron-diffraction images to crystallography.

The public names are listed in ``__init__.pyi`` and imported on first use, so that
``import diskern`` stays quick and loads neither torch nor matplotlib.
"""

import lazy_loader as _lazy

from diskern._version import __version__

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
__all__ += ["__version__"]
