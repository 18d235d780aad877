"""Every optional library may be missing: import and help still work, and say what is lacking."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from diskern.cli._app import VERBS

BLOCKER = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocker())
"""
OPTIONAL = {
    "rsciio", "fabio", "mrcfile", "hdf5plugin", "zarr", "dask", "distributed", "pymatgen", "ase",
    "pandas", "hyperspy", "orix", "onnx", "fastapi", "uvicorn",
}  # fmt: skip
TEST_ONLY = {"pytest", "hypothesis", "mkdocs", "ruff", "mypy"}


def run_without(blocked: set[str], code: str) -> subprocess.CompletedProcess[str]:
    program = BLOCKER.format(blocked=blocked) + code
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("verb", [None, *VERBS])
def test_help_needs_no_extra(verb):
    arguments = ["--help"] if verb is None else [verb, "--help"]
    code = f"from diskern.cli._app import run; raise SystemExit(run({arguments!r}))"
    process = run_without(OPTIONAL | TEST_ONLY, code)
    assert process.returncode == 0, process.stderr
    assert "Usage" in process.stdout


def test_every_public_name_needs_no_extra():
    code = "import diskern\nfor name in diskern.__all__: getattr(diskern, name)"
    process = run_without(OPTIONAL | TEST_ONLY, code)
    assert process.returncode == 0, process.stderr


def test_every_module_imports_without_extras():
    code = (
        "import pkgutil, importlib, diskern\n"
        "for m in pkgutil.walk_packages(diskern.__path__, 'diskern.'):\n"
        "    importlib.import_module(m.name)\n"
    )
    process = run_without(OPTIONAL | TEST_ONLY, code)
    assert process.returncode == 0, process.stderr


def test_the_blocked_libraries_are_those_the_project_calls_optional():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    required = " ".join(project["dependencies"]).lower()
    modules = {"rsciio": "rosettasciio"}
    for name in OPTIONAL:
        assert modules.get(name, name) not in required
