"""`python -m diskern.cli`, which is how torchrun starts a training."""

import sys

from diskern.cli._app import run

if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
