"""The `regard` command: its subcommands, and how errors become exit codes.

A subcommand's module is imported when the subcommand runs, so that `regard --help` is quick.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import io
import json
import keyword
import logging
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from regard.api.cli.options import choose_server
from regard.core.errors import DecodeError, RegardError, UsageError

DONE, DONE_WITH_FAILURES, WRONG_USE, CANNOT_WORK, INTERRUPTED = 0, 1, 2, 3, 130

_MODULES = "regard.api.cli.commands"
_COMMANDS = {
    "index": "Index photographs: regard index ~/Pictures",
    "read": "Read the text in photographs: regard read",
    "search": 'Find photographs, or the things in them: regard search "a red bus"',
    "duplicates": "List copies, edits and bursts: regard duplicates",
    "albums": "Make, fill and list albums: regard albums create NAME",
    "stack": "Put photographs into one stack: regard stack a3 a4",
    "unstack": "Take photographs out of their stacks: regard unstack a3",
    "write-metadata": "Write tags, titles and ratings to sidecars: regard write-metadata",
    "status": "Show what a home holds: regard status",
    "verify": "Check the catalog and its indexes: regard verify",
    "rebuild": "Rebuild the indexes from the catalog: regard rebuild",
    "reindex": "Change a home's models: regard reindex --profile NAME",
    "rollback": "Restore the previous models: regard rollback",
    "prune": "Delete what previous models made: regard prune",
    "pipelines": "List the models that a home keeps: regard pipelines",
    "remove": "Forget photographs, touching no file: regard remove ~/Pictures/old",
    "serve": "Serve a home over HTTP, with a web page: regard serve --open",
    "mcp": "Let language models search, over MCP: regard mcp --home DIR",
    "keys": "Make, list and revoke keys of the service: regard keys create NAME",
    "webhooks": "Tell other programs of changes: regard webhooks create URL",
    "profiles": "List the model profiles, and which can run: regard profiles",
    "models": "Fetch the models of a profile: regard models fetch blip3",
    "export": "Write the catalog as Parquet, COCO and .npy: regard export DIR",
    "import": "Import an export without running a model: regard import DIR",
    "evaluate": "Measure quality on labelled photographs: regard evaluate --help",
    "demo": "Index sample photographs and search them: regard demo",
}


class _ReaderGone(Exception):
    """The reader of stdout has closed it, as `head` does."""


class _LazyGroup(click.Group):
    """A group that imports a command when it runs."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; for a closed pipe, click alone would exit with the code of failures."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise _ReaderGone from None
        except KeyboardInterrupt:
            raise click.Abort from None

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        name = f"{cmd_name}_" if keyword.iskeyword(cmd_name) else cmd_name.replace("-", "_")
        command: click.Command = getattr(importlib.import_module(f"{_MODULES}.{name}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(
    cls=_LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="regard")
@click.option(
    "--server",
    metavar="URL",
    envvar="REGARD_SERVER",
    help="Work on a server instead of a home [env: REGARD_SERVER].",
)
@click.option(
    "--key-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The file with the server's key [env: REGARD_API_KEY holds a key itself].",
)
@click.pass_context
def cli(context: click.Context, server: str | None, key_file: Path | None) -> None:
    """Find photographs, and the things in them, by text and by image."""
    if context.invoked_subcommand is None:
        raise click.UsageError("no command is given", context)
    choose_server(context, server, key_file)


def write_json(document: Mapping[str, Any]) -> None:
    """One line of JSON on stdout, in ASCII where stdout takes no UTF-8."""
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    is_utf8 = encoding.lower().replace("-", "") == "utf8"
    click.echo(json.dumps(document, ensure_ascii=not is_utf8))


def printable(text: str) -> str:
    """Text with control characters escaped, since file names must not control the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    _prepare_streams()
    logging.basicConfig(level=logging.ERROR, format="regard: %(message)s", stream=sys.stderr)
    try:
        code = cli.main(arguments, prog_name="regard", standalone_mode=False)
        sys.stdout.flush()
    except (_ReaderGone, BrokenPipeError):
        _silence_stdout()
        return DONE
    except click.Abort:
        return _complain("interrupted", None, INTERRUPTED)
    except Exception as error:
        if sys.flags.dev_mode:
            raise
        _silence_stdout()
        code = _complain(*_outcome(error))
        _show_notes(error)
    return code if isinstance(code, int) else DONE


def _outcome(  # noqa: PLR0911 - one return an outcome
    error: Exception,
) -> tuple[str, str | None, int]:
    """The message for an error, its remedy, and the exit code."""
    match error:
        case click.UsageError():
            path = error.ctx.command_path if error.ctx is not None else "regard"
            remedy = f"see: {path} --help"
            if isinstance(error, click.NoSuchOption) and not error.option_name.startswith("--"):
                remedy = f"write -- before a query that begins with a minus, or {remedy}"
            return _plain(error.format_message().rstrip(".")), remedy, WRONG_USE
        case click.ClickException():
            return error.format_message().rstrip("."), None, CANNOT_WORK
        case UsageError():
            return error.message, error.remedy, WRONG_USE
        case DecodeError():
            return error.message, error.remedy or "choose another picture", CANNOT_WORK
        case RegardError():
            return error.message, error.remedy, CANNOT_WORK
        case OSError():
            where = "" if error.filename is None else f" with {error.filename}"
            reason = error.strerror or str(error)
            return f"the system failed{where}: {reason}", "fix that and try again", CANNOT_WORK
    return (
        f"this should not happen: {type(error).__name__}: {error}",
        "see where with: python -X dev -m regard.api.cli …",
        CANNOT_WORK,
    )


# What click says of numbers, in the words of its types.
_PLAIN_WORDS = (
    (re.compile(r"is not a valid integer( range)?$"), "is not an integer"),
    (re.compile(r"is not a valid float( range)?$"), "is not a number"),
    (re.compile(r"is not in the range (\S+)<=x<=(\S+)$"), r"is not between \1 and \2"),
    (re.compile(r"is not in the range x>=(\S+)$"), r"is less than \1"),
    (re.compile(r"is not in the range x<=(\S+)$"), r"is more than \1"),
)


def _plain(message: str) -> str:
    for pattern, words in _PLAIN_WORDS:
        message = pattern.sub(words, message)
    return message


def _complain(message: str, remedy: str | None, code: int) -> int:
    text = " ".join(printable(part) for part in message.split())
    with contextlib.suppress(OSError):
        click.echo(f"regard: {text}" + (f"; {remedy}" if remedy else ""), err=True)
    return code


def _show_notes(error: Exception) -> None:
    """Write the notes of an error, such as the place in a query."""
    with contextlib.suppress(OSError):
        for note in getattr(error, "__notes__", ()):
            click.echo(note, err=True)


def _prepare_streams() -> None:
    """Keep closed streams, and characters that stdout's encoding lacks, from being errors."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # If left closed, its number would go to the next opened file, perhaps a database.
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115 - until the end
            atexit.register(stream.close)
            setattr(sys, name, stream)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _silence_stdout() -> None:
    """Discard buffered output, which Python would try to write, and complain about, at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError, io.UnsupportedOperation):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
