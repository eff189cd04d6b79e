"""What is asked to calibrate each form of query, and what is right for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from regard.core.geometry import Box
from regard.core.records import QueryKind, Target
from regard.core.relevance import Form
from regard.evaluation.labels import LabelledImage, LabelledObject, LabelledSet
from regard.evaluation.relevance_queries import LabelledQuery, fold, labelled_queries
from regard.evaluation.retrieval import Answer

PLACES = {"a red cup": Box(0, 0, 10, 10), "a dog": Box(20, 0, 10, 10), "a tree": Box(0, 20, 9, 9)}
SHOWN = {
    "1.jpg": ["a red cup"],
    "2.jpg": ["a dog", "a red cup"],
    "3.jpg": ["a dog"],
    "4.jpg": ["a dog", "a red cup", "a tree"],
    "5.jpg": [],
}
LABELS = LabelledSet(
    Path("/labels"),
    tuple(
        LabelledImage(
            name, 40, 40, tuple(texts), tuple(LabelledObject(t, PLACES[t], None) for t in texts)
        )
        for name, texts in SHOWN.items()
    ),
)
ABSENT = ["a ship", "a comb", "a key"]


def queries(form: Form, target: Target = Target.IMAGE) -> list[LabelledQuery]:
    return labelled_queries(LABELS, form, target, ABSENT)


def test_a_picture_is_right_where_one_of_its_objects_is_shown_again() -> None:
    found = {query.terms[0].file_name: query for query in queries(Form.IMAGE)}
    assert set(found) == {"1.jpg", "2.jpg", "3.jpg", "4.jpg"}
    assert set(found["1.jpg"].right) == {"2.jpg", "4.jpg"}
    assert set(found["2.jpg"].right) == {"1.jpg", "3.jpg", "4.jpg"}
    assert found["2.jpg"].folds == {fold("a dog"), fold("a red cup")}
    assert found["2.jpg"].own == {"2.jpg"}
    # Whatever region made it match.
    assert found["2.jpg"].is_right(Answer("1.jpg", Box(30, 30, 2, 2)))
    assert not found["2.jpg"].is_right(Answer("5.jpg"))


def test_a_box_is_right_where_its_object_is() -> None:
    found = {(q.terms[0].file_name, q.terms[0].box): q for q in queries(Form.REGION, Target.REGION)}
    assert len(found) == 7
    query = found["3.jpg", PLACES["a dog"]]
    assert set(query.right) == {"2.jpg", "4.jpg"}
    assert query.is_right(Answer("2.jpg", Box(20, 0, 10, 9)))
    assert not query.is_right(Answer("2.jpg", PLACES["a red cup"]))
    assert not query.is_right(Answer("1.jpg", PLACES["a dog"]))
    # Nothing else shows a tree: it is asked, and nothing is right.
    assert found["4.jpg", PLACES["a tree"]].right == {}


@pytest.mark.parametrize("target", list(Target))
@pytest.mark.parametrize("form", [Form.TEXTS, Form.MIXED])
def test_of_several_terms_all_that_are_wanted_and_none_that_is_not(
    form: Form, target: Target
) -> None:
    asked = queries(form, target)
    whole = [query for query in asked if all(t.text in PLACES for t in query.terms if t.text)]
    assert any(term.negative for query in whole for term in query.terms)
    for query in whole:
        for name, texts in SHOWN.items():
            holds = name not in query.own
            for term in query.terms:
                if term.text:
                    about = {term.text}
                elif term.box is None:
                    about = set(SHOWN[term.file_name])
                else:
                    about = {text for text, box in PLACES.items() if box == term.box}
                if target is Target.IMAGE:
                    holds &= bool(about & set(texts)) is not term.negative
            if target is Target.IMAGE:
                assert (name in query.right) is holds, (name, query)
            else:
                assert holds or name not in query.right
    kinds = {tuple(term.kind for term in query.terms) for query in asked}
    if form is Form.TEXTS:
        assert kinds == {(QueryKind.TEXT, QueryKind.TEXT)}
    else:
        assert (QueryKind.IMAGE, QueryKind.TEXT) in kinds
        assert (QueryKind.REGION, QueryKind.REGION) in kinds


def test_an_object_is_asked_for_by_parts_of_its_text() -> None:
    halves = [
        query
        for query in queries(Form.TEXTS, Target.REGION)
        if [term.text for term in query.terms] == ["a", "red cup"]
    ]
    assert [query.folds for query in halves] == [{fold("a red cup")}]
    assert set(halves[0].right) == {"1.jpg", "2.jpg", "4.jpg"}


def test_nothing_is_right_for_what_is_absent_and_nothing_is_fitted_to_it() -> None:
    for form in (Form.TEXT, Form.TEXTS, Form.MIXED):
        absent = [q for q in queries(form) if {t.text for t in q.terms} & set(ABSENT)]
        assert absent
        assert all(query.right == {} for query in absent)


def test_the_same_labels_give_the_same_queries() -> None:
    for form in Form:
        assert queries(form) == queries(form)
    # Texts that end alike are one thing: models are measured on none like those that they saw.
    assert fold("A green pepper.") == fold("the yellow PEPPER")
