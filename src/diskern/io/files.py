"""What every reader needs of the file system: safe opening, bounded reading, one-line faults."""

from __future__ import annotations

import lzma
import os
import stat
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from diskern.errors import DiskernError

HEAD_BYTES = 4096
"""How much of a file the recognition by content looks at."""

COPY_AGAIN = "copy it again from the microscope's computer"

DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BufferError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,  # Pillow raises it for a broken PNG, numpy for a broken .npy header
    TypeError,
    ValueError,
    lzma.LZMAError,
    struct.error,
    tokenize.TokenError,  # numpy on a .npy header, which is Python text
    zipfile.BadZipFile,
    zlib.error,
)
"""What decoders (ours and the libraries') raise on bytes that are not what they claim to be."""


def printable(text: object, limit: int = 200) -> str:
    """``text`` on one line of at most ``limit`` printable characters."""
    clean = "".join(c if c.isprintable() else " " for c in str(text)[: 4 * limit])
    clean = " ".join(clean.encode("utf-8", "replace").decode().split())
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def label(path: str | os.PathLike[str]) -> str:
    """The file's name as an error may show it."""
    return printable(os.fspath(path)) or "the file"


def fault(path: str | os.PathLike[str], problem: str, mend: str = COPY_AGAIN) -> DiskernError:
    """The one-line error for a file: its name, what is wrong, what would mend it."""
    return DiskernError(f"{label(path)}: {problem}; {mend}")


@contextmanager
def reading(path: Path, format_name: str) -> Iterator[None]:
    """Turn whatever a decoder raises on damaged bytes into one `DiskernError`."""
    try:
        yield
    except DiskernError:
        raise
    except PermissionError as error:
        raise fault(path, "no permission to read it", "change its access rights") from error
    except DAMAGE as error:
        why = printable(error, 120) or type(error).__name__
        raise fault(path, f"truncated or damaged {format_name} ({why})") from error


def bomb(size: int, packed: int) -> bool:
    """Whether ``size`` bytes from ``packed`` compressed ones are no measurement.

    Deflate cannot do better than 1032 to 1; counts of a detector reach some tens.
    """
    return size > 1100 * packed + 4096 or (size > 1 << 30 and size > 100 * packed)


def refuse_dataset(path: Path, dataset: str | None, format_name: str) -> None:
    """Raise where a dataset was named in a format that holds only one."""
    if dataset is not None:
        raise fault(
            path, f"dataset={printable(dataset)!r}, but {format_name} holds one", "leave it out"
        )


def check_path(path: str | os.PathLike[str]) -> Path:
    """``path`` as a `Path` to something that exists and can be read.

    Raises
    ------
    DiskernError
        For a missing file, one without read permission, a loop of links, a device or a pipe.
    """
    try:
        checked = Path(path)
        mode = checked.stat().st_mode
    except FileNotFoundError as error:
        raise fault(path, "no such file", "check the path") from error
    except PermissionError as error:
        raise fault(path, "no permission to read it", "change its access rights") from error
    except (OSError, ValueError, TypeError) as error:
        raise fault(str(path), f"not a usable path ({printable(error, 80)})", "check it") from error
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise fault(path, "a device or pipe, not a file", "give a regular file")
    return checked


def head_of(path: Path) -> bytes:
    """The first `HEAD_BYTES` bytes of a regular file; an empty file is a fault."""
    with reading(path, "file"), path.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
    if not head:
        raise fault(path, "empty file (0 bytes)")
    return head


class Cursor:
    """Reads numbers from a binary file and never past its end.

    A read beyond the end raises ``EOFError``, which `reading` turns into one clear line.
    """

    def __init__(self, path: Path) -> None:
        self._stream = path.open("rb")
        self.size = os.fstat(self._stream.fileno()).st_size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stream.close()

    def tell(self) -> int:
        """Position in bytes from the start."""
        return self._stream.tell()

    def seek(self, position: int) -> None:
        """Go to ``position``; outside the file is an error."""
        if not 0 <= position <= self.size:
            raise EOFError(f"offset {position} is outside the {self.size} bytes of the file")
        self._stream.seek(position)

    def skip(self, count: int) -> None:
        """Go ``count`` bytes forward."""
        if count < 0:
            raise ValueError(f"negative size {count}")
        self.seek(self.tell() + count)

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes."""
        if not 0 <= count <= self.size - self.tell():
            raise EOFError(f"{count} bytes wanted at {self.tell()} of {self.size}")
        return self._stream.read(count)

    def unpack(self, layout: str) -> tuple[Any, ...]:
        """The next numbers, as `struct` describes them."""
        return struct.unpack(layout, self.take(struct.calcsize(layout)))

    def one(self, layout: str) -> Any:
        """The next number."""
        return self.unpack(layout)[0]
