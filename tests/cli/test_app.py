import subprocess
import sys

import pytest
import typer

from diskern.cli import _app
from diskern.errors import DiskernError


@pytest.fixture
def verb(monkeypatch):
    """Registers one function as the verb ``try`` and runs it."""

    def run(function, *arguments):
        monkeypatch.setitem(_app.VERBS, "try", _app.Verb("tests:try", "A try."))
        monkeypatch.setattr(_app, "_import", lambda target: function)
        return _app.run(["try", *arguments])

    return run


def test_success_is_zero(verb, capsys):
    def function(name: str, twice: bool = False) -> None:
        """Say a name.

        Example:  diskern try Bragg
        """
        typer.echo(name * (2 if twice else 1))

    assert verb(function, "Bragg", "--twice") == 0
    assert capsys.readouterr().out == "BraggBragg\n"
    assert verb(function, "--help") == 0
    assert "diskern try Bragg" in capsys.readouterr().out


def test_a_users_mistake_is_one_line_and_one(verb, capsys):
    def function() -> None:
        raise DiskernError("pixel_size=-1 1/Å is not positive;\ngive a positive number")

    assert verb(function) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "diskern: pixel_size=-1 1/Å is not positive; give a positive number\n"


@pytest.mark.parametrize("error", [KeyError("x"), RuntimeError("a\nb\x1b[31m"), OSError(5, "disk")])
def test_the_unforeseen_is_one_line_naming_its_type(verb, capsys, error):
    def function() -> None:
        raise error

    assert verb(function) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.startswith(f"diskern: {type(error).__name__}: ")
    assert "-v" in err
    assert "\x1b" not in err


@pytest.mark.parametrize("before", [True, False])
def test_v_shows_the_traceback_on_either_side_of_the_verb(monkeypatch, capsys, before):
    def function() -> None:
        raise DiskernError("no")

    monkeypatch.setitem(_app.VERBS, "try", _app.Verb("tests:try", "A try."))
    monkeypatch.setattr(_app, "_import", lambda target: function)
    assert _app.run(["-v", "try"] if before else ["try", "-v"]) == 1
    assert "Traceback" in capsys.readouterr().err
    assert _app.run(["try"]) == 1
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["frobnicate"], ["--frobnicate"], ["try"], ["try", "a", "--size", "x"]]
)
def test_wrong_usage_is_two_and_names_the_help(verb, capsys, arguments, monkeypatch):
    def function(name: str, size: float = 1.0) -> None:
        pass

    monkeypatch.setitem(_app.VERBS, "try", _app.Verb("tests:try", "A try."))
    monkeypatch.setattr(_app, "_import", lambda target: function)
    assert _app.run(arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("diskern: ")
    assert "--help" in err


def test_interruption_says_so(verb, capsys):
    def function() -> None:
        raise KeyboardInterrupt

    assert verb(function) == 130
    assert capsys.readouterr().err.strip().endswith("diskern: interrupted")


def test_exit_codes_of_a_verb_pass_through(verb):
    def function() -> None:
        raise typer.Exit(1)

    assert verb(function) == 1


def test_warnings_of_libraries_stay_out_of_sight(verb, recwarn):
    import warnings

    def function() -> None:
        warnings.warn("deprecated", stacklevel=1)

    assert verb(function) == 0
    assert len(recwarn) == 0
    assert verb(function, "-v") == 0


def test_help_lists_every_verb_without_importing_one(capsys):
    assert _app.run(["--help"]) == 0
    out = capsys.readouterr().out
    for name in _app.VERBS:
        assert name in out


def test_version(capsys):
    from diskern import __version__

    assert _app.run(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"diskern {__version__}"


def test_sub_verbs_from_their_own_files_join_the_group(monkeypatch, capsys):
    app = typer.Typer()

    @app.command()
    def saed() -> None:
        """A spot pattern."""

    def scan() -> None:
        """A scan."""
        raise DiskernError("scanned")

    verb = _app.Verb("a:app", "Group.", parts={"scan": "b:scan"})
    monkeypatch.setitem(_app.VERBS, "try", verb)
    monkeypatch.setattr(_app, "_import", {"a:app": app, "b:scan": scan}.__getitem__)
    assert _app.run(["try", "scan", "-v"]) == 1
    assert "Traceback" in capsys.readouterr().err
    assert _app.run(["try", "--help"]) == 0
    out = capsys.readouterr().out
    assert "saed" in out
    assert "scan" in out


@pytest.mark.parametrize("lines", [1, 100000])
def test_a_closed_pipe_is_quiet(lines):
    code = (
        "import sys, typer\n"
        "from diskern.cli import _app\n"
        f"def talk() -> None: typer.echo('line\\n' * {lines})\n"
        "_app._import = lambda target: talk\n"
        "sys.stdin.read()\n"
        "raise SystemExit(_app.run(['info']))\n"
    )
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, stderr=pipe)
    process.stdout.close()
    process.stdin.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 1
