"""`regard duplicates`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click

from regard.api.cli.app import DONE, DONE_WITH_FAILURES, printable, write_json
from regard.api.cli.options import home_option, json_option, open_library
from regard.api.cli.output import counted, write_paths
from regard.api.cli.progress import progress_bar
from regard.api.library.interface import DEFAULT_KINDS
from regard.api.library.results import DuplicateGroup
from regard.core.duplicates import DuplicateKind
from regard.core.errors import UsageError


@click.group(invoke_without_command=True)
@click.pass_context
@click.option(
    "--kind",
    "kinds",
    type=click.Choice([kind.value for kind in DuplicateKind]),
    multiple=True,
    help="exact, edited, burst or object; may be given several times [default: all but object].",
)
@click.option("--collection", metavar="NAME", help="Compare one collection only.")
@home_option
@json_option
@click.option("--paths", "as_paths", is_flag=True, help="Write paths, the one to keep first.")
@click.option("--paths0", "as_paths0", is_flag=True, help="Write paths, each ended by a NUL byte.")
@click.option("--omit-keepers", is_flag=True, help="Write only the paths of the others.")
def duplicates(
    context: click.Context,
    kinds: Sequence[str],
    collection: str | None,
    home: Path | None,
    as_json: bool,
    as_paths: bool,
    as_paths0: bool,
    omit_keepers: bool,
) -> int:
    """List copies, edited copies and bursts, and which photograph to keep. Deletes nothing.

    \b
    Examples: regard duplicates
              regard duplicates --kind exact --kind edited --json
              regard duplicates --kind exact --paths0 --omit-keepers | xargs -0 ls -l
    """
    if context.invoked_subcommand is not None:
        return DONE
    if sum((as_json, as_paths, as_paths0)) > 1:
        raise UsageError("--json, --paths and --paths0 exclude each other", remedy="give one")
    if omit_keepers and not (as_paths or as_paths0):
        raise UsageError("--omit-keepers needs paths", remedy="add --paths or --paths0")
    with open_library(home) as library, progress_bar() as progress:
        found = library.duplicates(kinds or DEFAULT_KINDS, collection=collection, progress=progress)
    if found.interrupted:
        raise KeyboardInterrupt
    if as_json:
        write_json(found.to_json())
    elif as_paths or as_paths0:
        write_paths(_paths(found.groups, omit_keepers), b"\0" if as_paths0 else b"\n")
    else:
        _print(found.groups)
    for failure in found.unusable:
        text = f"{printable(failure.uri)} can't be compared: {printable(failure.reason)}"
        click.echo(f"regard: {text}", err=True)
    if found.left_out:
        click.echo(
            f"regard: {found.left_out} photographs can't be compared: the server finds no file "
            "that still has their bytes",
            err=True,
        )
    return DONE_WITH_FAILURES if found.unusable else DONE


@duplicates.command()
@click.argument("keep")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@home_option
@json_option
def merge(keep: str, ids: tuple[str, ...], home: Path | None, as_json: bool) -> int:
    """Move photographs to the trash, and give KEEP their tags, albums and best rating.

    \b
    Example: regard duplicates merge a3 a4 a5
    """
    with open_library(home) as library:
        moved = library.merge_duplicates(keep, ids)
    if as_json:
        write_json({"moved": moved})
    else:
        click.echo(f"{moved} photographs moved to the trash")
    return DONE


@duplicates.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID ID...")
@click.option("--forget", is_flag=True, help="They may be duplicates again.")
@home_option
@json_option
def distinct(ids: tuple[str, ...], forget: bool, home: Path | None, as_json: bool) -> int:
    """Remember that no two of these photographs are duplicates.

    \b
    Example: regard duplicates distinct a3 a4
    """
    with open_library(home) as library:
        pairs = library.mark_distinct(ids, distinct=not forget)
    if as_json:
        write_json({"pairs": pairs})
    else:
        click.echo(f"{counted(pairs, 'pair')} {'forgotten' if forget else 'remembered'}")
    return DONE


def _paths(groups: Sequence[DuplicateGroup], omit_keepers: bool) -> list[bytes]:
    paths = [group.paths for group in groups]
    if not omit_keepers:
        # An empty record after each group, as fdupes and jdupes write it.
        return [path for group in paths for path in (*group, b"")]
    # A photograph may be in groups of several kinds, and be kept for one of them.
    keepers = {group[0] for group in paths}
    others = dict.fromkeys(path for group in paths for path in group[1:])
    return [path for path in others if path not in keepers]


def _print(groups: Sequence[DuplicateGroup]) -> None:
    for group in groups:
        click.echo(f"{group.kind}: {len(group.members)} photographs")
        for member in group.members:
            asset = member.asset
            is_kept = asset.id == group.keeper
            size = f"{asset.width} × {asset.height}, {(asset.size or 0) / 1000:.0f} kB"
            region = "" if member.region is None else f" {member.region}"
            reasons = f": {printable('; '.join(group.reasons))}" if is_kept else ""
            click.echo(
                f"  {'keep' if is_kept else '    '} {asset.id}{region}  "
                f"{printable(asset.uri)}  ({size}){reasons}"
            )
    counts = Counter(group.kind for group in groups)
    found = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    click.echo(f"groups: {found}" if found else "no duplicates were found")
