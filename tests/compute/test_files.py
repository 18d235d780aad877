from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from diskern.compute.files import file_hash, whole_file, write_text


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    with whole_file(target) as draft:
        draft.write_bytes(b"12")
        assert not target.exists()
    assert target.read_bytes() == b"12"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_stood_there_stays_when_the_writer_fails(tmp_path: Path, error) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")

    def write() -> None:
        with whole_file(target) as draft:
            draft.write_bytes(b"half")
            raise error

    with pytest.raises(error):
        write()
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_hash_is_of_the_bytes(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "Å")
    assert file_hash(tmp_path / "a.txt") == hashlib.sha256("Å".encode()).hexdigest()
