"""The simulated images of tests/patterns serve the spot and ring finders too."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "patterns"))
