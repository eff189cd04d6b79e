"""Photographs that are to be measured, indexed into a collection of their own."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from regard.api.cli.progress import progress_bar
from regard.api.library.home import Home, open_or_make_home
from regard.api.library.settings import Settings
from regard.core.errors import CannotWork


@contextmanager
def measured_library(
    photographs: Sequence[Path], profile: str | None, home: Path | None
) -> Iterator[tuple[Home, str]]:
    """A library that holds exactly these photographs in the collection that comes with it.

    What the home has analysed already, in whatever collection, costs no model time. Without a home
    it is one that goes when the block ends. Raises CannotWork when one can't be indexed.
    """
    # Another selection is another collection, so that a search meets exactly these photographs.
    selection = "\0".join(os.fspath(path) for path in photographs)
    digest = hashlib.sha256(selection.encode(errors="surrogateescape")).hexdigest()
    collection = f"evaluation {digest[:16]}"
    # Unless told otherwise, nothing of a measurement stays, and no home of one's own is touched.
    scratch = tempfile.TemporaryDirectory(prefix="regard-evaluation-", ignore_cleanup_errors=True)
    with scratch:
        settings = Settings.resolve(home or Path(scratch.name), {} if home is None else None)
        with open_or_make_home(settings, profile) as library:
            with progress_bar(scratch.cleanup) as progress:
                report = library.indexer(collection).run(
                    photographs, progress=progress, should_stop=progress.should_stop
                )
            if report.interrupted:
                raise KeyboardInterrupt
            if report.failures:
                failure = report.failures[0]
                raise CannotWork(
                    f"{len(report.failures)} of the labelled photographs can't be indexed, "
                    f"the first is {failure.uri}: {failure.reason}",
                    remedy="mend or leave them out with --only",
                )
            yield library, collection
