"""`regard duplicates`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from regard.api.cli.app import DONE, DONE_WITH_FAILURES, printable, write_json
from regard.api.cli.options import chosen_server, home_option, json_option
from regard.api.cli.progress import progress_bar, stop_request
from regard.api.library.duplicates import LibraryDuplicates
from regard.api.library.home import open_home, require_name
from regard.api.library.settings import Settings
from regard.core.duplicates import DuplicateGroup, DuplicateKind
from regard.core.errors import UsageError
from regard.core.filters import EVERYTHING, AssetFilter
from regard.search.identifiers import asset_identifier, region_identifier
from regard.storage.assets.collections import SqlCollections

# Photographs of one thing are no copies: they are listed when they are asked for.
_DEFAULT_KINDS = (DuplicateKind.EXACT, DuplicateKind.EDITED, DuplicateKind.BURST)


@dataclass(frozen=True, slots=True)
class Listed:
    """Groups in their documented JSON form; `paths` are those of each group, its keeper's first.

    Of the `unusable` photographs no file could be looked at.
    """

    groups: Sequence[dict[str, Any]]
    paths: Sequence[Sequence[bytes]]
    unusable: Sequence[dict[str, str]]

    def to_json(self) -> dict[str, Any]:
        """See docs/duplicates.md."""
        return {"groups": list(self.groups), "unusable": list(self.unusable)}


@click.command()
@click.option(
    "--kind",
    "kinds",
    type=click.Choice([kind.value for kind in DuplicateKind]),
    multiple=True,
    help="exact, edited, burst or object; several may be given [default: all but object].",
)
@click.option("--collection", metavar="NAME", help="Look at one collection only.")
@home_option
@json_option
@click.option("--paths", "as_paths", is_flag=True, help="Write paths, the one to keep first.")
@click.option("--paths0", "as_paths0", is_flag=True, help="Write paths, each ended by a NUL byte.")
@click.option("--omit-keepers", is_flag=True, help="Write the paths of the others alone.")
def duplicates(
    kinds: Sequence[str],
    collection: str | None,
    home: Path | None,
    as_json: bool,
    as_paths: bool,
    as_paths0: bool,
    omit_keepers: bool,
) -> int:
    """List photographs that are copies, edited copies or bursts, and which to keep. Deletes nothing.

    \b
    Examples: regard duplicates
              regard duplicates --kind exact --kind edited --json
              regard duplicates --kind exact --paths0 --omit-keepers | xargs -0 ls -l
    """
    if sum((as_json, as_paths, as_paths0)) > 1:
        raise UsageError("--json, --paths and --paths0 exclude each other", remedy="give one")
    if omit_keepers and not (as_paths or as_paths0):
        raise UsageError("--omit-keepers is about paths", remedy="add --paths or --paths0")
    collection = None if collection is None else require_name(collection)
    wanted = tuple(DuplicateKind(kind) for kind in dict.fromkeys(kinds)) or _DEFAULT_KINDS
    server = chosen_server()
    with stop_request() as stop:
        if server is not None:
            from regard.api.cli.remote_duplicates import list_on_server

            listed = list_on_server(server, wanted, collection, stop.is_set)
        else:
            listed = _list_at_home(home, wanted, collection, stop.is_set)
    if listed is None:
        raise KeyboardInterrupt
    if as_json:
        write_json(listed.to_json())
    elif as_paths or as_paths0:
        _write_paths(listed.paths, is_nul=as_paths0, omit_keepers=omit_keepers)
    else:
        _print(listed)
    for failure in listed.unusable:
        text = f"{printable(failure['uri'])} can't be compared: {printable(failure['reason'])}"
        click.echo(f"regard: {text}", err=True)
    return DONE_WITH_FAILURES if listed.unusable else DONE


def _list_at_home(
    home: Path | None,
    kinds: Sequence[DuplicateKind],
    collection: str | None,
    should_stop: Callable[[], bool],
) -> Listed | None:
    """None where it was interrupted; what was compared by then stays so."""
    chosen = EVERYTHING if collection is None else AssetFilter(collections=(collection,))
    with open_home(Settings.resolve(home)) as library:
        if collection is not None:
            SqlCollections(library.catalog).named(collection)
        parts = LibraryDuplicates(library)
        with progress_bar("reading") as progress:
            if progress is not None:
                progress.expect(parts.store.count_unsigned())
            report = parts.sign(progress=progress, should_stop=should_stop)
        with progress_bar("comparing") as progress:
            if progress is not None:
                progress.expect(parts.finder.waiting())

            def advance(done: int) -> None:
                for _ in range(done if progress is not None else 0):
                    assert progress is not None
                    progress.advance()

            if not parts.finder.compare(should_stop=should_stop, advance=advance):
                return None
        groups = []
        for kind in kinds:
            for group in parts.finder.groups(kind, chosen):
                if should_stop():
                    return None
                groups.append(group)
        return Listed(
            [group_document(group) for group in groups],
            [_paths_of(group) for group in groups],
            [{"uri": failure.uri, "reason": failure.reason} for failure in report.unusable],
        )


def group_document(group: DuplicateGroup) -> dict[str, Any]:
    """A group as JSON; its members' assets in the form that hits have."""
    return {
        "kind": group.kind.value,
        "keeper": asset_identifier(group.members[group.keeper].asset.id),
        "reasons": list(group.reasons),
        "members": [
            {
                "asset": {
                    "id": asset_identifier(member.asset.id),
                    "uri": member.asset.uri,
                    "width": member.asset.width,
                    "height": member.asset.height,
                    "caption": member.asset.caption,
                    "format": member.asset.format,
                    "size": member.asset.size,
                    "collection": member.asset.collection,
                },
                "similarity": member.similarity,
                "region": None if member.region is None else region_identifier(member.region),
            }
            for member in group.members
        ],
    }


def _paths_of(group: DuplicateGroup) -> list[bytes]:
    paths = [member.asset.path for member in group.members]
    return [paths[group.keeper], *(path for n, path in enumerate(paths) if n != group.keeper)]


def _write_paths(groups: Sequence[Sequence[bytes]], *, is_nul: bool, omit_keepers: bool) -> None:
    if omit_keepers:
        # A photograph may be in groups of several kinds, and be kept for one of them.
        keepers = {group[0] for group in groups}
        others = dict.fromkeys(path for group in groups for path in group[1:])
        paths = [path for path in others if path not in keepers]
    else:
        # An empty record after each group, as fdupes and jdupes write it.
        paths = [path for group in groups for path in (*group, b"")]
    sys.stdout.flush()
    for path in paths:
        sys.stdout.buffer.write(path + (b"\0" if is_nul else b"\n"))
    sys.stdout.buffer.flush()


def _print(listed: Listed) -> None:
    counts: dict[str, int] = {}
    for group in listed.groups:
        counts[group["kind"]] = counts.get(group["kind"], 0) + 1
        reasons = "; ".join(group["reasons"])
        click.echo(f"{group['kind']}: {len(group['members'])} photographs")
        for member in group["members"]:
            asset = member["asset"]
            kept = asset["id"] == group["keeper"]
            size = f"{asset['width']} × {asset['height']}, {asset['size'] / 1000:.0f} kB"
            region = "" if member["region"] is None else f" {member['region']}"
            click.echo(
                f"  {'keep' if kept else '    '} {asset['id']}{region}  "
                f"{printable(asset['uri'])}  ({size})" + (f": {printable(reasons)}" if kept else "")
            )
    found = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    click.echo(f"groups: {found}" if found else "no duplicates were found")
