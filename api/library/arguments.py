"""Checks the arguments of the Library interface against its annotations.

What is of another type raises UsageError before anything is done, from every implementation alike.
Integers and numbers of numpy become Python's own; what is iterated becomes a tuple.
"""

from __future__ import annotations

import functools
import inspect
import numbers
import operator
import os
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import GenericAlias, NoneType, SimpleNamespace, UnionType
from typing import Any, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from regard.core.errors import UsageError

_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")

_WORDS: Mapping[object, str] = {
    str: "a string",
    bytes: "bytes",
    os.PathLike: "a path",
    int: "an integer",
    float: "a number",
    bool: "True or False",
    NoneType: "None",
    Sequence: "a list",
    Iterable: "a list",
}


class _Unfit(Exception):
    """A value is of none of the types."""


def checked(
    operation: Callable[_Given, _Result], declared: Callable[..., Any] | None = None
) -> Callable[_Given, _Result]:
    """The operation, whose arguments are checked as `declared`, or as itself, annotates them."""
    declared = declared or operation
    parameters = inspect.signature(declared).parameters
    signature = inspect.signature(operation)
    annotated = {
        name: one.annotation for name, one in parameters.items() if one.annotation is not one.empty
    }
    # Types of results alone are not imported at run time.
    namespace = SimpleNamespace(__annotations__=annotated)

    @functools.cache
    def types() -> dict[str, Any]:
        return get_type_hints(namespace, globalns=inspect.unwrap(declared).__globals__)

    @functools.wraps(operation)
    def call(*args: _Given.args, **kwargs: _Given.kwargs) -> _Result:
        given = signature.bind(*args, **kwargs)
        for name, kind in types().items():
            if name in given.arguments:
                is_several = parameters[name].kind is inspect.Parameter.VAR_POSITIONAL
                expected = GenericAlias(Iterable, (kind,)) if is_several else kind
                given.arguments[name] = _converted(name, given.arguments[name], expected)
        return operation(*given.args, **given.kwargs)

    return call


def _converted(name: str, value: Any, kind: Any) -> Any:
    """The value as of this type; raises UsageError."""
    kinds = get_args(kind) if get_origin(kind) in {Union, UnionType} else (kind,)
    for one in kinds:
        try:
            fit = _fit(value, one)
        except _Unfit:
            continue
        if get_origin(one) in {Sequence, Iterable}:
            return tuple(_converted(f"each of {name}", item, get_args(one)[0]) for item in fit)
        if any(get_origin(each) is os.PathLike for each in kinds) and _has_nul(fit):
            raise UsageError(f"{name} has a NUL character, which no path has")
        return fit
    words = list(dict.fromkeys(_WORDS.get(get_origin(one) or one) or _named(one) for one in kinds))
    either = " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))
    raise UsageError(f"{name} must be {either}, not {reprlib.repr(value)}")


def _fit(value: Any, kind: Any) -> Any:
    """The value as of a single type, without a look at the items of a list; raises _Unfit."""
    kind = get_origin(kind) or kind
    try:
        if kind is int and not isinstance(value, bool):
            return operator.index(value)
        if kind is float and isinstance(value, numbers.Real) and not isinstance(value, bool):
            return float(value)
        if kind in {Sequence, Iterable} and not isinstance(value, str | bytes | Mapping):
            return tuple(value)
    except (TypeError, OverflowError) as error:
        raise _Unfit from error
    if kind in {int, float, Sequence, Iterable} or not isinstance(value, kind):
        raise _Unfit
    return value


def _has_nul(path: str | bytes | os.PathLike[str] | None) -> bool:
    return path is not None and b"\0" in os.fsencode(path)


def _named(kind: type) -> str:
    article = "an" if kind.__name__[0] in "AEIOU" else "a"
    return f"{article} {kind.__name__}"
