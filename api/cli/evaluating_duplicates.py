"""`regard evaluate duplicates`: how well edited copies of photographs are found among them."""

from __future__ import annotations

import fnmatch
import os
import tempfile
import time
from pathlib import Path

import click

from regard.api.cli.app import DONE, write_json
from regard.api.cli.measured_library import measured_library
from regard.api.cli.options import json_option, offline_option
from regard.api.library.duplicates import HomeDuplicates
from regard.core.duplicates import DuplicateKind
from regard.core.errors import NotFound
from regard.core.filters import AssetFilter
from regard.core.uris import absolute_path
from regard.evaluation.duplicates import judge, write_copies
from regard.photos.photo_file import decode_file, looks_like_photo

_PATH = click.Path(path_type=Path)


@click.command()
@click.option("--images", type=_PATH, required=True, metavar="DIR", help="The photographs.")
@click.option("--only", metavar="GLOB", help="Only photographs whose path below DIR matches.")
@click.option("--profile", metavar="NAME", help="Models to find candidates by [default: lite].")
@offline_option
@json_option
def duplicates(images: Path, only: str | None, profile: str | None, as_json: bool) -> int:
    """Precision and recall of `regard duplicates` on copies that it makes of photographs.

    \b
    Example: regard evaluate duplicates --images photos

    Ten copies of each are made in a temporary folder and indexed with the photographs, which must
    not be copies of each other.
    """
    photographs = _photographs(images, only)
    with tempfile.TemporaryDirectory(prefix="regard-copies-", ignore_cleanup_errors=True) as folder:
        samples = write_copies(photographs, decode_file, Path(folder))
        paths = sorted(samples)
        with measured_library(paths, profile, None) as (library, collection):
            parts = HomeDuplicates(library)
            started = time.perf_counter()
            parts.finder.compare()
            chosen = AssetFilter(collections=(collection,))
            groups = [
                [by_path[member.asset.path] for member in group.members]
                for by_path in [{absolute_path(path): path for path in paths}]
                for kind in (DuplicateKind.EXACT, DuplicateKind.EDITED)
                for group in parts.finder.groups(kind, chosen)
            ]
            report = judge(samples, groups, time.perf_counter() - started)
    if as_json:
        write_json(report.to_json())
    else:
        click.echo(report.to_text())
    return DONE


def _photographs(folder: Path, only: str | None) -> list[Path]:
    """Photographs at or below a folder, by path; raises NotFound when there is none."""
    found = sorted(
        Path(base) / name
        for base, _, names in os.walk(folder)
        for name in names
        if only is None or fnmatch.fnmatch(os.path.relpath(os.path.join(base, name), folder), only)
    )
    photographs = [path for path in found if looks_like_photo(os.fsencode(path))]
    if not photographs:
        raise NotFound(
            f"no photograph lies below {folder}", remedy="give --images a folder of photographs"
        )
    return photographs
