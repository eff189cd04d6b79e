"""Words: which ones a query looks up, how matches rank, and how that changes answers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_home import IMAGE, REGION, MemoryHome

from regard.core.catalog import WORD_FIELDS, Occurrences, WordField, Words
from regard.core.filters import AssetFilter
from regard.core.records import KEYWORDS, Kind, QueryKind, Routes, Target, WeightedChannel
from regard.search import fusion
from regard.search.answers import (
    Answer,
    ChannelMatch,
    ComposedQuery,
    Hit,
    LikeQuery,
    Query,
    Reference,
    Scope,
    Term,
    TextQuery,
)
from regard.search.engine import SearchEngine
from regard.search.keywords import (
    CONTAINED,
    EXACT,
    FIELD_WEIGHTS,
    MOST_WORDS,
    WHOLE,
    KeywordRanking,
    WeightedWords,
    rank_words,
    words_of,
)

TITLE, TAG, FILE_NAME, DESCRIPTION, CAPTION, REGION_CAPTION, TEXT, SIMILAR_TEXT = (
    WORD_FIELDS.index(field)
    for field in (
        WordField.TITLE,
        WordField.TAG,
        WordField.FILE_NAME,
        WordField.DESCRIPTION,
        WordField.CAPTION,
        WordField.REGION_CAPTION,
        WordField.TEXT,
        WordField.SIMILAR_TEXT,
    )
)


class HomeWithWords(MemoryHome):
    """A home in memory whose contents have texts: (field, text, region or 0)."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.texts: dict[int, list[tuple[int, str, int]]] = {}
        self.asked: list[list[list[Words]]] = []

    @property
    def routes(self) -> Routes:
        words = WeightedChannel(KEYWORDS, 2.0)
        return {
            **super().routes,
            (QueryKind.TEXT, Target.IMAGE): (
                WeightedChannel(IMAGE), WeightedChannel(REGION, 0.5), words,
            ),
            (QueryKind.TEXT, Target.REGION): (WeightedChannel(REGION), words),
        }  # fmt: skip

    def find(self, asked: Sequence[Sequence[Words]], _chosen: AssetFilter) -> list[Occurrences]:
        self.asked.append([list(words) for words in asked])
        return [self._find(words) for words in asked]

    def _find(self, asked: Sequence[Words]) -> Occurrences:
        rows = [
            (place, field, content, region)
            for place, item in enumerate(asked)
            for content, texts in self.texts.items()
            for field, text, region in texts
            if (
                not item.suffix and text == " ".join(item.words)
                if item.whole
                else f" {' '.join(item.words)} " in f" {text} "
            )
        ]
        table = np.asarray(rows, np.int64).reshape(-1, 4)
        return Occurrences(*table.T, total=self.contents)


def engine_over(home: HomeWithWords) -> SearchEngine:
    return SearchEngine(home, home, home, keywords=home)  # type: ignore[arg-type]


def search(
    home: HomeWithWords, query: Query | str, target: Target = Target.IMAGE, limit: int = 10**6
) -> Answer:
    asked = TextQuery(query) if isinstance(query, str) else query
    return engine_over(home).search(asked, Scope(target, limit))


def by_words(hit: Hit) -> ChannelMatch | None:
    return next((match for match in hit.channels if match.kind == "keyword"), None)


def asked_for(text: str) -> list[str]:
    return [item.words.words[0] for item in words_of(text) if not item.words.whole]


def occurrences(*rows: tuple[int, int, int, int], total: int = 100) -> Occurrences:
    table = np.asarray(rows, np.int64).reshape(-1, 4)
    return Occurrences(*table.T, total=total)


def rank(text: str, *rows: tuple[int, int, int, int], **options: object) -> KeywordRanking:
    return rank_words(words_of(text), occurrences(*rows), options.get("target", Target.IMAGE))  # type: ignore[arg-type]


def test_a_text_asks_for_its_telling_words() -> None:
    assert asked_for("A photograph of the Red Buses, in São Paulo!") == [
        "red",
        "buses",
        "são",
        "paulo",
    ]
    assert asked_for("red RED réd bus") == ["red", "bus"]
    # Of a file's name as it is indexed, without its suffix.
    assert asked_for("IMG_1234-a.jpg b.CR2") == ["img", "1234", "b"]
    assert asked_for("jpg .jpg v1.5 example.org") == ["jpg", "v1", "5", "example", "org"]
    # Words that say nothing are asked for where there are no others.
    assert asked_for("The Who") == ["the", "who"]
    assert asked_for(" ?! ") == []
    assert len(asked_for(" ".join(f"w{n}" for n in range(99)))) == MOST_WORDS
    assert asked_for("w1 w2 w3")[0] == "w1"


def test_a_phrase_asks_for_all_its_words_as_they_stand() -> None:
    phrase = ("the", "red", "bus", "of", "old")
    assert words_of("The Red-bus of old", phrase=True, weight=0.5) == [
        WeightedWords(Words(phrase, exact=True), 0.5),
        WeightedWords(Words(phrase, exact=True, whole=True), 0.0),
    ]
    assert words_of("IMG_2024-05.jpg", phrase=True)[0].words.words == ("img", "2024", "05")
    assert words_of("?!", phrase=True) == []


def test_rare_words_in_good_places_count_more() -> None:
    common = [(0, TITLE, content, 0) for content in range(1, 31)]
    found = rank("red egret", *common, (1, TITLE, 50, 0), (1, CAPTION, 51, 0), (1, CAPTION, 1, 0))
    # Rare in the title; common in the title and rare in a caption; common alone; rare in a
    # caption.
    order = found.items.tolist()
    assert order[:3] == [50, 1, 2]
    assert order[-1] == 51
    # The best of several places counts, once.
    twice = rank("egret", (0, TAG, 1, 0), (0, CAPTION, 1, 0), (0, TAG, 2, 0))
    assert twice.scores[0] == twice.scores[1]
    assert twice.ranks.tolist() == [1, 1]
    assert twice.items.tolist() == [1, 2]
    assert twice.fields[:, 0].tolist() == [TAG, TAG]


def test_the_score_is_that_of_the_definition() -> None:
    found = rank("red bus", (0, TITLE, 1, 0), (1, CAPTION, 1, 0), (0, TAG, 2, 0))
    red, bus = math.log(1 + 98.5 / 2.5), math.log(1 + 99.5 / 1.5)
    expected = [red + bus * FIELD_WEIGHTS[WordField.CAPTION], red]
    assert found.items.tolist() == [1, 2]
    assert found.scores.tolist() == pytest.approx(expected)
    assert found.strengths.tolist() == pytest.approx(
        [score / (red + bus + 1) for score in expected]
    )
    assert 0 < found.strengths.min() <= found.strengths.max() < 1


def test_words_that_everything_has_decide_nothing_and_still_match() -> None:
    everywhere = [(0, TITLE, content, 0) for content in range(1, 101)]
    found = rank("harbour", *everywhere)
    assert len(found.items) == 100
    assert found.is_complete
    assert found.strengths.max() < 0.01
    found = rank("harbour egret", *everywhere, (1, CAPTION, 3, 0))
    assert found.items[0] == 3
    assert not found.is_complete


@pytest.mark.parametrize(
    ("text", "rows", "complete", "naming"),
    [
        ("cat", [(0, TITLE, 7, 0)], True, 0),
        ("cat", [(0, TITLE, 7, 0), (1, TITLE, 7, 0)], True, WHOLE),
        ("IMG_0012.jpg", [(0, FILE_NAME, 7, 0), (1, FILE_NAME, 7, 0)], True, CONTAINED),
        ("IMG_0012.jpg", [(2, FILE_NAME, 7, 0)], True, WHOLE),
        ("IMG_0012.jpg", [(2, FILE_NAME, 7, 0), (4, FILE_NAME, 7, 0)], True, EXACT),
        ("0012", [(0, FILE_NAME, 7, 0)], True, CONTAINED),
        ("2 cats", [(0, FILE_NAME, 7, 0), (1, TAG, 7, 0)], True, CONTAINED),
        ("2 cats", [(0, FILE_NAME, 7, 0), (1, CAPTION, 7, 0)], False, 0),
        ("2 cats", [(0, FILE_NAME, 7, 0), (1, DESCRIPTION, 7, 0)], True, 0),
        ("cat", [(0, DESCRIPTION, 7, 0)], True, 0),
        ("cat", [(0, CAPTION, 7, 0)], False, 0),
    ],
)
def test_items_with_all_words_in_their_names_match_and_whole_names_come_first(
    text: str, rows: list[tuple[int, int, int, int]], complete: bool, naming: int
) -> None:
    others = [(0, CAPTION, 5, 0), (1, CAPTION, 5, 0)]
    found = rank(text, *rows, *others)
    assert found.is_complete is complete
    assert found.naming[found.items.tolist().index(7)] == naming
    if naming:
        assert found.items[0] == 7


def test_a_phrase_in_a_name_comes_first() -> None:
    asked = words_of("red bus", phrase=True)
    found = rank_words(asked, occurrences((0, TITLE, 7, 0), (0, CAPTION, 8, 0)), Target.IMAGE)
    assert found.items.tolist() == [7, 8]
    assert found.naming.tolist() == [CONTAINED, 0]


def test_named_items_come_before_all_that_other_channels_prefer() -> None:
    home = HomeWithWords(9)
    for content in range(1, 401):
        home.add_content(regions=1)
        home.texts[content] = [(FILE_NAME, f"img {content:04}", 0)]
    for number in (1, 77, 400):
        for query in (f"IMG_{number:04}", f"img_{number:04}.JPG", f"{number:04}"):
            hit = search(home, query, limit=5).hits[0]
            assert hit.asset.content_id == number
            assert sum(match.contribution for match in hit.channels) == pytest.approx(hit.score)


def test_a_word_too_common_to_be_listed_is_no_rare_one() -> None:
    rows = [(0, TITLE, content, 0) for content in range(1, 11)] + [(1, TITLE, 50, 0)]
    asked = words_of("red egret")
    listed = rank_words(asked, occurrences(*rows), Target.IMAGE)
    table = np.asarray(rows, np.int64)
    told = rank_words(asked, Occurrences(*table.T, total=100, more={0: 60}), Target.IMAGE)
    assert listed.items.tolist() == told.items.tolist() == [50, *range(1, 11)]
    assert told.scores[1] == pytest.approx(math.log(1 + 40.5 / 60.5))
    assert told.scores[1] < listed.scores[1]
    assert told.scores[0] == listed.scores[0]


def test_regions_are_ranked_by_their_own_captions() -> None:
    rows = [(0, REGION_CAPTION, 1, 7), (0, TITLE, 1, 0), (0, REGION_CAPTION, 2, 8)]
    found = rank("egret", *rows, target=Target.REGION)
    assert found.items.tolist() == found.regions.tolist() == [7, 8]
    assert found.contents.tolist() == [1, 2]
    of_images = rank("egret", *rows)
    assert of_images.items.tolist() == [1, 2]
    assert of_images.regions.tolist()[1] == 8


def test_the_line_with_most_words_is_that_of_a_photograph_whose_text_has_them_all() -> None:
    rows = [
        *((0, TEXT, 1, 11), (1, TEXT, 1, 12), (2, SIMILAR_TEXT, 1, 12), (0, TEXT, 2, 21)),
        *((1, TEXT, 2, 21), (2, TITLE, 2, 0), (0, TEXT, 3, 32), (1, TEXT, 3, 32)),
        *((2, TEXT, 3, 32), (0, TEXT, 3, 31), (1, TEXT, 3, 31), (2, TEXT, 3, 31)),
    ]
    found = rank("fresh bread daily", *rows)
    # Two lines together; a word that only the title has; two equal lines.
    lines = dict(zip(found.items.tolist(), found.lines.tolist(), strict=True))
    assert lines == {1: 12, 2: 0, 3: 31}
    assert not rank("fresh bread daily", *rows, target=Target.REGION).lines.any()


def test_the_region_of_a_hit_is_the_line_that_has_the_words() -> None:
    home = HomeWithWords(6)
    content = home.add_content(regions=4)
    nearest = {
        text: search_without_words(home, text, Target.IMAGE)[0].region
        for text in ("stop", "stop sign")
    }
    line = max(set(home.region) - {region.id for region in nearest.values() if region})
    home.texts[content] = [(TEXT, "stop here", line)]
    (hit,) = search(home, "stop").hits
    assert hit.region == home.region[line]
    # A sign may be looked for that has no other word.
    (hit,) = search(home, "stop sign").hits
    assert hit.region == nearest["stop sign"]


def made_home(seed: int, contents: int) -> HomeWithWords:
    home = HomeWithWords(seed)
    rng = np.random.default_rng(seed)
    for _ in range(contents):
        content = home.add_content(regions=int(rng.integers(0, 3)))
        regions = [n for n, region in home.region.items() if region.content_id == content]
        texts = [(TITLE, " ".join(rng.choice(["red", "bus", "sea", "sun"], 2)), 0)]
        if regions and rng.random() < 0.5:
            texts.append((REGION_CAPTION, str(rng.choice(["red", "boat"])), regions[0]))
        if rng.random() < 0.7:
            home.texts[content] = texts
    # Found by words alone: the vector indexes do not know it.
    home.texts[home.add_content()] = [(TAG, "red", 0)]
    del home.rows[IMAGE][max(home.rows[IMAGE])]
    return home


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    contents=st.integers(1, 50),
    depth=st.integers(1, 12),
    target=st.sampled_from(list(Target)),
    limits=st.lists(st.integers(1, 25), min_size=1, max_size=4),
    text=st.sampled_from(["red", "red bus", "boat on the sea", "nothing known"]),
)
def test_pages_are_parts_of_one_answer(
    seed: int, contents: int, depth: int, target: Target, limits: list[int], text: str
) -> None:
    home = made_home(seed, contents)
    engine = engine_over(home)
    with pytest.MonkeyPatch.context() as patch:
        # So shallow that most words stand beyond the first level.
        patch.setattr(fusion, "DEPTH", depth)
        whole = list(engine.search(TextQuery(text), Scope(target, 10**6)).hits)
        paged: list[Hit] = []
        for turn in range(10**6):
            scope = Scope(target, limits[turn % len(limits)], offset=len(paged))
            page = engine.search(TextQuery(text), scope).hits
            paged += page
            if len(page) < scope.limit:
                break
    assert paged == whole
    scores = [hit.score for hit in whole]
    assert scores == sorted(scores, reverse=True)
    # Words never cost a hit, nor make two of one.
    without = search_without_words(home, text, target)
    shown = {(hit.asset.id, hit.region and hit.region.id) for hit in whole}
    if target is Target.REGION:
        assert shown == {(hit.asset.id, hit.region and hit.region.id) for hit in without}
    else:
        assert {asset for asset, _ in shown} >= {hit.asset.id for hit in without}
        assert len({asset for asset, _ in shown}) == len(whole)
    for hit in whole:
        parts = [match.contribution for match in hit.channels]
        assert math.fsum(parts) == pytest.approx(hit.score)
        assert min(parts) >= 0


def search_without_words(home: HomeWithWords, text: str, target: Target) -> Sequence[Hit]:
    engine = SearchEngine(home, home, home)  # type: ignore[arg-type]
    return engine.search(TextQuery(text), Scope(target, 10**6)).hits


@pytest.mark.parametrize("target", list(Target))
@pytest.mark.parametrize("text", ["xyzzy", "the", "?!"])
def test_a_text_without_known_words_leaves_the_answer_as_it_was(text: str, target: Target) -> None:
    home = made_home(3, 30)
    assert search(home, text, target).hits == search_without_words(home, text, target)


def test_what_has_the_words_comes_first_and_says_so() -> None:
    home = made_home(4, 30)
    wanted = home.add_content()
    home.texts[wanted] = [(TITLE, "great egret", 0)]
    hit = search(home, "a great Egret").hits[0]
    assert hit.asset.content_id == wanted
    match = by_words(hit)
    assert match is not None
    assert match.rank == 1
    assert [(word.text, word.field) for word in match.words] == [
        ("great", WordField.TITLE), ("egret", WordField.TITLE),
    ]  # fmt: skip
    assert sum(match.contribution for match in hit.channels) == pytest.approx(hit.score)
    assert by_words(search(home, "a great Egret").hits[-1]) is None


def test_what_only_words_find_is_found() -> None:
    home = made_home(5, 10)
    lost = home.contents
    hits = {hit.asset.content_id: hit for hit in search(home, "red").hits}
    assert [match.kind for match in hits[lost].channels] == ["keyword"]
    assert lost not in {hit.asset.content_id for hit in search(home, "nothing known").hits}


def test_of_terms_only_wanted_texts_ask_for_words() -> None:
    home = made_home(6, 20)
    picture = LikeQuery(Reference(1, False))
    terms = (
        Term(TextQuery("red bus"), 1.0),
        Term(TextQuery("on the sea", phrase=True), 0.5),
        Term(TextQuery("sun"), 0.3, negative=True),
        Term(picture, 0.5),
    )
    found = search(home, ComposedQuery(terms))
    (asked,) = home.asked.pop()
    assert asked == [
        Words(("red",)), Words(("bus",)), Words(("on", "the", "sea"), exact=True),
        Words(("red", "bus"), exact=True, whole=True),
        Words(("on", "the", "sea"), exact=True, whole=True),
    ]  # fmt: skip
    # The picture's share of the weight is not the words'.
    most = max(match.contribution for hit in found.hits if (match := by_words(hit)))
    alone = search(home, ComposedQuery(terms[:3]))
    most_alone = max(match.contribution for hit in alone.hits if (match := by_words(hit)))
    assert most == pytest.approx(most_alone * 1.5 / 2.0)
    home.asked.clear()
    search(home, picture)
    search(home, ComposedQuery((Term(picture), Term(TextQuery("red"), negative=True))))
    assert home.asked == []


def test_a_term_counts_by_its_weight() -> None:
    home = HomeWithWords(7)
    for content in range(1, 31):
        home.add_content()
        home.texts[content] = [(TITLE, "bus" if content <= 3 else "x", 0)]
    home.texts[30] = [(TITLE, "boat", 0)]
    heavy, light = Term(TextQuery("bus"), 2.0), Term(TextQuery("boat"), 0.2)

    def points(*terms: Term) -> dict[int, float]:
        hits = search(home, ComposedQuery(terms)).hits
        return {hit.asset.content_id: m.score for hit in hits if (m := by_words(hit)) is not None}

    found = points(heavy, light)
    assert set(found) == {1, 2, 3, 30}
    # Rarer, but asked for with a tenth of the weight.
    assert found[30] < found[1]
    assert points(light, heavy) == pytest.approx(found)


def test_texts_of_a_batch_keep_their_own_words() -> None:
    home = made_home(8, 20)
    texts = ["red", "nothing known", "?!", "sea sun"]
    together = engine_over(home).search_texts([TextQuery(text) for text in texts], Scope(limit=9))
    assert [len(words) for words in home.asked.pop()] == [2, 3, 0, 3]
    for text, answer in zip(texts, together, strict=True):
        alone = search(home, text, limit=9)
        assert [hit.asset for hit in answer.hits] == [hit.asset for hit in alone.hits]
        found, expected = (
            [(match.rank, match.words) for hit in hits if (match := by_words(hit))]
            for hits in (answer.hits, alone.hits)
        )
        assert found == expected


def test_a_route_without_words_asks_for_none() -> None:
    home = made_home(9, 10)
    routes = {
        key: tuple(w for w in routed if w.channel.kind is not Kind.KEYWORD)
        for key, routed in home.routes.items()
    }
    engine = SearchEngine(home, home, home, routes, keywords=home)  # type: ignore[arg-type]
    answer = engine.search(TextQuery("red"), Scope(limit=10**6))
    assert home.asked == []
    assert answer.hits == search_without_words(home, "red", Target.IMAGE)
