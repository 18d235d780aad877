"""Every code block of the documentation runs, or says why it does not.

A block is skipped by an HTML comment on the line before it: ``<!-- skip: reason -->``.  Python
blocks of one page share a namespace and run in an empty folder; console blocks run the lines
that start with ``$`` and may use any verb of the command line.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from diskern.cli._app import VERBS, load

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(
    r"^(?P<before>[^\n]*)\n```(?P<language>\w+)[^\n]*\n(?P<code>.*?)^```", re.MULTILINE | re.DOTALL
)
SKIP = re.compile(r"<!--\s*skip:\s*(?P<reason>.+?)\s*-->")


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    code: str
    skip: str | None


def blocks(page: Path) -> list[Block]:
    text = "\n" + page.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        skip = SKIP.search(match["before"])
        line = text.count("\n", 0, match.start("code"))
        reason = skip["reason"] if skip else None
        found.append(Block(page, line, match["language"], match["code"], reason))
    return found


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_fences_are_closed_and_name_their_language(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    fences = re.findall(r"^```.*$", text, re.MULTILINE)
    assert len(fences) % 2 == 0
    assert all(fence != "```" for fence in fences[::2]), "a block without a language"
    assert all(len(b.skip) > 5 for b in blocks(page) if b.skip), "skips give a reason"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [b for b in blocks(page) if b.language == "python" and not b.skip]
    monkeypatch.chdir(tmp_path)
    space: dict[str, object] = {"__name__": "__main__"}
    for block in wanted:
        source = "\n" * block.line + block.code
        exec(compile(source, str(page), "exec"), space)  # noqa: S102 - our own documentation


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_console_blocks_run(page: Path, tmp_path: Path) -> None:
    for block in blocks(page):
        if block.language != "console" or block.skip:
            continue
        for line in block.code.splitlines():
            if line.startswith("$ "):
                run_line(line[2:], tmp_path, f"{page.name}:{block.line}")


def run_line(line: str, folder: Path, where: str) -> None:
    words = shlex.split(line, comments=True)
    assert words[0] in {"diskern", "python"}, f"{where}: {line!r} runs neither diskern nor python"
    call = [sys.executable]
    if words[0] == "diskern":
        call += ["-c", "from diskern.cli import main; main()"]
    done = subprocess.run([*call, *words[1:]], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, f"{where}: {line}\n{done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def options_of(command: Any) -> set[str]:
    """Long options of a command and of the commands below it."""
    own = {word for p in command.params for word in p.opts if word.startswith("--")}
    below = [options_of(c) for c in getattr(command, "commands", {}).values()]
    return own.union(*below) - {"--help", "--verbose"}


@pytest.mark.parametrize("verb", VERBS)
def test_the_command_line_page_names_every_option(verb: str) -> None:
    text = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    section = text.split(f"\n## {verb}\n", 1)[1].split("\n## ", 1)[0]
    missing = {option for option in options_of(load(verb)) if f"`{option}" not in section}
    assert not missing
