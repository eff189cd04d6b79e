"""Relevance by evidence that depends on neither limit nor page, and what counts as a match; of
texts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regard.core.errors import UsageError
from regard.core.records import Target
from regard.core.relevance import Calibration, Form, LogisticModel
from regard.search.answers import Answer, Scope, TextQuery
from regard.search.engine import SearchEngine
from regard.search.relevance import concentration
from tests.search.memory_home import MemoryHome

HIT = LogisticModel({"image.cosine": 2.0, "lead": 1.0, "precedence": 0.2, "concentration": 0.1}, -1)
PRESENCE = LogisticModel({"image.best": 4.0, "region.best": 1.0}, -2.5)
CALIBRATION = Calibration(frozenset({"s"}), HIT, PRESENCE, 0.5)


def home_of(contents: int) -> MemoryHome:
    home = MemoryHome()
    for _ in range(contents):
        home.add_content(regions=2)
    return home


def engine_of(home: MemoryHome, calibration: Calibration = CALIBRATION) -> SearchEngine:
    calibrations = {(Form.TEXT, Target.IMAGE): calibration}
    return SearchEngine(home, home, home, calibrations=calibrations)  # type: ignore[arg-type]


def relevances(answer: Answer) -> list[tuple[int, float | None]]:
    return [(hit.asset.id, hit.relevance) for hit in answer.hits]


def test_relevance_depends_on_neither_limit_nor_page() -> None:
    # More than the first level holds, so that a deep read goes further than a shallow one.
    engine = engine_of(home_of(420))
    query = TextQuery("red")
    whole = engine.search(query, Scope(limit=420, min_relevance=0.5))
    assert None not in [hit.relevance for hit in whole.hits]
    for limit, offset in ((1, 0), (7, 0), (10, 10), (20, 395)):
        part = engine.search(query, Scope(limit=limit, offset=offset, min_relevance=0.5))
        assert relevances(part) == relevances(whole)[offset : offset + limit]
        assert part.judgement == whole.judgement


def test_evidence_is_what_the_answer_shows() -> None:
    home = home_of(30)
    answer = engine_of(home).search(TextQuery("red"), Scope(limit=30))
    top = answer.hits[0].score
    for hit in answer.hits:
        evidence = hit.evidence
        assert evidence is not None
        for match in hit.channels:
            assert evidence[f"{match.channel.kind}.cosine"] == pytest.approx(match.score)
        other = answer.hits[1].score if hit.rank == 1 else top
        assert evidence["lead"] == pytest.approx((hit.score - other) / top)
        assert evidence["precedence"] == pytest.approx(-np.log(hit.rank))
        assert hit.relevance == HIT.probability(evidence)
    assert answer.judgement is not None
    cosines = [match.score for hit in answer.hits for match in hit.channels[:1]]
    assert answer.judgement.evidence["image.best"] == pytest.approx(max(cosines))
    assert answer.judgement.presence == PRESENCE.probability(answer.judgement.evidence)


def test_an_answer_matches_from_the_cut_off_or_the_given_relevance_on() -> None:
    home = home_of(30)
    found = engine_of(home).search(TextQuery("red"), Scope(min_relevance=0.0))
    assert found.judgement is not None
    presence, best = found.judgement.presence, found.judgement.best_relevance
    assert presence is not None
    assert best == max(hit.relevance or 0 for hit in found.hits)
    for cut_off, matched in ((presence - 0.01, True), (presence + 0.01, False)):
        engine = engine_of(home, replace(CALIBRATION, cut_off=cut_off))
        answer = engine.search(TextQuery("red"), Scope())
        assert answer.matched is matched
        # Hits stay, whatever they are worth.
        assert relevances(answer) == relevances(found)
        for wanted, enough in ((best - 0.001, True), (best + 0.001, False), (0.0, True)):
            given_one = engine.search(TextQuery("red"), Scope(min_relevance=wanted))
            assert given_one.matched is enough
    with pytest.raises(UsageError):
        Scope(min_relevance=float("nan"))


def test_where_nothing_was_calibrated_relevance_is_not_told() -> None:
    home = home_of(5)
    other_space = replace(CALIBRATION, spaces=frozenset({"another"}))
    for engine in (
        SearchEngine(home, home, home),  # type: ignore[arg-type]
        engine_of(home, other_space),
        engine_of(home, replace(CALIBRATION, hit=LogisticModel({"smell": 1.0}, 0), cut_off=0.0)),
    ):
        answer = engine.search(TextQuery("red"), Scope(min_relevance=0.9))
        assert [hit.relevance for hit in answer.hits] == [None] * 5
        assert answer.matched
    answer = engine_of(home).search(TextQuery("red"), Scope(Target.REGION))
    assert {hit.relevance for hit in answer.hits} == {None}


def test_nothing_matches_where_there_is_nothing() -> None:
    answer = engine_of(MemoryHome()).search(TextQuery("red"), Scope())
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
