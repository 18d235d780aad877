"""What the verbs share on their way out: progress, JSON, tables."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diskern.errors import DiskernError

if TYPE_CHECKING:
    from rich.console import Console

PACE = 60.0
"""Seconds between two lines of progress where there is no terminal."""


@contextmanager
def progress(first: str) -> Iterator[Callable[[str], None]]:
    """A spinner on standard error while work goes on; elsewhere, as in a batch job's log, a line
    a minute.

    Yields a function that changes the words beside the spinner.
    """
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(console)
        return
    with console.status(Text(first)) as status:
        yield lambda words: status.update(Text(words))


def _lines(console: Console) -> Callable[[str], None]:
    """Words as lines, at most one every `PACE` seconds, so that short work stays silent."""
    last = time.monotonic()

    def say(words: str) -> None:
        nonlocal last
        if time.monotonic() - last >= PACE:
            last = time.monotonic()
            console.print(words, markup=False, highlight=False, soft_wrap=True)

    return say


def console() -> Console:
    """Standard output; colour on a terminal, plain and unfolded text elsewhere."""
    from rich.console import Console

    terminal = sys.stdout.isatty()
    return Console(highlight=False, soft_wrap=not terminal, width=None if terminal else 160)


def write_json(data: Any, target: str) -> None:
    """JSON to a file, or to standard output for ``-``.

    Raises
    ------
    DiskernError
        Where the file cannot be written.
    """
    text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False, default=_plain)
    if target == "-":
        sys.stdout.write(text + "\n")
        return
    try:
        Path(target).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise DiskernError(f"cannot write {target}: {error.strerror or error}") from error


def _plain(value: Any) -> Any:
    """numpy numbers and arrays as JSON knows them; anything else as text."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
