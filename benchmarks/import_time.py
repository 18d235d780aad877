"""Time of ``import diskern``, ``diskern --help`` and bare Python; best of several runs.

python benchmarks/import_time.py [--runs 9]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

CASES = {
    "bare python": "pass",
    "import numpy": "import numpy",
    "import diskern": "import diskern",
    "diskern --help": "from diskern.cli._app import run; run(['--help'])",
    "first identify": "from diskern.symmetry.identify import identify",
    "first simulate_saed": "import diskern; diskern.simulate_saed",
}


def best(code: str, runs: int) -> float:
    """Shortest wall-clock time of a fresh interpreter in seconds."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Write one line a case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=9)
    runs = parser.parse_args().runs
    for name, code in CASES.items():
        sys.stdout.write(f"{name:<22} {best(code, runs):6.3f} s\n")


if __name__ == "__main__":
    main()
