"""`regard evaluate duplicates`: how well edited copies of photographs are found."""

from __future__ import annotations

import fnmatch
import os
import tempfile
import time
from pathlib import Path

import click

from regard.api.cli.app import DONE
from regard.api.cli.commands.evaluate.labelled_library import (
    images_option,
    open_measured_home,
    print_report,
)
from regard.api.cli.options import json_option, offline_option
from regard.api.library.duplicates import HomeDuplicates
from regard.core.duplicates import DuplicateKind
from regard.core.errors import NotFound
from regard.core.filters import AssetFilter
from regard.evaluation.duplicates import judge_groups, write_copies
from regard.photos.files import absolute_path
from regard.photos.photo_file import decode_file, looks_like_photo


@click.command()
@images_option
@click.option("--only", metavar="GLOB", help="Only photographs whose path below DIR matches.")
@click.option("--profile", metavar="NAME", help="Models to find candidates by [default: lite].")
@offline_option
@json_option
def duplicates(images: Path, only: str | None, profile: str | None, as_json: bool) -> int:
    """Precision and recall of `regard duplicates` on edited copies of photographs.

    \b
    Example: regard evaluate duplicates --images photos

    Ten copies of each photograph are made in a temporary folder and indexed with the photographs,
    which must not be copies of each other.
    """
    photographs = _photographs(images, only)
    with tempfile.TemporaryDirectory(prefix="regard-copies-", ignore_cleanup_errors=True) as folder:
        samples = write_copies(photographs, decode_file, Path(folder))
        by_path = {absolute_path(path): path for path in samples}
        with open_measured_home(sorted(samples), profile, None) as (home, collection):
            finder = HomeDuplicates(home).finder
            started = time.perf_counter()
            finder.compare()
            groups = [
                [by_path[member.asset.path] for member in group.members]
                for kind in (DuplicateKind.EXACT, DuplicateKind.EDITED)
                for group in finder.groups(kind, AssetFilter(collections=(collection,)))
            ]
            report = judge_groups(samples, groups, time.perf_counter() - started)
    print_report(report, as_json)
    return DONE


def _photographs(folder: Path, only: str | None) -> list[Path]:
    """Photographs at or below a folder, by path; raises NotFound when there is none."""
    files = sorted(
        Path(base) / name
        for base, _, names in os.walk(folder)
        for name in names
        if only is None or fnmatch.fnmatch(os.path.relpath(os.path.join(base, name), folder), only)
    )
    photographs = [path for path in files if looks_like_photo(os.fsencode(path))]
    if not photographs:
        raise NotFound(
            f"there is no photograph in {folder}", remedy="give --images a folder of photographs"
        )
    return photographs
