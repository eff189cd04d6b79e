"""The keyword index: which texts of photographs contain a word.

The texts of assets are in `asset_text`, which triggers maintain; captions are in `caption`. The
database indexes the words of both: SQLite in the FTS5 tables `asset_text_words` and
`caption_words`, PostgreSQL in generated columns of the same names with GIN indexes. So the index
is current in every transaction. Words match by stem (Porter on SQLite, Snowball English on
PostgreSQL); exact matches are then checked in the text. Words that were read in the pictures have
an index of their own (`read_words.py`).

A look-up is one statement with one SELECT per word and table, each of which reads at most the
newest `MOST_TEXTS` texts. The texts with a more frequent word are counted, so that it is not taken
for a rare one. What is found is kept until assets change.
"""

from __future__ import annotations

import functools
import re
import threading
import unicodedata
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import (
    ColumnElement,
    Connection,
    Dialect,
    Select,
    Text,
    bindparam,
    cast,
    column,
    distinct,
    exists,
    func,
    literal_column,
    null,
    select,
    table,
    union_all,
)

from regard.core.catalog import WORD_FIELDS, KeywordSearch, Occurrences, WordField, Words
from regard.core.filters import EVERYTHING, AssetFilter
from regard.core.records import Int64Array
from regard.core.words import folded, is_word, plain_forms, respellings, split_words, unaccented
from regard.storage.assets.filters import passes
from regard.storage.database import schema
from regard.storage.database.catalog import Catalog
from regard.storage.database.change_log import assets_version, moment_now
from regard.storage.database.connection import CompiledStatement
from regard.storage.database.stored_pipelines import StoredPipeline
from regard.storage.retrieval.read_words import ReadWords

# The most texts read for one word in each table, and the most counted if there are more.
MOST_TEXTS = 4_000
MOST_COUNTED = 100_000
# Rows of texts that are kept, of 24 bytes each.
_MOST_KEPT = 1 << 19
# Of each of several words: whether texts have to be checked, whether it is a whole name, and whether
# that has a suffix.
Checks = tuple[tuple[bool, bool, bool], ...]
# Cameras write numbers right after these letters: DSC01234, P1010012, IMG-20230512-WA0012.
_ROLLS = (
    *("c", "cimg", "dji", "dsc", "dscf", "dscn", "dscp", "g", "gopr", "gp", "hpim", "imag", "img"),
    *("imgp", "kif", "l", "mvi", "p", "pana", "photo", "pict", "r", "sam", "sany", "wa"),
)
_apart = functools.partial(unicodedata.normalize, "NFD")
_NUMBER = re.compile("[0-9]{3,}")
_GLUED = re.compile(r"\d+|\D+")
# The full-width or half-width form of letters that usually have another width.
_OTHER_WIDTH = {
    ord(unicodedata.normalize("NFKC", letter)): letter for letter in map(chr, range(0xFF01, 0xFFA0))
}
_NOTHING = np.zeros((0, 3), np.int64)
_REGION_CAPTION = WORD_FIELDS.index(WordField.REGION_CAPTION)
_FIELD_PLACES = {field.value: place for place, field in enumerate(WORD_FIELDS)}

_asset, _content, _analysis = schema.asset.c, schema.content.c, schema.analysis.c
_text, _caption = schema.asset_text.c, schema.caption.c


class SqlKeywordSearch(KeywordSearch):
    """Finds words over one pipeline; any number of threads may use one."""

    def __init__(self, catalog: Catalog, pipeline: StoredPipeline) -> None:
        """Nothing is read yet."""
        self._database = catalog.database
        self._pipeline = pipeline.id
        self._counts = catalog.kept_counts
        self._recent = _RecentTexts()
        self._read_words = ReadWords(catalog.database, pipeline)

    def find(
        self, asked: Sequence[Sequence[Words]], asset_filter: AssetFilter
    ) -> list[Occurrences]:
        if not any(asked):
            return [_occurrences([], 0) for _ in asked]
        if asset_filter.is_everything:
            # Quick at any size; includes deleted contents, which hardly changes the ranking.
            total = int(self._database.read_once(_LAST_CONTENT)[0][0] or 0)
            version = moment_now(self._database).assets
            return [
                _occurrences(self._texts(words, asset_filter, version, self._anywhere), total)
                for words in asked
            ]
        with self._database.reading() as connection:
            total = self._counts.read(
                connection,
                "contents",
                asset_filter,
                lambda: int(connection.execute(_count_of(asset_filter)).scalar_one()),
            )
            version = assets_version(connection)
            read = functools.partial(self._passing, connection, asset_filter)
            return [
                _occurrences(self._texts(words, asset_filter, version, read), total)
                for words in asked
            ]

    def _texts(
        self,
        words: Sequence[Words],
        asset_filter: AssetFilter,
        version: int,
        read: Callable[[Sequence[Words]], Sequence[Any]],
    ) -> list[_Texts]:
        """The texts that contain each of the words, as a version of the assets has them."""
        known = self._recent.get(asset_filter, words, version)
        unread = [item for item in dict.fromkeys(words) if item not in known]
        if unread:
            found = dict(zip(unread, self._to_texts(unread, read(unread)), strict=True))
            self._recent.keep(asset_filter, found, version)
            known |= found
        return [known[item] for item in words]

    def _anywhere(self, words: Sequence[Words]) -> Sequence[Any]:
        """The rows of `_statement` without a filter, and those of read words."""
        unfiltered = _unfiltered(self._database.engine.dialect, self._pipeline, _checks(words))
        return [
            *unfiltered.run(self._database, self._values(words)),
            *self._read_words.find_anywhere(words),
        ]

    def _passing(
        self, connection: Connection, asset_filter: AssetFilter, words: Sequence[Words]
    ) -> Sequence[Any]:
        """The rows of `_statement`, and those of read words."""
        statement = _statement(
            self._database.is_sqlite, self._pipeline, asset_filter, _checks(words)
        )
        return [
            *connection.execute(statement, self._values(words)).all(),
            *self._read_words.find(connection, asset_filter, words),
        ]

    def _values(self, words: Sequence[Words]) -> dict[str, str]:
        return {f"words_{place}": self._query(item) for place, item in enumerate(words)}

    def _to_texts(self, words: Sequence[Words], rows: Sequence[Any]) -> list[_Texts]:
        """The rows of `_statement` by word."""
        kept: list[list[tuple[int, int, int]]] = [[] for _ in words]
        # Many photographs share a tag or a folder.
        stands_in = functools.lru_cache(maxsize=1024)(_stands_in)
        read = [0] * len(words)
        for place, name, content, region, text in rows:
            if text is None or stands_in(words[place], name, text):
                of_region = region and name == WordField.CAPTION.value
                field = _REGION_CAPTION if of_region else _FIELD_PLACES[name]
                kept[place].append((field, content, region))
            read[place] += 1
        return [
            _Texts(
                np.asarray(found, np.int64).reshape(-1, 3),
                self._count(self._query(item)) if count >= MOST_TEXTS else None,
            )
            for item, found, count in zip(words, kept, read, strict=True)
        ]

    def _count(self, query: str) -> int:
        """About how many texts contain a common word, ignoring the filter."""
        statement = _counting(self._database.is_sqlite)
        with self._database.reading() as connection:
            return int(connection.execute(statement, {"words": query}).scalar_one())

    def _query(self, asked: Words) -> str:
        """The database's query for the forms of a word, or for all words in any order."""
        is_sqlite = self._database.is_sqlite
        every, some = (" AND ", " OR ") if is_sqlite else (" & ", " | ")
        return some.join(
            f"({every.join(f'({some.join(_spellings(word, is_sqlite))})' for word in form)})"
            for form in _forms(asked)
        )


@functools.lru_cache(maxsize=1024)
def _spellings(word: str, is_sqlite: bool) -> tuple[str, ...]:
    """A word as texts may have it: as asked for, in compatible letters, in the other width, or
    without its special letters."""
    plain = unicodedata.normalize("NFKC", word).lower()
    wide = _apart(plain).translate(_OTHER_WIDTH)
    spellings = [word, *filter(is_word, (plain, wide)), *respellings(plain)]
    if is_sqlite:
        # FTS5 distinguishes composed letters from decomposed ones, as in macOS file names.
        spellings = [f'"{form}"' for word in spellings for form in (word, _apart(word))]
    else:
        # As `regard_folded` leaves texts.
        spellings = [unaccented(word) for word in spellings]
    return tuple(dict.fromkeys(spellings))


@dataclass(frozen=True, slots=True, eq=False)
class _Texts:
    """The field, content and region (n, 3) of each text with a word, and how many there are if
    these are not all."""

    rows: Int64Array
    more: int | None


def _occurrences(texts: Sequence[_Texts], total: int) -> Occurrences:
    """The texts that contain each of several words."""
    places = np.repeat(np.arange(len(texts)), [len(found.rows) for found in texts])
    fields, contents, regions = np.concatenate([_NOTHING, *(found.rows for found in texts)]).T
    more = {place: found.more for place, found in enumerate(texts) if found.more is not None}
    return Occurrences(places, fields, contents, regions, total, more)


class _RecentTexts:
    """The texts with the words that were looked up last, until assets change.

    Queries share words, above all those that many texts contain.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._version = -1
        self._texts: OrderedDict[tuple[AssetFilter, Words], _Texts] = OrderedDict()
        self._count = 0

    def get(
        self, asset_filter: AssetFilter, words: Sequence[Words], version: int
    ) -> dict[Words, _Texts]:
        """What was found of these words at this version of the assets."""
        known: dict[Words, _Texts] = {}
        with self._lock:
            for item in words if version == self._version else ():
                key = asset_filter, item
                if key in self._texts:
                    self._texts.move_to_end(key)
                    known[item] = self._texts[key]
        return known

    def keep(self, asset_filter: AssetFilter, found: Mapping[Words, _Texts], version: int) -> None:
        """Keep what was found, in place of what was used longest ago."""
        with self._lock:
            if version > self._version:
                self._version, self._count = version, 0
                self._texts.clear()
            for item, texts in found.items() if version == self._version else ():
                key = asset_filter, item
                if key not in self._texts:
                    self._texts[key] = texts
                    self._count += 1 + len(texts.rows)
            while self._count > _MOST_KEPT:
                self._count -= 1 + len(self._texts.popitem(last=False)[1].rows)


# As text, as in `regard.storage.database.change_log`.
_LAST_CONTENT = "SELECT max(id) FROM content"


def _count_of(asset_filter: AssetFilter) -> Select[Any]:
    """Counts the contents that have an asset that passes a filter."""
    return (
        select(func.count(distinct(_asset.content_id)))
        .join_from(schema.asset, schema.content, _content.id == _asset.content_id)
        .where(passes(asset_filter))
    )


@functools.lru_cache(maxsize=256)
def _statement(
    is_sqlite: bool, pipeline: int, asset_filter: AssetFilter, checks: Checks
) -> Select[Any]:
    """Selects (place, field, content, region, text if it has to be checked) of each text."""
    passing = passes(asset_filter)
    arms = []
    for place, (is_held, is_whole, has_suffix) in enumerate(checks):
        wanted = bindparam(f"words_{place}", type_=Text())
        held = None if not is_held else _asset.file_name if has_suffix else _text.text
        arm = _asset_arm(is_sqlite, pipeline, passing, place, wanted, held)
        arms.append(select(arm.subquery(f"assets_{place}")))
        if not is_whole:
            arm = _caption_arm(is_sqlite, pipeline, passing, place, wanted, is_held)
            arms.append(select(arm.subquery(f"captions_{place}")))
    return select(union_all(*arms).subquery("found"))


def _asset_arm(
    is_sqlite: bool,
    pipeline: int,
    passing: ColumnElement[bool],
    place: int,
    wanted: ColumnElement[str],
    held: ColumnElement[str] | None,
) -> Select[Any]:
    """Texts of analysed assets that pass, with the column that is checked, if any."""
    found, holds = _holding(is_sqlite, "asset_text", wanted)
    statement = select(
        literal_column(str(place)).label("place"),
        _text.field.label("field"),
        _asset.content_id.label("content"),
        literal_column("0").label("region"),
        (cast(null(), Text) if held is None else held).label("text"),
    ).select_from(schema.asset_text)
    newest: ColumnElement[int] = _text.id
    if found is not None:
        # By rowid the index is read from the newest text on, and can stop early.
        newest = literal_column(f"{found.name}.rowid")
        statement = statement.join(found, newest == _text.id)
    return (
        statement.join(schema.asset, _asset.id == _text.asset_id)
        .join(schema.content, _content.id == _asset.content_id)
        .join(schema.analysis, _analysis.content_id == _asset.content_id)
        .where(holds, _analysis.pipeline_id == pipeline, passing)
        .order_by(newest.desc())
        .limit(MOST_TEXTS)
    )


def _caption_arm(
    is_sqlite: bool,
    pipeline: int,
    passing: ColumnElement[bool],
    place: int,
    wanted: ColumnElement[str],
    is_held: bool,
) -> Select[Any]:
    """Captions of the pipeline whose content has an asset that passes."""
    found, holds = _holding(is_sqlite, "caption", wanted)
    is_shown = (
        exists()
        .where(
            _asset.content_id == _caption.content_id,
            _content.id == _asset.content_id,
            passing,
        )
        .correlate(schema.caption)
    )
    statement = select(
        literal_column(str(place)).label("place"),
        literal_column(f"'{WordField.CAPTION.value}'").label("field"),
        _caption.content_id.label("content"),
        func.coalesce(_caption.region_id, 0).label("region"),
        (_caption.text if is_held else cast(null(), Text)).label("text"),
    ).select_from(schema.caption)
    newest: ColumnElement[int] = _caption.id
    if found is not None:
        newest = literal_column(f"{found.name}.rowid")
        statement = statement.join(found, newest == _caption.id)
    return (
        statement.where(holds, _caption.pipeline_id == pipeline, is_shown)
        .order_by(newest.desc())
        .limit(MOST_TEXTS)
    )


@functools.lru_cache(maxsize=64)
def _unfiltered(dialect: Dialect, pipeline: int, checks: Checks) -> CompiledStatement:
    statement = _statement(dialect.name == "sqlite", pipeline, EVERYTHING, checks)
    return CompiledStatement.of(statement, dialect)


@functools.lru_cache(maxsize=2)
def _counting(is_sqlite: bool) -> Select[Any]:
    """Counts the texts of both tables that contain a word, up to a bound."""
    counts = []
    for of, source in (("asset_text", schema.asset_text), ("caption", schema.caption)):
        found, holds = _holding(is_sqlite, of, bindparam("words", type_=Text()))
        rows: Select[Any] = select(literal_column("1").label("one")).select_from(
            source if found is None else found
        )
        some = rows.where(holds).limit(MOST_COUNTED).subquery(f"{of}_some")
        counts.append(select(func.count()).select_from(some).scalar_subquery())
    return select(counts[0] + counts[1])


def _holding(
    is_sqlite: bool,
    of: str,
    wanted: ColumnElement[str],
) -> tuple[Any, ColumnElement[bool]]:
    """The index table, if there is one, and the condition that a text contains words."""
    if is_sqlite:
        index = table(f"{of}_words", column("rowid"))
        return index, literal_column(index.name).op("MATCH", is_comparison=True)(wanted)
    query = func.to_tsquery(literal_column("'regard'::regconfig"), wanted)
    return None, literal_column(f"{of}.{of}_words").op("@@", is_comparison=True)(query)


def _forms(asked: Words) -> list[tuple[str, ...]]:
    """The forms of words; all words of each form are looked up.

    A single word also has the plural or singular that stemmers miss (bus, buses), a number the names
    that cameras make of it. Letters and numbers of a whole name may be glued (IMG0012, IMG_0012).
    """
    word = asked.words[0]
    if asked.whole:
        parts = (part for word in asked.words for part in _GLUED.findall(word))
        return list(dict.fromkeys([asked.words, tuple(parts), ("".join(asked.words),)]))
    if asked.exact:
        return [asked.words]
    others: list[str] = []
    if _NUMBER.fullmatch(word):
        others = [f"{letters}{word}" for letters in _ROLLS]
    elif word.endswith("ses"):
        others = [word[:-2]]
    elif word.endswith("s") and not word.endswith("ss"):
        others = [f"{word}es"]
    return [(form,) for form in [word, *others]]


def _is_held_to_text(asked: Words) -> bool:
    """Whether texts have to be checked: FTS5 splits a word with marks."""
    return asked.exact or not all(_apart(folded(word)).isalnum() for word in asked.words)


def _glued(words: Sequence[str]) -> tuple[str, ...]:
    """The letters and digits of words, without what separates them, in both plain forms."""
    return tuple(map("".join, zip(*map(plain_forms, words), strict=True)))


def _checks(words: Sequence[Words]) -> Checks:
    """Which of the words have to be checked in the texts, and which are whole names."""
    return tuple((_is_held_to_text(item), item.whole, bool(item.suffix)) for item in words)


def _stands_in(asked: Words, field: str, text: str) -> bool:
    """Whether the text contains the words consecutively, or is the whole name.

    `text` is the name of the file with its suffix for a whole name that has one.
    """
    if asked.whole:
        if asked.suffix and field != WordField.FILE_NAME.value:
            return False
        parts = text.split("/") if field == WordField.FOLDER.value else [text]
        name = _glued([*asked.words, asked.suffix])
        return any(_is_same(_glued(split_words(part)), name) for part in parts)
    wanted = list(map(plain_forms, asked.words))
    there = list(map(plain_forms, split_words(text)))
    return any(
        all(map(_is_same, there[start:], wanted)) for start in range(len(there) - len(wanted) + 1)
    )


def _is_same(forms: tuple[str, ...], others: tuple[str, ...]) -> bool:
    """Whether two words or names are spellings of the same one."""
    return any(form == other for form, other in zip(forms, others, strict=False))
