"""`regard search`."""

from __future__ import annotations

import codecs
import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import click

from regard.api.cli.app import DONE, write_json
from regard.api.cli.explaining import print_explained
from regard.api.cli.options import ChosenServer, chosen_server, home_option, offline_option
from regard.api.cli.output import print_hits, print_pictures, print_unmatched
from regard.api.cli.pointing import pointing_into
from regard.api.library.home import is_text, open_home, require_name
from regard.api.library.settings import Settings
from regard.core.errors import DecodeError, NotFound, UnanswerableQuery, UsageError
from regard.core.filters import EVERYTHING, AssetFilter, PathPart
from regard.core.geometry import Box
from regard.core.records import Image, Target
from regard.core.uris import absolute_path, uri_of_path
from regard.photos.decoding import decode_file
from regard.search.answers import ImageQuery, Scope, TextQuery
from regard.search.identifiers import parse_identifier
from regard.search.language.describing import describe_query
from regard.search.language.meaning import as_query, meant_filter, meant_terms, within
from regard.search.language.parsing import parse_query
from regard.search.language.syntax import WrittenPicture, WrittenQuery, WrittenTerm

_LINES_AT_ONCE = 256

AnswerTexts = Callable[[Sequence[TextQuery]], Iterable[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked on the command line: the query and what options add to it, and the query's own text.

    Its pictures are named by files on this machine.
    """

    query: WrittenQuery
    text: str | None

    @property
    def said(self) -> dict[str, Any]:
        """What an answer says of the query besides its terms."""
        return {} if self.text is None else describe_query(parse_query(self.text), self.text)


@dataclass(frozen=True, slots=True)
class Found:
    """An answer in its documented JSON form, what its hits' paths are, and what gets their pictures."""

    document: dict[str, Any]
    paths: Sequence[bytes]
    pictures: Sequence[Callable[[], Image]]

    @property
    def hits(self) -> list[dict[str, Any]]:
        """The hits of the document."""
        hits: list[dict[str, Any]] = self.document["hits"]
        return hits

    def for_people(self, min_relevance: float | None) -> Found:
        """The same without what does not match: all where nothing does, else what is less relevant."""
        kept = [
            place
            for place, hit in enumerate(self.hits)
            if self.document["matched"]
            and (
                min_relevance is None
                or hit["relevance"] is None
                or hit["relevance"] >= min_relevance
            )
        ]
        return Found(
            {**self.document, "hits": [self.hits[place] for place in kept]},
            [self.paths[place] for place in kept],
            [self.pictures[place] for place in kept],
        )


@click.command()
@click.argument("text", required=False)
@click.option("--image", metavar="FILE", help="Search by a picture.")
@click.option("--box", metavar="X,Y,W,H", help="Search by this part of the picture, in pixels.")
@click.option("--like", metavar="ID", help="Search by a stored photograph or region.")
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
@home_option
@offline_option
@click.option("--json", "as_json", is_flag=True, help="Write the whole answer as JSON.")
@click.option("--paths", "as_paths", is_flag=True, help="Write paths, a line each.")
@click.option("--paths0", "as_paths0", is_flag=True, help="Write paths, each ended by a NUL byte.")
@click.option("--preview", is_flag=True, help="Show the hits in the terminal.")
@click.option(
    "--explain", is_flag=True, help="Say of each hit what found it, in words and figures."
)
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
    collection = None if collection is None else require_name(collection)
    chosen = EVERYTHING if collection is None else AssetFilter(collections=(collection,))
    scope = Scope(Target(target), limit, chosen, min_relevance=min_relevance)
    if sum((as_json, as_paths, as_paths0, preview, explain)) > 1:
        raise UsageError(
            "--json, --paths, --paths0, --preview and --explain exclude each other",
            remedy="give one of them",
        )
    if queries is not None and (as_paths or as_paths0 or preview or explain):
        raise UsageError("--queries answers in JSON", remedy="give --json or nothing with it")
    named = {"TEXT": text, "--image": image, "--like": like}
    given = [name for name, value in named.items() if value is not None]
    if queries is not None and given:
        raise UsageError(
            f"{' and '.join(given)} and --queries exclude each other", remedy="give one of them"
        )
    if queries is None and not given:
        raise UsageError(
            "no query is given", remedy="give TEXT, --image, --like, several of them, or --queries"
        )
    if box is not None and image is None:
        raise UsageError("--box needs a picture", remedy="add --image FILE")
    server = chosen_server()
    if queries is not None:
        with _opened_lines(queries) as lines, _answering(server, home, scope) as answer_texts:
            for line in _answer_lines(answer_texts, lines):
                write_json(line)
        return DONE
    wanted = _wanted(text, image, box, like)
    with pointing_into(text or ""), _searched(server, home, wanted, scope) as found:
        if as_json:
            write_json(found.document)
        elif as_paths or as_paths0:
            listed = found if min_relevance is None else found.for_people(min_relevance)
            _write_paths(listed.paths, b"\0" if as_paths0 else b"\n")
        else:
            is_filtered = bool(wanted.query.conditions)
            _print(found, found.for_people(min_relevance), preview, explain, is_filtered)
    return DONE


def _print(found: Found, shown: Found, preview: bool, explain: bool, is_filtered: bool) -> None:
    """What people see: `shown`, or that nothing of what was found matches."""
    if found.hits and not shown.hits:
        print_unmatched()
    elif preview:
        print_pictures(shown.hits, shown.pictures)
    elif explain:
        print_explained(shown.hits, is_filtered=is_filtered)
    else:
        print_hits(shown.hits, is_filtered=is_filtered)


@contextlib.contextmanager
def _searched(
    server: ChosenServer | None,
    home: Path | None,
    wanted: Wanted,
    scope: Scope,
) -> Iterator[Found]:
    """The answer; its pictures can be got inside the block."""
    if server is not None:
        from regard.api.cli.remote_searching import remote_search

        with remote_search(server, wanted, scope) as found:
            yield found
        return
    terms = meant_terms(wanted.query, _decoded)
    chosen = within(scope.filter, meant_filter(wanted.query, _path_filter))
    scope = replace(scope, filter=chosen)
    with open_home(Settings.resolve(home)) as library:
        answer = library.engine().search(as_query(terms), scope)
        paths = [hit.asset.path for hit in answer.hits]
        document = answer.to_json()
        document["query"].update(wanted.said)
        yield Found(document, paths, [partial(decode_file, path) for path in paths])


@contextlib.contextmanager
def _answering(
    server: ChosenServer | None, home: Path | None, scope: Scope
) -> Iterator[AnswerTexts]:
    """What answers many texts, each as JSON."""
    if server is not None:
        from regard.api.cli.remote_searching import remote_answers

        with remote_answers(server, scope) as answer_texts:
            yield answer_texts
        return
    with open_home(Settings.resolve(home)) as library:
        engine = library.engine()
        yield lambda texts: (answer.to_json() for answer in engine.search_texts(texts, scope))


def _wanted(text: str | None, image: str | None, box: str | None, like: str | None) -> Wanted:
    """The query with what the options add to its terms; raises UsageError."""
    query = WrittenQuery()
    if text is not None:
        if not text.strip():
            raise UnanswerableQuery("the query is empty", remedy='run: regard search "a red bus"')
        if not is_text(text):
            raise UsageError("the query is no text", remedy="give it in UTF-8")
        with pointing_into(text):
            query = parse_query(text)
    terms = list(query.terms)
    if image is not None:
        if not image:
            raise UsageError("--image names no file", remedy="give --image a photograph")
        picture = WrittenPicture(image, None if box is None else _parse_box(box))
        terms.append(WrittenTerm(picture))
    if like is not None:
        terms.append(WrittenTerm(parse_identifier(like)))
    return Wanted(WrittenQuery(tuple(terms), query.conditions), text)


def picture_uri(name: str) -> str:
    """What an answer calls a picture of this machine; raises NotFound when there is none."""
    path = os.fsencode(name)
    uri = uri_of_path(absolute_path(path))
    if not os.path.exists(path):
        raise NotFound(f"there is no file {uri}", remedy="give --image or image: a photograph")
    return uri


def _decoded(written: WrittenPicture) -> ImageQuery:
    uri = picture_uri(written.name)
    try:
        return ImageQuery(decode_file(os.fsencode(written.name)), uri, written.box)
    except DecodeError as error:
        raise DecodeError(f"{uri} can't be used: {error.message}") from error


def _path_filter(text: str) -> AssetFilter:
    """What `path:` means on a home: an absolute path, or folders in a row anywhere."""
    if text.startswith("/"):
        return AssetFilter(path_prefixes=(absolute_path(text),))
    return AssetFilter(path_parts=(PathPart(os.fsencode(text)),))


def _parse_box(text: str) -> Box:
    try:
        x, y, width, height = (int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(
            f"{text!r} is no box", remedy="give --box X,Y,W,H in whole pixels, as in 10,20,200,150"
        ) from None
    if width < 1 or height < 1:
        raise UsageError("the box is empty", remedy="give --box a width and a height from 1 up")
    return Box(x, y, width, height)


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


def _answer_lines(answer_texts: AnswerTexts, lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """One JSON object a line, in order, whatever the line holds."""
    batch: list[TextQuery | dict[str, object]] = []
    for number, line in enumerate(lines):
        # Windows' editors begin a file with a mark that is no text.
        batch.append(_parse_line(line.removeprefix(codecs.BOM_UTF8) if number == 0 else line))
        if len(batch) == _LINES_AT_ONCE:
            yield from _answer_batch(answer_texts, batch)
            batch = []
    yield from _answer_batch(answer_texts, batch)


def _parse_line(line: bytes) -> TextQuery | dict[str, object]:
    try:
        text = line.rstrip(b"\r\n").decode("utf-8")
    except UnicodeDecodeError:
        return {
            "query": line.rstrip(b"\r\n").decode("utf-8", "replace"),
            "error": "the line is no UTF-8",
        }
    try:
        return TextQuery(text)
    except UsageError as error:
        return {"query": text, "error": error.message}


def _answer_batch(
    answer_texts: AnswerTexts, batch: list[TextQuery | dict[str, object]]
) -> Iterator[dict[str, Any]]:
    answers = iter(answer_texts([item for item in batch if isinstance(item, TextQuery)]))
    for item in batch:
        yield next(answers) if isinstance(item, TextQuery) else item


def _write_paths(paths: Iterable[bytes], end: bytes) -> None:
    """Each path once, best first, as the file system's own bytes."""
    sys.stdout.flush()
    for path in dict.fromkeys(paths):
        sys.stdout.buffer.write(path + end)
    sys.stdout.buffer.flush()
