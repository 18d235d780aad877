"""The frame of the command line: verbs found by name, errors of one line, exit codes.

A verb is an annotated function in a module of its own; the module is imported only when the
verb is called, so ``diskern --help`` stays quick and one verb's trouble never reaches another.
Exit codes: 0 done, 1 could not, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import logging
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from diskern._version import __version__
from diskern.errors import DiskernError
from diskern.report.notation import one_line

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130


@dataclass(frozen=True)
class Verb:
    """Where a verb lives: ``target`` is "module:name" of a function or of a `typer.Typer`.

    ``parts`` adds sub-verbs that live in files of their own to a `typer.Typer`.
    """

    target: str
    summary: str
    parts: Mapping[str, str] = field(default_factory=dict)


VERBS: dict[str, Verb] = {
    "identify": Verb(
        "diskern.cli.identify:identify",
        "Lattice, zone axes, symmetry and phases of one or more diffraction patterns.",
    ),
    "map": Verb(
        "diskern.cli.map:map_scan",
        "Bragg vectors, strain, tilt and virtual images of a 4D-STEM scan.",
    ),
    "bragg": Verb(
        "diskern.cli.bragg:bragg",
        "Bragg vectors of a 4D-STEM scan: the first step of map.",
    ),
    "strain": Verb(
        "diskern.cli.strain:strain",
        "Strain maps from Bragg vectors.",
    ),
    "tilt": Verb(
        "diskern.cli.tilt:tilt",
        "Tilt maps from Bragg vectors.",
    ),
    "info": Verb(
        "diskern.cli.info:info",
        "What a file holds: shape, type, calibration, voltage.",
    ),
    "simulate": Verb(
        "diskern.cli.simulate:app",
        "Diffraction patterns of a known crystal.",
        parts={"scan": "diskern.cli.simulate_scan:scan"},
    ),
    "crystals": Verb(
        "diskern.cli.crystals:app",
        "Crystal structures: listing, choosing, fetching, counting.",
    ),
    "dataset": Verb(
        "diskern.cli.dataset:app",
        "Training sets from recipes: written in shards, looked at, verified.",
    ),
    "train": Verb(
        "diskern.cli.train:train",
        "Networks from recipes: data on the fly, interrupted and resumed at will.",
    ),
    "evaluate": Verb(
        "diskern.cli.evaluate:evaluate",
        "How good trained networks are on patterns that they have not seen.",
    ),
    "models": Verb(
        "diskern.cli.models:models",
        "Trained networks that ship with the program, and their cards.",
    ),
    "demo": Verb(
        "diskern.cli.demo:demo",
        "Simulated patterns, identified: files, figures and report.html in a folder.",
    ),
}


class LazyGroup(TyperGroup):
    """A command group that knows its verbs by name and imports one only when it is called."""

    # ``ctx`` is a click context; typer carries its own copy of click in some versions, so the
    # class has no importable name that is right in all of them.
    def list_commands(self, ctx: Any) -> list[str]:
        """Names of the verbs, in the order of the help page."""
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A stand-in that carries the verb's help line; the real one comes at the call."""
        verb = VERBS.get(cmd_name)
        return None if verb is None else _single(cmd_name, _nothing, verb.summary)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command to run: only here is its module imported."""
        name, stand_in, rest = super().resolve_command(ctx, args)
        if stand_in is None or name not in VERBS:
            return name, stand_in, rest
        return name, load(name), rest


def load(name: str) -> Any:
    """Import the verb ``name`` and give it the options that all verbs share."""
    verb = VERBS[name]
    target = _import(verb.target)
    if not isinstance(target, typer.Typer):
        return _single(name, target, None)
    for part, where in verb.parts.items():
        if part not in {command.name for command in target.registered_commands}:
            target.command(part)(_import(where))
    for command in target.registered_commands:
        if command.callback is not None:
            command.callback = with_common_options(command.callback)
    group = typer.Typer(add_completion=False)
    group.add_typer(target, name=name)
    return get_command(group).commands[name]  # type: ignore[attr-defined]


def _import(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def _single(name: str, function: Callable[..., Any], summary: str | None) -> Any:
    app = typer.Typer(add_completion=False, rich_markup_mode="rich", help=summary)
    app.command(name, help=summary)(with_common_options(function))
    return get_command(app)


def _nothing() -> None:
    """Stand-in for a verb on the help page."""


# --- options that every verb has ---------------------------------------------------------
_verbose = False


def _set_verbose(value: bool) -> bool:
    global _verbose
    _verbose = _verbose or value
    return value


VerboseOption = Annotated[
    bool,
    typer.Option("--verbose", "-v", callback=_set_verbose, help="Show warnings and tracebacks."),
]


def with_common_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same command with ``-v/--verbose`` at the end of its options."""
    signature = inspect.signature(function, eval_str=True)
    if "verbose" in signature.parameters:
        return function

    @functools.wraps(function)
    def command(*args: Any, verbose: bool = False, **options: Any) -> Any:
        _quieten(verbose)
        return function(*args, **options)

    extra = inspect.Parameter(
        "verbose", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=VerboseOption
    )
    parameters = [*signature.parameters.values(), extra]
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


def _quieten(verbose: bool) -> None:
    """Library warnings are for developers; a user sees them only with ``-v``."""
    if not (verbose or _verbose):
        warnings.simplefilter("ignore")


def _version(value: bool) -> None:
    if value:
        typer.echo(f"diskern {__version__}")
        raise typer.Exit


def _application() -> Any:
    app = typer.Typer(
        cls=LazyGroup,
        add_completion=True,
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback(
        epilog="Example:  diskern identify pattern.dm4 --elements Al,Cu --report answer.html"
    )
    def diskern(
        verbose: VerboseOption = False,
        version: Annotated[
            bool,
            typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
        ] = False,
    ) -> None:
        """Electron-diffraction images to crystallography."""

    return get_command(app)


# --- running, and what a person sees when it goes wrong -------------------------------------
def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; never raises for a user's mistake."""
    global _verbose
    _verbose = False
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    _log_to_stderr()
    try:
        code = _application().main(args=arguments, prog_name="diskern", standalone_mode=False)
        sys.stdout.flush()
    except DiskernError as error:
        return _failed(str(error))
    except (typer.Abort, KeyboardInterrupt):
        code = EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader has gone (``| head``); nothing may be written at the interpreter's exit.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        return EXIT_FAILED
    except Exception as error:  # noqa: BLE001 - the last door: a user never meets a traceback
        if hasattr(error, "format_message") and hasattr(error, "exit_code"):
            return _usage(error)
        return _failed(_unforeseen(error))
    if code == EXIT_INTERRUPTED:  # some versions of typer raise here, others return the code
        typer.echo("diskern: interrupted", err=True)
    return code if isinstance(code, int) else EXIT_OK


def _log_to_stderr() -> None:
    """What the package has to say on the way (files skipped, …), a line each."""
    logger = logging.getLogger("diskern")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("diskern: %(message)s"))
        logger.addHandler(handler)


def _failed(message: str) -> int:
    if _verbose:
        import traceback

        typer.echo(traceback.format_exc(), err=True)
    typer.echo(f"diskern: {one_line(message)}", err=True)
    return EXIT_FAILED


def _unforeseen(error: Exception) -> str:
    detail = f": {error}" if str(error) else ""
    advice = "" if _verbose else " (not foreseen; run again with -v to see where)"
    return f"{type(error).__name__}{detail}"[:400] + advice


def _usage(error: Any) -> int:
    """A click usage error: what is wrong, and where the help is."""
    if not error.format_message():  # help was shown because nothing was asked
        return int(error.exit_code)
    where = error.ctx.command_path if getattr(error, "ctx", None) else "diskern"
    message = one_line(error.format_message())
    typer.echo(f"diskern: {message}\nSee '{where} --help'.", err=True)
    return int(error.exit_code)
