"""What is written is what is searched for: random queries of every kind of term, sign, weight and
filter.

The query is written as text and goes through the parser and the engine. Beside it the same is said
in plain Python, and answered by brute force over all that is stored.
"""

from __future__ import annotations

import datetime
import random
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_home import engine_over
from test_composed_queries import PICTURE, TwoSpaces, by_definition

sys.path.append(str(Path(__file__).resolve().parents[1] / "storage"))

from filter_oracle import (
    DAY,
    Made,
    distance_km,
    full_name,
    is_below,
    last_moment,
    lower,
    made_assets,
    should_pass,
)

from regard.core.catalog import ChannelQuery, HitRecords, Neighbours
from regard.core.errors import UsageError
from regard.core.filters import AssetFilter, PathPart
from regard.core.geometry import Box
from regard.core.records import Target
from regard.search.answers import ImageQuery, LikeQuery, Reference, Scope, Term, TextQuery
from regard.search.language.parsing import parse_query
from regard.search.language.planning import compose_query, read_filter, read_terms
from regard.search.language.syntax import WrittenPicture


class FilteredHome(TwoSpaces):
    """A home whose assets have what filters ask about."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        made = [asset for asset in made_assets(random.Random(seed)) if not asset.failed]
        self.made = dict(zip(self.asset, made, strict=False))
        assert len(self.made) == len(self.asset)

    def passing(self, chosen: AssetFilter) -> set[int]:
        return {number for number, made in self.made.items() if should_pass(made, chosen)}

    def hit_records(
        self, contents: Collection[int], regions: Collection[int], asset_filter: AssetFilter
    ) -> HitRecords:
        passing = self.passing(asset_filter)
        records = super().hit_records(contents, regions, asset_filter)
        kept = {
            content: [asset for asset in assets if asset.id in passing]
            for content, assets in records.assets.items()
        }
        return HitRecords(kept, records.regions)

    def search(self, asked: Sequence[ChannelQuery], chosen: AssetFilter) -> list[Neighbours]:
        contents = {self.asset[number].content_id for number in self.passing(chosen)}
        everything = self.rows
        self.rows = {
            channel: {n: row for n, row in rows.items() if self.owner[n][0] in contents}
            for channel, rows in everything.items()
        }
        try:
            return super().search(asked, chosen)
        finally:
            self.rows = everything


@dataclass(frozen=True)
class Written:
    """A piece of a query, and what it means: a term, or which assets pass."""

    text: str
    term: Term | None = None
    passes: Callable[[Made], bool] | None = None
    # Of conditions with the same name any may hold.
    any_of: str | None = None


HOME = FilteredHome(4)
_TEXTS = {
    '"a red bus"': TextQuery("a red bus", phrase=True),
    '"dogs \\"x\\""': TextQuery('dogs "x"', phrase=True),
    "rain": TextQuery("rain"),
    "10:30": TextQuery("10:30"),
}
_THINGS = {
    **{f"like:a{n}": LikeQuery(Reference(n, False)) for n in list(HOME.asset)[::5]},
    **{f"like:r{n}": LikeQuery(Reference(n, True)) for n in list(HOME.region)[::7]},
    "image:p": ImageQuery(PICTURE, "p"),
    "image:q": ImageQuery(PICTURE, "q"),
    "box:p,1,2,5,6": ImageQuery(PICTURE, "p", Box(1, 2, 5, 6)),
    'box:"p,2,2,5,6"': ImageQuery(PICTURE, "p", Box(2, 2, 5, 6)),
}


def weighted(text: str, query: TextQuery | ImageQuery | LikeQuery) -> st.SearchStrategy[Written]:
    """The term with sign and weight; a bare word has a weight, so that no other joins it."""
    weights = st.sampled_from([0.25, 1, 2, 7.5])
    is_bare = text in _TEXTS and not text.startswith('"')

    def write(negative: bool, weight: float, shows: bool) -> Written:
        if not (shows or is_bare):
            weight = 0.5 if negative else 1.0
        shown = f"^{weight:g}" if shows or is_bare else ""
        return Written(("-" if negative else "") + text + shown, Term(query, weight, negative))

    return st.builds(write, st.booleans(), weights, st.booleans())


def place(made: Made) -> tuple[float, float] | None:
    latitude, longitude = made.place
    return None if latitude is None or longitude is None else (latitude, longitude)


def near(made: Made, latitude: float, longitude: float, kilometres: float) -> bool:
    at = place(made)
    return at is not None and distance_km((latitude, longitude), at) <= kilometres


def is_of(made: Made, *names: str) -> bool:
    own = {lower(name) for name in (made.camera[1], full_name(made.camera)) if name}
    return bool(own & set(names))


_YEAR_999 = datetime.datetime(999, 1, 1)
_CONDITIONS: dict[str, Callable[[Made], bool]] = {
    "taken:2024": lambda m: m.taken_at is not None and m.taken_at.year == 2024,
    "taken:2024-05-17..": lambda m: m.taken_at is not None and m.taken_at >= DAY,
    "taken:<2024-05-17": lambda m: m.taken_at is not None and last_moment(m) < DAY,
    "taken:0999..2024-05-16": lambda m: (
        m.taken_at is not None and m.taken_at >= _YEAR_999 and last_moment(m) < DAY
    ),
    "tag:red": lambda m: "red" in m.tags,
    "tag:50%": lambda m: "50%" in m.tags,
    'TAG:"a b"': lambda m: "a b" in m.tags,
    "near:52.5,13.4,50km": lambda m: near(m, 52.5, 13.4, 50),
    "near:-17,180,100mi": lambda m: near(m, -17, 180, 160.9344),
    "within:13,52,14,53": lambda m: place(m) in {(52.5, 13.4), (52.6, 13.5)},
    "has:gps": lambda m: place(m) is not None,
    "has:date": lambda m: m.taken_at is not None,
    "has:tag": lambda m: bool(m.tags),
    "has:rating": lambda m: bool(m.rating),
    "width:>30": lambda m: m.size[0] > 30,
    "height:30": lambda m: m.size[1] == 30,
    "height:31..6000": lambda m: 31 <= m.size[1] <= 6000,
    "orientation:landscape": lambda m: m.size[0] > m.size[1],
    "custom.k:1": lambda m: m.custom.get("k") == 1 and m.custom.get("k") is not True,
    "custom.k:true": lambda m: m.custom.get("k") is True,
    'custom.k:"1"': lambda m: m.custom.get("k") == "1",
    "path:p/a": lambda m: m.upload is None and is_below(m.path, b"/p/a"),
    "path:a-b": lambda m: m.upload is None and is_below(m.path, b"/p/a-b"),
}
_ANY_OF = {
    "camera:d90": ("camera", lambda m: is_of(m, "d90")),
    'camera:"Canon EOS 5D"': ("camera", lambda m: is_of(m, "canon eos 5d")),
    "collection:one": ("collection", lambda m: m.collection == "one"),
    "collection:two": ("collection", lambda m: m.collection == "two"),
}


def _negated(passes: Callable[[Made], bool]) -> Callable[[Made], bool]:
    return lambda made: not passes(made)


_terms = st.one_of(*(weighted(text, query) for text, query in (_TEXTS | _THINGS).items()))
_conditions = st.one_of(
    st.sampled_from([Written(text, passes=passes) for text, passes in _CONDITIONS.items()]),
    st.sampled_from(
        [Written(t, passes=passes, any_of=name) for t, (name, passes) in _ANY_OF.items()]
    ),
    st.sampled_from(
        [
            Written(f"-{text}", passes=_negated(passes))
            for text, passes in (
                *_CONDITIONS.items(),
                *((text, passes) for text, (_, passes) in _ANY_OF.items()),
            )
        ]
    ),
)


def expected_passing(conditions: Sequence[Written]) -> set[int]:
    any_of: dict[str, list[Callable[[Made], bool]]] = {}
    every: list[Callable[[Made], bool]] = [lambda made: not made.trashed]
    for condition in conditions:
        assert condition.passes is not None
        if condition.any_of is None:
            every.append(condition.passes)
        else:
            any_of.setdefault(condition.any_of, []).append(condition.passes)
    return {
        number
        for number, made in HOME.made.items()
        if all(passes(made) for passes in every)
        and all(any(passes(made) for passes in group) for group in any_of.values())
    }


def picture(written: WrittenPicture) -> ImageQuery:
    assert written.name in {"p", "q"}
    return ImageQuery(PICTURE, written.name, written.box)


def path_filter(text: str) -> AssetFilter:
    return AssetFilter(path_parts=(PathPart(text.encode()),))


@settings(max_examples=150, deadline=None)
@given(
    terms=st.lists(
        _terms, min_size=1, max_size=4, unique_by=lambda piece: piece.text.strip("-").split("^")[0]
    ),
    conditions=st.lists(_conditions, max_size=3),
    target=st.sampled_from(list(Target)),
    data=st.data(),
)
def test_the_answer_is_that_of_what_is_written(
    terms: list[Written], conditions: list[Written], target: Target, data: st.DataObject
) -> None:
    pieces = data.draw(st.permutations([*terms, *conditions]))
    gap = data.draw(st.sampled_from([" ", "  ", "\t"]))
    query = parse_query(gap.join(piece.text for piece in pieces))
    said = [piece.term for piece in pieces if piece.term is not None]
    read = read_terms(query, picture)
    assert read == said
    chosen = read_filter(query, path_filter, path_filter)
    passing = expected_passing(conditions)
    assert HOME.passing(chosen) == passing
    if all(term.negative for term in said):
        with pytest.raises(UsageError, match="only negative terms"):
            compose_query(read)
        return
    found = engine_over(HOME).search(compose_query(read), Scope(target, 1000, chosen)).hits
    expected = by_definition(HOME, said, target, passing)
    scores = [hit.score for hit in found]
    assert scores == sorted(scores, reverse=True)
    assert len({hit.asset.id for hit in found}) == len(found) or target is Target.REGION
    # Scores are of float32 vectors; where they are equal, the order is not the definition's
    # matter.
    assert {
        (hit.asset.id, 0 if hit.region is None else hit.region.id): hit.score for hit in found
    } == pytest.approx({(asset, region): score for asset, region, score in expected}, abs=1e-5)


def test_every_condition_divides_the_assets() -> None:
    """The property above would hold of conditions that let all or nothing through, too."""
    everything = expected_passing([])
    for text, passes in (*_CONDITIONS.items(), *((t, p) for t, (_, p) in _ANY_OF.items())):
        passing = expected_passing([Written(text, passes=passes)])
        assert 0 < len(passing) < len(everything), text


def test_no_term_is_a_list() -> None:
    query = parse_query("tag:red")
    assert compose_query(read_terms(query, picture)) == compose_query([])
