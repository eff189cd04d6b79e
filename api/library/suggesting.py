"""Suggestions while a query is being typed, from the values of a library."""

from __future__ import annotations

from regard.photos.countries import country_code, country_name
from regard.search.language.completing import (
    Completion,
    FoldedValue,
    Suggestion,
    ValueKind,
    fold_values,
)
from regard.storage.assets.albums import SqlAlbums
from regard.storage.assets.reading import Visible
from regard.storage.assets.vocabulary import SqlVocabulary, Vocabulary
from regard.storage.database.catalog import Catalog

# Of so many candidates it is looked up whether the caller sees them.
_CANDIDATES = 200
_ALBUMS = {ValueKind.ALBUM, ValueKind.SAVED_SEARCH}


class Suggestions:
    """Suggests filters; `visible` names the collections that the caller may see, None for all."""

    def __init__(self, catalog: Catalog, visible: Visible = None) -> None:
        self._vocabulary = SqlVocabulary(catalog)
        self._albums = SqlAlbums(catalog)
        self._visible = visible

    def read(self, text: str, limit: int) -> list[Suggestion]:
        """At most `limit` suggestions for a query up to the caret, the best first."""
        completion = Completion(text)
        kinds = completion.kinds()
        values = [item for kind in kinds for item in self._values(kind)]
        suggestions: list[Suggestion] = []
        for suggestion in completion.rank(values, _CANDIDATES):
            if self._is_seen(suggestion):
                suggestions.append(suggestion)
            if len(suggestions) == limit:
                break
        return suggestions

    def _values(self, kind: ValueKind) -> list[FoldedValue]:
        if kind in _ALBUMS:
            albums = self._albums.names(visible=self._visible)
            is_saved = kind is ValueKind.SAVED_SEARCH
            return fold_values(kind, (name for name, saved in albums if saved == is_saved))
        if kind is ValueKind.COUNTRY:
            return self._vocabulary.read(
                Vocabulary.COUNTRY, lambda codes: fold_values(kind, map(country_name, codes))
            )
        return self._vocabulary.read(Vocabulary(kind.value), lambda names: fold_values(kind, names))

    def _is_seen(self, suggestion: Suggestion) -> bool:
        kind, value = suggestion.kind, suggestion.value
        if kind in _ALBUMS:
            return True
        if kind is ValueKind.COUNTRY:
            value = country_code(value) or value
        return self._vocabulary.is_of_any(Vocabulary(kind.value), value, visible=self._visible)
