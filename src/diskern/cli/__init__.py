"""The command line: one small file a verb, no science."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run ``diskern`` with ``sys.argv`` (or the given arguments) and leave with its exit code."""
    from diskern.cli._app import run

    raise SystemExit(run(arguments))
