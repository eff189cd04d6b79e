"""`import regard` has every type that a library gives, and the documentation has every name."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL.Image import Image

import regard
from regard import Library, RegardError
from regard.core import errors

_DOCUMENTED = Path(__file__).resolve().parents[3] / "docs" / "python.md"
_PUBLIC = {name: getattr(regard, name) for name in regard.__all__}
_OPERATIONS = [
    operation
    for name, operation in inspect.getmembers(Library, inspect.isfunction)
    if not name.startswith("_")
]


def test_types_of_arguments_and_results_are_exported() -> None:
    types = {kind for operation in _OPERATIONS for kind in _types_of(operation)}
    waiting = set(types)
    while waiting:
        one = waiting.pop()
        if dataclasses.is_dataclass(one):
            more = set(_types_of(one)) - types
            types |= more
            waiting |= more
    assert {regard.Answer, regard.Finding, regard.Failure, regard.Mask} <= types
    assert not types - set(_PUBLIC.values())


def test_errors_that_operations_name_are_exported() -> None:
    named = {
        name
        for name, error in inspect.getmembers(errors, inspect.isclass)
        for operation in _OPERATIONS
        if issubclass(error, RegardError)
        and re.search(rf"\b{name}\b", inspect.getdoc(operation) or "")
    }
    assert "NameTaken" in named
    assert not named - _PUBLIC.keys()


def test_every_public_name_is_documented_once() -> None:
    documented = re.findall(r"^::: regard\.(\w+)$", _DOCUMENTED.read_text("utf-8"), re.MULTILINE)
    assert sorted(documented) == sorted(_PUBLIC.keys() - {"__version__"})


def _types_of(annotated: Any) -> Iterator[type]:
    """regard's classes in the annotations of a function, or of a class's fields."""
    hints = typing.get_type_hints(annotated, localns={**_PUBLIC, "Picture": Image})
    waiting = [hint for name, hint in hints.items() if not name.startswith("_")]
    while waiting:
        hint = waiting.pop()
        if isinstance(hint, list):  # the arguments of a Callable
            waiting += hint
        elif arguments := typing.get_args(hint):
            waiting += arguments
        elif isinstance(hint, type) and hint.__module__.partition(".")[0] == "regard":
            yield hint
