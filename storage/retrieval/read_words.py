"""Searches the words that were read in photographs.

Readers err, so a word is also found where a similar one was read: one letter inserted, deleted,
replaced, or swapped with its neighbour (Damerau's distance 1). All such words are looked up in the
index of read words, some 80 for each letter. So no index of its own has to be kept, on disk or after
deletions, and both databases answer alike.
"""

from __future__ import annotations

import functools
import json
import string
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Dialect,
    ScalarSelect,
    Select,
    Text,
    any_,
    bindparam,
    cast,
    delete,
    exists,
    func,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY

from regard.core.catalog import WordField, Words
from regard.core.filters import EVERYTHING, AssetFilter
from regard.core.words import folded, respellings, split_words
from regard.storage.assets.filters import passes
from regard.storage.assets.texts import LONGEST_WORD, words_of_line
from regard.storage.database import schema
from regard.storage.database.change_log import record_changes
from regard.storage.database.connection import CompiledStatement, Database, insert_many
from regard.storage.database.stored_pipelines import StoredPipeline
from regard.storage.retrieval.verification import Finding

# The most lines read for one look-up.
_MOST_LINES = 4_000
_PAGE = 1_000
# Shorter words are similar to too many others.
_SHORTEST_SIMILAR = 6
_LETTERS = string.ascii_lowercase + string.digits
_asset, _content, _analysis = schema.asset.c, schema.content.c, schema.analysis.c
_line, _word = schema.text_line.c, schema.read_word.c

# Place of the word, field, content, line, None: as the rows of the keyword index.
FoundLine = tuple[int, str, int, int, None]


class ReadWords:
    """Finds words in the lines of the contents that a pipeline has analysed."""

    def __init__(self, database: Database, pipeline: StoredPipeline) -> None:
        """Nothing is read yet."""
        self._database = database
        self._pipeline = pipeline.id

    def find_anywhere(self, asked: Sequence[Words]) -> list[FoundLine]:
        """The newest lines with any of the words, without a transaction."""
        statement = _unfiltered(self._database.engine.dialect, self._pipeline)
        return self._find(asked, lambda words: statement.run(self._database, {"words": words}))

    def find(
        self, connection: Connection, asset_filter: AssetFilter, asked: Sequence[Words]
    ) -> list[FoundLine]:
        """The newest lines, of contents with an asset that passes, with any of the words."""
        statement = _statement(self._database.is_sqlite, self._pipeline, asset_filter)
        return self._find(
            asked, lambda words: connection.execute(statement, {"words": words}).all()
        )

    def _find(self, asked: Sequence[Words], read: Any) -> list[FoundLine]:
        wanted = [_forms(item) for item in asked]
        words = sorted(set().union(*wanted))
        if not words:
            return []
        rows = read(json.dumps(words) if self._database.is_sqlite else words)
        by_word: dict[str, list[tuple[int, int, str]]] = {}
        for word, content, line, line_text in rows:
            by_word.setdefault(word, []).append((content, line, line_text))
        found: list[FoundLine] = []
        for place, (item, forms) in enumerate(zip(asked, wanted, strict=True)):
            fields: dict[tuple[int, int], str] = {}
            for word in forms & by_word.keys():
                field = forms[word]
                for content, line, line_text in by_word[word]:
                    if len(item.words) > 1 and not _has_phrase(line_text, item.words):
                        continue
                    if fields.get((content, line)) != WordField.TEXT.value:
                        fields[content, line] = field
            found += (
                (place, field, content, line, None) for (content, line), field in fields.items()
            )
        return found


def _forms(asked: Words) -> dict[str, str]:
    """The read words that a word is looked up by, and the field that each is found in."""
    if asked.whole:
        return {}
    word = folded(asked.words[0])
    exact = {word: WordField.TEXT.value}
    if asked.exact:
        return exact
    for spelling in (word, *map(folded, respellings(asked.words[0]))):
        forms = (spelling, *_other_numbers(spelling))
        exact |= dict.fromkeys((form for form in forms if len(form) > 1), WordField.TEXT.value)
    if not _SHORTEST_SIMILAR <= len(word) <= LONGEST_WORD:
        return exact
    return dict.fromkeys(similar_words(word), WordField.SIMILAR_TEXT.value) | exact


def _other_numbers(word: str) -> Iterator[str]:
    """What may be the plurals or the singulars of an English word."""
    yield from (f"{word}s", f"{word}es", word.removesuffix("s"), word.removesuffix("es"))
    if word.endswith("y"):
        yield f"{word[:-1]}ies"
    elif word.endswith("ies"):
        yield f"{word[:-3]}y"


@functools.lru_cache(maxsize=1024)
def similar_words(word: str) -> frozenset[str]:
    """The words at Damerau's distance 1, by Latin letters, digits, and the word's own letters."""
    letters = {*_LETTERS, *word}
    parts = [(word[:at], word[at:]) for at in range(len(word) + 1)]
    changed = {first + rest[1:] for first, rest in parts if rest}
    changed |= {first + rest[1] + rest[0] + rest[2:] for first, rest in parts if len(rest) > 1}
    for first, rest in parts:
        changed.update(first + letter + rest for letter in letters)
        if rest:
            changed.update(first + letter + rest[1:] for letter in letters)
    return frozenset(changed - {word})


def _has_phrase(line: str, words: Sequence[str]) -> bool:
    there, phrase = list(map(folded, split_words(line))), list(map(folded, words))
    return any(
        there[start : start + len(phrase)] == phrase
        for start in range(len(there) - len(phrase) + 1)
    )


@functools.lru_cache(maxsize=64)
def _statement(is_sqlite: bool, pipeline: int, asset_filter: AssetFilter) -> Select[Any]:
    """Selects (word, content, line, text) of the newest lines with any of `words`."""
    is_asked: ColumnElement[bool]
    if is_sqlite:
        asked = func.json_each(bindparam("words", type_=Text())).table_valued("value")
        is_asked = _word.word.in_(select(asked.c.value))
    else:
        is_asked = _word.word == any_(cast(bindparam("words"), ARRAY(Text())))
    has_asset = exists().where(
        _asset.content_id == _line.content_id,
        _content.id == _asset.content_id,
        passes(asset_filter),
    )
    is_analysed = exists().where(
        _analysis.content_id == _line.content_id, _analysis.pipeline_id == pipeline
    )
    return (
        select(_word.word, _line.content_id, _line.id, _line.text)
        .join_from(schema.read_word, schema.text_line, _line.id == _word.line_id)
        .where(
            is_asked,
            is_analysed.correlate(schema.text_line),
            has_asset.correlate(schema.text_line),
        )
        .order_by(_line.id.desc())
        .limit(literal_column(str(_MOST_LINES)))
    )


@functools.lru_cache(maxsize=8)
def _unfiltered(dialect: Dialect, pipeline: int) -> CompiledStatement:
    statement = _statement(dialect.name == "sqlite", pipeline, EVERYTHING)
    return CompiledStatement.of(statement, dialect)


def verify_read_words(database: Database) -> list[Finding]:
    """Compare the words with their lines, and the readings' numbers of lines with the lines."""
    with database.reading() as connection:
        wrong = sum(words != held for _, words, held in _words_by_line(connection))
        miscounted = select(func.count()).select_from(schema.reading).where(_is_miscounted())
        counts = {
            "lines of text have other words than those in the index": wrong,
            "readings do not count their lines right": connection.execute(miscounted).scalar_one(),
        }
    return [Finding(f"{count} {what}", in_index=True) for what, count in counts.items() if count]


def rebuild_read_words(database: Database) -> None:
    """Correct the words of lines, and how many lines readings have."""
    reading = schema.reading
    with database.writing() as connection:
        connection.execute(
            update(reading).where(_is_miscounted()).values(line_count=_lines_of_reading())
        )
        is_changed = False
        for line, words, held in _words_by_line(connection):
            if words != held:
                connection.execute(delete(schema.read_word).where(_word.line_id == line))
                rows = [{"word": word, "line_id": line} for word in words]
                insert_many(connection, schema.read_word, rows)
                is_changed = True
        if is_changed:
            # Searches keep what they found until assets change.
            record_changes(connection, [], [])


def _words_by_line(connection: Connection) -> Iterator[tuple[int, list[str], list[str]]]:
    """Each line, the words that it should have in the index, and those that it has."""
    after = 0
    while True:
        lines = connection.execute(
            select(_line.id, _line.text).where(_line.id > after).order_by(_line.id).limit(_PAGE)
        ).all()
        held: dict[int, list[str]] = {line.id: [] for line in lines}
        for row in connection.execute(select(schema.read_word).where(_word.line_id.in_(held))):
            held[row.line_id].append(row.word)
        for line in lines:
            yield line.id, words_of_line(line.text), sorted(held[line.id])
        if len(lines) < _PAGE:
            return
        after = lines[-1].id


def _lines_of_reading() -> ScalarSelect[int]:
    lines = select(func.count()).select_from(schema.text_line)
    return lines.where(_line.content_id == schema.reading.c.content_id).scalar_subquery()


def _is_miscounted() -> ColumnElement[bool]:
    return schema.reading.c.line_count != _lines_of_reading()
