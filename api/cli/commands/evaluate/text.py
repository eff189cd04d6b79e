"""`regard evaluate text`: how well words in photographs are found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

import click

from regard.api.cli.app import DONE
from regard.api.cli.commands.evaluate.labelled_library import (
    PATH,
    images_option,
    model_options,
    open_measured_home,
    print_report,
)
from regard.api.cli.progress import progress_bar
from regard.api.library.home import Home
from regard.api.library.reading import read_photographs
from regard.core.catalog import WordField
from regard.core.filters import AssetFilter
from regard.core.records import Target
from regard.evaluation.texts import evaluate_texts, read_texts, reading_cost
from regard.photos.files import absolute_path
from regard.photos.photo_file import decode_file
from regard.search.answers import Scope, TextQuery

_FIELDS = (WordField.TEXT, WordField.SIMILAR_TEXT)
# Of each search.
_HITS = 10
# The photographs of each kind on which the cost is measured.
_MEASURED = 20


@click.command()
@images_option
@click.option(
    "--texts", type=PATH, required=True, metavar="FILE", help="The texts in them, as JSON."
)
@model_options
def text(images: Path, texts: Path, profile: str | None, home: Path | None, as_json: bool) -> int:
    """Share of words in photographs that a search finds, and the cost of reading them.

    \b
    Example: regard evaluate text --images photos --texts photos/texts.json
    """
    labels = read_texts(texts)
    paths = {name: images / name for name in labels}
    with open_measured_home(list(paths.values()), profile, home) as (opened, collection):
        with progress_bar() as progress:
            progress.begin("reading text")
            report = read_photographs(opened, progress)
        if report.interrupted:
            raise KeyboardInterrupt
        cost = {
            kind: _cost(opened, [paths[name] for name in names])
            for kind, names in {
                "with_text": [name for name, held in labels.items() if held],
                "without": [name for name, held in labels.items() if not held],
            }.items()
        }

        def find(words: Sequence[str]) -> list[Mapping[str, WordField]]:
            names = {absolute_path(path): name for name, path in paths.items()}
            return _find(opened, collection, names, words)

        measured = evaluate_texts(labels, find, cost)
    print_report(measured, as_json)
    return DONE


def _cost(home: Home, paths: Sequence[Path]) -> float | None:
    images = [decode_file(path) for path in islice(paths, _MEASURED)]
    return reading_cost(home.profile.reader(), home.profile.analyzer(), images)


def _find(
    home: Home, collection: str, names: Mapping[bytes, str], words: Sequence[str]
) -> list[Mapping[str, WordField]]:
    """For each word, the photographs among the first hits that are found by text in them."""
    scope = Scope(Target.IMAGE, _HITS, AssetFilter(collections=(collection,)), fold_stacks=False)
    answers = home.engine().search_texts([TextQuery(word) for word in words], scope)
    return [
        {
            names[hit.asset.path]: WordField(match.field)
            for hit in answer.hits
            for channel in hit.channels
            for match in channel.words
            if match.field in _FIELDS
        }
        for answer in answers
    ]
