"""``import diskern`` and the help page load nothing heavy; times are in benchmarks/."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "matplotlib", "scipy", "gemmi", "h5py", "spglib", "numpy", "PIL", "rsciio")


def loaded(code: str) -> set[str]:
    report = f"import sys; sys.stderr.write(' '.join(n for n in {HEAVY!r} if n in sys.modules))"
    process = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True
    )
    return set(process.stderr.split())


def test_import_loads_no_library():
    assert loaded("import diskern; diskern.__version__") == set()


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["identify", "--help"], ["demo", "-h"]]
)
def test_help_loads_no_library(arguments):
    assert loaded(f"from diskern.cli._app import run; assert run({arguments!r}) == 0") == set()


def test_identifying_and_kinematics_need_no_torch():
    names = ("Crystal", "Pattern", "read", "identify", "simulate_saed", "render_spots")
    assert "torch" not in loaded(f"import diskern\nfor n in {names}: getattr(diskern, n)")


def test_every_public_name_can_be_reached():
    loaded("import diskern\nfor name in diskern.__all__: getattr(diskern, name)")
