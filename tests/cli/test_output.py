"""Progress where nobody watches a terminal."""

from __future__ import annotations

import pytest

from diskern.cli import _output


def test_a_log_gets_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 10.0, 61.0, 61.0, 100.0, 130.0, 130.0])
    monkeypatch.setattr(_output.time, "monotonic", lambda: next(clock))
    with _output.progress("beginning") as tell:
        for words in ("too soon", "a minute [in]", "again too soon", "two minutes in"):
            tell(words)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == ["a minute [in]", "two minutes in"]
