"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest


def _shared() -> Path:
    stated = os.environ.get("DISKERN_SHARED")
    return Path(stated) if stated else Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real files; tests that need it are skipped where it is absent."""
    folder = _shared()
    if not (folder / "data" / "experimental").is_dir():
        pytest.skip("no real files here; set DISKERN_SHARED to the folder that holds them")
    return folder


@pytest.fixture(scope="session")
def experimental(shared_data: Path) -> Path:
    """The real electron-diffraction files."""
    return shared_data / "data" / "experimental"
