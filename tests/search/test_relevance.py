"""Relevance of each form of query: which evidence counts, and what counts as a match."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regard.core.errors import UsageError
from regard.core.geometry import Box
from regard.core.records import Float32Array, Image, QueryKind, Routes, Target, WeightedChannel
from regard.core.relevance import (
    Calibration,
    Calibrations,
    CurrentCalibrations,
    Form,
    LogisticModel,
    RelevanceSource,
)
from regard.search.answers import (
    Answer,
    ComposedQuery,
    ImageQuery,
    LikeQuery,
    Query,
    Reference,
    Scope,
    Term,
    TextQuery,
)
from regard.search.engine import SearchEngine
from regard.search.relevance import concentration, form_of
from tests.search.memory_home import IMAGE, REGION, MemoryHome, unit

PICTURE = Image(np.zeros((10, 20, 3), np.uint8))
RED, ROUND = TextQuery("red"), TextQuery("round")
ONE = LikeQuery(Reference(1, is_region=False))
CUT = LikeQuery(Reference(1, is_region=True))
HIT = LogisticModel({"precedence": 0.5}, 0.3)


TEXT_HIT = LogisticModel(
    {"image.cosine": 2.0, "lead": 1.0, "precedence": 0.2, "concentration": 0.1}, -1
)
PRESENCE = LogisticModel({"image.best": 4.0, "region.best": 1.0}, -2.5)
CALIBRATION = Calibration(frozenset({"s"}), TEXT_HIT, PRESENCE, 0.5)


def composed(*terms: Term) -> ComposedQuery:
    return ComposedQuery(terms)


SEVERAL = composed(Term(RED), Term(ROUND, 0.5), Term(TextQuery("night"), negative=True))
MIXED = composed(Term(RED), Term(ONE, 2.0))
FORMS: Sequence[tuple[Query, Form]] = [
    (RED, Form.TEXT),
    (ImageQuery(PICTURE, "p"), Form.IMAGE),
    (ImageQuery(PICTURE, "p", Box(0, 0, 5, 5)), Form.REGION),
    (ONE, Form.IMAGE),
    (CUT, Form.REGION),
    (SEVERAL, Form.TEXTS),
    (MIXED, Form.MIXED),
    (composed(Term(RED, 2.0)), Form.TEXT),
]


class Home(MemoryHome):
    """One that finds photographs by their regions, too."""

    @property
    def routes(self) -> Routes:
        return {**super().routes, (QueryKind.REGION, Target.IMAGE): (WeightedChannel(REGION),)}


def home_of(contents: int, assets: int = 1) -> MemoryHome:
    home = Home()
    for _ in range(contents):
        home.add_content(regions=2, assets=assets)
    return home


def engine_with(home: MemoryHome, calibrations: Calibrations) -> SearchEngine:
    current = CurrentCalibrations(RelevanceSource.PROFILE, lambda: calibrations)
    return SearchEngine(home, home, home, calibrations=current)  # type: ignore[arg-type]


def engine_of(home: MemoryHome, form: Form, presence: LogisticModel, cut: float) -> SearchEngine:
    calibration = Calibration(frozenset({"s"}), HIT, presence, cut)
    calibrations = {(form, target): calibration for target in Target}
    return engine_with(home, calibrations)


def cosines(home: MemoryHome, vector: Float32Array) -> dict[int, float]:
    """The cosine of each content's image with a vector."""
    rows = home.rows[IMAGE]
    return {home.owner[number][0]: float(row @ vector) for number, row in rows.items()}


def sixth_to_tenth(values: Sequence[float]) -> float:
    """What a channel's best have to stand out from."""
    return float(np.mean(sorted(values, reverse=True)[5:10]))


@pytest.mark.parametrize(("query", "form"), FORMS)
def test_every_query_is_judged_by_the_calibration_of_its_form(query: Query, form: Form) -> None:
    home = home_of(30)
    terms = query.terms if isinstance(query, ComposedQuery) else (Term(query),)  # type: ignore[arg-type]
    assert form_of(terms) is form
    for cut, matched in ((0.4, True), (0.6, False)):
        presence = LogisticModel({}, 0.0)
        answer = engine_of(home, form, presence, cut).search(query, Scope())
        assert answer.judgement is not None
        assert answer.judgement.presence == 0.5
        assert answer.matched is matched
        assert len(answer.hits) == 10
        assert None not in [hit.relevance for hit in answer.hits]
        sure = engine_of(home, form, presence, cut).search(query, Scope(min_relevance=0.2))
        assert sure.matched
        none = engine_of(home, form, presence, cut).search(query, Scope(min_relevance=0.99))
        assert not none.matched
    # Another form's calibration says nothing of it.
    other = Form.TEXT if form is not Form.TEXT else Form.IMAGE
    answer = engine_of(home, other, LogisticModel({}, 0.0), 0.6).search(query, Scope())
    assert {hit.relevance for hit in answer.hits} == {None}
    assert answer.matched


@pytest.mark.parametrize(("query", "form"), FORMS)
def test_relevance_depends_on_neither_limit_nor_page(query: Query, form: Form) -> None:
    # More than the first level holds, so that a deep read goes further than a shallow one.
    engine = engine_of(home_of(260), form, LogisticModel({}, 0.0), 0.4)

    def told(answer: Answer) -> list[tuple[int, object]]:
        return [(hit.asset.id, hit.evidence) for hit in answer.hits]

    whole = engine.search(query, Scope(limit=250))
    for limit, offset in ((1, 0), (7, 3), (20, 225)):
        part = engine.search(query, Scope(limit=limit, offset=offset))
        assert told(part) == told(whole)[offset : offset + limit]
        assert part.judgement == whole.judgement


def test_the_photograph_that_looks_for_its_like_is_no_evidence_of_any() -> None:
    home = home_of(30)
    own = next(row for row in home.rows[IMAGE].values())
    others = sorted((c for owner, c in cosines(home, own).items() if owner != 1), reverse=True)
    answer = engine_of(home, Form.IMAGE, LogisticModel({}, 0.0), 0.4).search(ONE, Scope())
    assert answer.judgement is not None
    assert answer.judgement.evidence["image.best"] == pytest.approx(others[0])
    behind = np.mean(others[5:10])
    assert answer.judgement.evidence["image.prominence"] == pytest.approx(others[0] - behind)
    for rank, hit in enumerate(answer.hits, 1):
        assert hit.evidence is not None
        assert hit.evidence["image.cosine"] == pytest.approx(others[rank - 1])
        assert hit.evidence["precedence"] == pytest.approx(-np.log(rank))
        lead = others[rank - 1] - others[1 if rank == 1 else 0]
        assert hit.evidence["image.lead"] == pytest.approx(lead, abs=1e-6)


def test_a_copy_at_another_path_is_what_was_looked_for() -> None:
    presence = LogisticModel({"image.best": 100.0}, -95.0)
    alone = engine_of(home_of(30), Form.IMAGE, presence, 0.5).search(ONE, Scope())
    assert not alone.matched
    copied = engine_of(home_of(30, assets=2), Form.IMAGE, presence, 0.5).search(ONE, Scope())
    assert copied.hits[0].asset.content_id == 1
    assert copied.matched


def test_regions_of_the_same_photograph_take_no_rank_from_others() -> None:
    home = home_of(30)
    answer = engine_of(home, Form.REGION, LogisticModel({}, 0.0), 0.4).search(
        CUT, Scope(Target.REGION, 59)
    )
    others = [hit for hit in answer.hits if hit.asset.content_id != 1]
    assert len(others) == 58
    for rank, hit in enumerate(others, 1):
        assert hit.evidence is not None
        assert hit.evidence["precedence"] == pytest.approx(-np.log(rank))
    best = others[0].channels[0].score
    assert answer.judgement is not None
    assert answer.judgement.evidence["region.best"] == pytest.approx(best)


def test_a_hit_of_several_texts_is_worth_what_it_is_to_the_text_that_it_suits_least() -> None:
    home = home_of(30)
    each = [cosines(home, unit(np.random.default_rng(list(text.encode()))))
            for text in ("red", "round", "night")]  # fmt: skip
    above = [
        {owner: cosine - sixth_to_tenth([*of_text.values()]) for owner, cosine in of_text.items()}
        for of_text in each
    ]
    answer = engine_of(home, Form.TEXTS, LogisticModel({}, 0.0), 0.4).search(SEVERAL, Scope())
    for hit in answer.hits:
        content = hit.asset.content_id
        assert hit.evidence is not None
        least = min(above[0][content], above[1][content])
        assert hit.evidence["image.least"] == pytest.approx(least, abs=1e-6)
        assert hit.evidence["image.spared"] == pytest.approx(-above[2][content], abs=1e-6)
        assert hit.evidence["unwanted"] == pytest.approx(1 / 2.5)
    without = composed(*SEVERAL.terms[:2])
    answer = engine_of(home, Form.TEXTS, LogisticModel({}, 0.0), 0.4).search(without, Scope())
    assert {(hit.evidence or {})["image.spared"] for hit in answer.hits} == {0.0}


def test_a_region_is_one_thing_that_all_texts_are_about() -> None:
    engine = engine_of(home_of(30), Form.TEXTS, LogisticModel({}, 0.0), 0.4)
    answer = engine.search(SEVERAL, Scope(Target.REGION, 60))
    scores = [hit.channels[0].score for hit in answer.hits]
    behind = sixth_to_tenth(scores)
    for hit, score in zip(answer.hits, scores, strict=True):
        assert hit.evidence is not None
        assert hit.evidence["region.cosine"] == pytest.approx(score)
        assert hit.evidence["region.prominence"] == pytest.approx(score - behind, abs=1e-6)
        assert "region.least" not in hit.evidence


def text_engine(home: MemoryHome, calibration: Calibration = CALIBRATION) -> SearchEngine:
    calibrations = {(Form.TEXT, Target.IMAGE): calibration}
    return engine_with(home, calibrations)


def relevances(answer: Answer) -> list[tuple[int, float | None]]:
    return [(hit.asset.id, hit.relevance) for hit in answer.hits]


def test_evidence_is_what_the_answer_shows() -> None:
    home = home_of(30)
    answer = text_engine(home).search(TextQuery("red"), Scope(limit=30))
    top = answer.hits[0].score
    for hit in answer.hits:
        evidence = hit.evidence
        assert evidence is not None
        for match in hit.channels:
            assert evidence[f"{match.kind}.cosine"] == pytest.approx(match.score)
        other = answer.hits[1].score if hit.rank == 1 else top
        assert evidence["lead"] == pytest.approx((hit.score - other) / top)
        assert evidence["precedence"] == pytest.approx(-np.log(hit.rank))
        assert hit.relevance == TEXT_HIT.probability(evidence)
    assert answer.judgement is not None
    cosines = [match.score for hit in answer.hits for match in hit.channels[:1]]
    assert answer.judgement.evidence["image.best"] == pytest.approx(max(cosines))
    assert answer.judgement.presence == PRESENCE.probability(answer.judgement.evidence)


def test_an_answer_matches_from_the_cut_off_or_the_given_relevance_on() -> None:
    home = home_of(30)
    found = text_engine(home).search(TextQuery("red"), Scope(min_relevance=0.0))
    assert found.judgement is not None
    presence, best = found.judgement.presence, found.judgement.best_relevance
    assert presence is not None
    assert best == max(hit.relevance or 0 for hit in found.hits)
    for cut_off, matched in ((presence - 0.01, True), (presence + 0.01, False)):
        engine = text_engine(home, replace(CALIBRATION, cut_off=cut_off))
        answer = engine.search(TextQuery("red"), Scope())
        assert answer.matched is matched
        # Hits stay, whatever they are worth.
        assert relevances(answer) == relevances(found)
        for wanted, enough in ((best - 0.001, True), (best + 0.001, False), (0.0, True)):
            given_one = engine.search(TextQuery("red"), Scope(min_relevance=wanted))
            assert given_one.matched is enough
    with pytest.raises(UsageError):
        Scope(min_relevance=float("nan"))


@pytest.mark.parametrize(("relevance", "matched"), [(0.79, False), (0.81, True)])
def test_an_answer_with_a_sure_hit_matches_below_the_cut_off(
    relevance: float, matched: bool
) -> None:
    hit = LogisticModel({}, float(np.log(relevance / (1 - relevance))))
    engine = text_engine(home_of(3), replace(CALIBRATION, hit=hit, cut_off=1.0))
    answer = engine.search(TextQuery("red"), Scope())
    assert [hit.relevance for hit in answer.hits] == pytest.approx([relevance] * 3)
    assert answer.matched is matched
    # What the call asks for decides instead.
    assert not engine.search(TextQuery("red"), Scope(min_relevance=0.82)).matched


@pytest.mark.parametrize(("contents", "leads"), [(9, False), (10, True)])
def test_among_a_few_hits_none_leads(contents: int, leads: bool) -> None:
    answer = text_engine(home_of(contents)).search(TextQuery("red"), Scope())
    evidence = answer.hits[0].evidence
    assert evidence is not None
    assert (evidence["lead"] != 0) is leads


def test_where_nothing_was_calibrated_relevance_is_not_told() -> None:
    home = home_of(5)
    other_space = replace(CALIBRATION, spaces=frozenset({"another"}))
    for engine in (
        SearchEngine(home, home, home),  # type: ignore[arg-type]
        text_engine(home, other_space),
        text_engine(home, replace(CALIBRATION, hit=LogisticModel({"smell": 1.0}, 0), cut_off=0.0)),
    ):
        answer = engine.search(TextQuery("red"), Scope(min_relevance=0.9))
        assert [hit.relevance for hit in answer.hits] == [None] * 5
        assert answer.matched
    answer = text_engine(home).search(TextQuery("red"), Scope(Target.REGION))
    assert {hit.relevance for hit in answer.hits} == {None}


def test_nothing_matches_where_there_is_nothing() -> None:
    answer = text_engine(MemoryHome()).search(TextQuery("red"), Scope())
    assert (answer.hits, answer.matched) == ((), False)


@given(st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=30), st.floats(0.01, 100))
def test_concentration_knows_neither_scale_sign_nor_order(
    components: list[float], scale: float
) -> None:
    vector = np.asarray(components, np.float32)
    value = concentration(vector)
    assert 0 <= value + 1e-9 < 1
    assert concentration(-vector[::-1]) == pytest.approx(value, abs=1e-6)
    if np.abs(vector).max() > 1e-3:
        assert concentration(vector * np.float32(scale)) == pytest.approx(value, abs=1e-4)


def test_concentration_is_that_of_the_definition() -> None:
    vector = np.random.default_rng(0).standard_normal(40).astype(np.float32)
    size = np.abs(vector.astype(np.float64))
    differences = np.abs(size[:, None] - size[None]).sum()
    assert concentration(vector) == pytest.approx(differences / (2 * len(size) * size.sum()))
    assert concentration(np.zeros(4, np.float32)) == 0
