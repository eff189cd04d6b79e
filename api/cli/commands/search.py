"""`regard search`."""

from __future__ import annotations

import codecs
import itertools
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import click

from regard.api.cli.app import DONE, write_json
from regard.api.cli.explaining import print_explained
from regard.api.cli.options import home_option, offline_option, open_library
from regard.api.cli.output import (
    print_hits,
    print_pictures,
    print_unmatched,
    print_unread,
    write_paths,
)
from regard.api.cli.pointing import pointing_into
from regard.api.library.interface import Library
from regard.api.library.results import Answer
from regard.core.errors import NotFound, UsageError
from regard.core.records import Target
from regard.search.answers import Order

_LINES_AT_ONCE = 256


@click.command()
@click.argument("text", required=False)
@click.option("--image", metavar="FILE", help="Search by a picture.")
@click.option("--box", metavar="X,Y,W,H", help="Search by this part of the picture, in pixels.")
@click.option("--like", metavar="ID", help="Search by an indexed photograph or region.")
@click.option("--queries", metavar="FILE", help="One query a line, - for stdin; writes JSON lines.")
@click.option(
    "--target",
    type=click.Choice([target.value for target in Target]),
    default="image",
    show_default=True,
    help="What to find.",
)
@click.option("--limit", type=int, default=10, show_default=True, metavar="N")
@click.option("--collection", metavar="NAME", help="Search one collection only.")
@click.option(
    "--min-relevance",
    type=float,
    metavar="P",
    help="Show only hits that are right with this probability, 0 to 1.",
)
@click.option(
    "--exact",
    is_flag=True,
    help="Compare with every photograph, so that none is missed; slower in large libraries.",
)
@click.option(
    "--refine",
    is_flag=True,
    help="Look in the photographs of the first 20 hits for what TEXT names; slow without a GPU.",
)
@click.option(
    "--sort",
    type=click.Choice([order.value for order in Order]),
    default="relevance",
    show_default=True,
    help="The order of hits; by date, only likely ones are shown.",
)
@click.option(
    "--fold-stacks/--no-fold-stacks",
    default=None,
    help="Show each stack (RAW and JPEG, Live Photos, bursts, edits) and each video once. "
    "Default: yes, but no for a query of filters alone.",
)
@home_option
@offline_option
@click.option("--json", "as_json", is_flag=True, help="Write the whole answer as JSON.")
@click.option("--paths", "as_paths", is_flag=True, help="Write paths, a line each.")
@click.option("--paths0", "as_paths0", is_flag=True, help="Write paths, each ended by a NUL byte.")
@click.option("--preview", is_flag=True, help="Show the hits in the terminal.")
@click.option("--explain", is_flag=True, help="Explain each hit: channels, ranks and scores.")
def search(
    text: str | None,
    image: str | None,
    box: str | None,
    like: str | None,
    queries: str | None,
    target: str,
    limit: int,
    collection: str | None,
    min_relevance: float | None,
    exact: bool,
    refine: bool,
    sort: str,
    fold_stacks: bool | None,
    home: Path | None,
    as_json: bool,
    as_paths: bool,
    as_paths0: bool,
    preview: bool,
    explain: bool,
) -> int:
    """Find photographs, or with --target region the things in them.

    \b
    Examples: regard search "a red bus"
              regard search '"red bus" -night taken:2024'
              regard search --image cat.jpg --box 10,20,200,150 --target region
              regard search "beach" --paths0 | xargs -0 cp -t chosen/
    """
    if sum((as_json, as_paths, as_paths0, preview, explain)) > 1:
        raise UsageError(
            "--json, --paths, --paths0, --preview and --explain exclude each other",
            remedy="give one of them",
        )
    named = {"TEXT": text, "--image": image, "--like": like}
    given = [name for name, value in named.items() if value is not None]
    if box is not None and image is None:
        raise UsageError("--box needs a picture", remedy="add --image FILE")
    scope: dict[str, Any] = {
        "target": target,
        "limit": limit,
        "collection": collection,
        "min_relevance": min_relevance,
        "exact": exact,
        "refine": refine,
        "sort": sort,
        "fold_stacks": fold_stacks,
    }
    if queries is not None:
        if as_paths or as_paths0 or preview or explain:
            raise UsageError("--queries answers in JSON", remedy="give --json or nothing with it")
        if given:
            raise UsageError(
                f"{' and '.join(given)} and --queries exclude each other", remedy="give one of them"
            )
        with open_library(home) as library, _opened_lines(queries) as lines:
            for document in _answer_lines(library, lines, scope):
                write_json(document)
        return DONE
    if not given:
        raise UsageError(
            "no query is given", remedy="give TEXT, --image, --like, several of them, or --queries"
        )
    sides = None if box is None else _parse_box(box)
    with open_library(home) as library, pointing_into(text or ""):
        answer = library.search(text, image=image, box=sides, like=like, **scope)
        if as_json:
            write_json(answer.to_json())
        elif as_paths or as_paths0:
            hits = answer.hits if min_relevance is None else answer.relevant(min_relevance)
            # Each path once, best first.
            paths = dict.fromkeys(hit.asset.path for hit in hits)
            write_paths(paths, b"\0" if as_paths0 else b"\n")
        else:
            _print(answer, min_relevance, preview, explain)
    return DONE


def _has_filter(part: Mapping[str, Any]) -> bool:
    """Whether a part of a query is a filter, or filters joined by OR."""
    return "field" in part or any(map(_has_filter, itertools.chain(*part.get("any_of", ()))))


def _print(answer: Answer, min_relevance: float | None, preview: bool, explain: bool) -> None:
    hits = answer.relevant(min_relevance)
    is_filtered = any(map(_has_filter, answer.query.get("parts", ())))
    if answer.unknown_words:
        print_unread(answer.unknown_words, has_hits=bool(answer.hits))
        if not answer.hits:
            return
    if answer.hits and not hits:
        print_unmatched()
    elif preview:
        print_pictures(hits)
    elif explain:
        print_explained(hits, is_filtered=is_filtered)
    else:
        print_hits(hits, is_filtered=is_filtered)


def _parse_box(text: str) -> list[int]:
    try:
        x, y, width, height = (int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(
            f"{text!r} is not a box",
            remedy="give --box X,Y,W,H in whole pixels, as in 10,20,200,150",
        ) from None
    return [x, y, width, height]


def _opened_lines(name: str) -> BinaryIO:
    if name == "-":
        return sys.stdin.buffer
    try:
        return open(name, "rb")
    except OSError as error:
        raise NotFound(
            f"the file of queries {name} can't be read: {error.strerror}",
            remedy="give --queries a text file",
        ) from error


def _answer_lines(
    library: Library, lines: Iterable[bytes], scope: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """One JSON object a line, in order, whatever the line holds."""
    numbered = enumerate(lines)
    while batch := [
        # Editors of Windows begin a file with a byte-order mark.
        (line if number else line.removeprefix(codecs.BOM_UTF8)).rstrip(b"\r\n")
        for number, line in itertools.islice(numbered, _LINES_AT_ONCE)
    ]:
        texts = [line.decode("utf-8", "surrogateescape") for line in batch]
        answers = iter(library.search_texts(filter(_is_utf8, texts), **scope))
        for line, text in zip(batch, texts, strict=True):
            if not _is_utf8(text):
                shown = line.decode("utf-8", "replace")
                yield {"query": shown, "error": "the line is not UTF-8"}
                continue
            answer = next(answers)
            if isinstance(answer, Answer):
                yield answer.to_json()
            else:
                yield {"query": text, "error": answer.message}


def _is_utf8(text: str) -> bool:
    return not any("\udc80" <= character <= "\udcff" for character in text)
