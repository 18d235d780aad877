"""`python -m diskern.cli`, which is how torchrun starts a training."""

import sys

from diskern.cli._app import run

sys.exit(run(sys.argv[1:]))
