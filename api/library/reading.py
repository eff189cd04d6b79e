"""Reading text in photographs, wired to a home."""

from __future__ import annotations

from regard.api.library.duplicates import open_catalogued
from regard.api.library.home import Home
from regard.api.library.relevance import calibrate_if_due
from regard.core.errors import CannotWork
from regard.core.machine import usable_cores
from regard.indexer.reading import ReadReport, read_texts
from regard.indexer.report import SILENT, IndexReport, Progress
from regard.storage.assets.texts import SqlTexts


def read_photographs(home: Home, progress: Progress = SILENT) -> ReadReport:
    """Read the photographs of a home that were not read yet, until none is left or it has to stop.

    Raises CannotWork if its profile has no reader, or the reader can't run here.
    """
    profile = home.profile
    spec = profile.reader_spec
    if spec is None:
        profile.reader()
        raise AssertionError("a profile without a reader has none to load")
    return read_texts(
        SqlTexts(home.catalog, home.pipeline, spec.to_json()),
        profile.reader,
        open_catalogued,
        threads=usable_cores(),
        progress=progress,
    )


def follow_indexing(
    home: Home, report: IndexReport, progress: Progress = SILENT, *, read: bool = True
) -> None:
    """Do what comes after indexing: calibrate relevance if that is due, and `read` text.

    What is read is added to the report, if the profile has a reader. That it can't run here is
    noted: what was indexed counts all the same.
    """
    if report.interrupted:
        return
    calibrate_if_due(home, progress)
    if not read:
        return
    try:
        if home.profile.reader_spec is None:
            return
        progress.begin("reading text")
        found = read_photographs(home, progress)
    except CannotWork as error:
        progress.note(f"the text in photographs is not read: {error}")
        return
    report.read, report.lines = found.read, found.lines
    report.seconds += found.seconds
    report.interrupted |= found.interrupted
