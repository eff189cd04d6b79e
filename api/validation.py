"""Says in plain words what Pydantic refuses of a request.

Pydantic's own sentences name its types and validators, and give one error for each type that a
value could have had.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

_MUST_BE, _REQUIRED = "it must be ", "it is required"
_SENTENCES = {
    **dict.fromkeys(
        ("int_type", "int_parsing", "int_parsing_size", "int_from_float"), f"{_MUST_BE}an integer"
    ),
    **dict.fromkeys(("float_type", "float_parsing"), f"{_MUST_BE}a number"),
    "finite_number": f"{_MUST_BE}a finite number",
    **dict.fromkeys(("bool_type", "bool_parsing"), f"{_MUST_BE}true or false"),
    "string_type": f"{_MUST_BE}a string",
    **dict.fromkeys(("list_type", "tuple_type"), f"{_MUST_BE}an array"),
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), f"{_MUST_BE}an object"),
    **dict.fromkeys(("missing", "missing_argument", "union_tag_not_found"), _REQUIRED),
    **dict.fromkeys(("extra_forbidden", "unexpected_keyword_argument"), "there is no such field"),
}
_BOUNDS = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


def refused_values(
    items: Sequence[Mapping[str, Any]], given: object = None
) -> list[tuple[str, str]]:
    """The path of each refused value, such as `body.limit`, and a sentence about it.

    `items` are Pydantic's errors, `given` is the object that their locations lead through. Without
    it, the paths may contain names of types.
    """
    sentences: dict[str, list[str]] = {}
    for item in items:
        path, sentence = [*item["loc"]], _sentence(item)
        if path[-1:] == ["[key]"]:
            # The location of a refused name ends with it.
            path, sentence = path[:-2], sentence.replace("it ", "a name in it ", 1)
        elif item["type"].startswith("union_tag_"):
            path.append(item["ctx"]["discriminator"].strip("'"))
        if given is not None:
            path = _steps(path, given, may_end_beyond=sentence == _REQUIRED)
        where = ".".join(map(str, path))
        sentences.setdefault(where, []).append(sentence)
    return [(where, _either(list(dict.fromkeys(several)))) for where, several in sentences.items()]


def _sentence(item: Mapping[str, Any]) -> str:
    kind, context, value = item["type"], item.get("ctx", {}), item.get("input")
    unit = "characters" if isinstance(value, str) else "items"
    sentence = str(item["msg"]).removeprefix("Value error, ")
    if kind in _SENTENCES:
        sentence = _SENTENCES[kind]
    elif kind in _BOUNDS and _is_nan(value):
        sentence = f"{_MUST_BE}a number"
    elif kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        sentence = f"{_MUST_BE}{words} {_shown(context[name])}"
    elif kind in {"literal_error", "enum"}:
        sentence = f"{_MUST_BE}{context['expected']}"
    elif kind == "union_tag_invalid":
        sentence = f"{_MUST_BE}one of {context['expected_tags']}"
    elif kind in {"string_too_short", "too_short"}:
        least = context["min_length"]
        sentence = "it must not be empty" if least == 1 else f"it needs at least {least} {unit}"
    elif kind in {"string_too_long", "too_long"}:
        sentence = f"it may have at most {context['max_length']:,} {unit}"
    return sentence


def _shown(bound: float) -> str:
    return f"{int(bound) if bound == int(bound) else bound:,}"


def _is_nan(value: object) -> bool:
    try:
        return isinstance(value, float | str) and math.isnan(float(value))
    except ValueError:
        return False


def _steps(path: Sequence[Any], given: object, *, may_end_beyond: bool) -> list[Any]:
    """The path without the names of types, which lead nowhere in what was given.

    `may_end_beyond` says that the last step is a field that is missing.
    """
    steps = []
    for place, step in enumerate(path):
        is_missing = may_end_beyond and place == len(path) - 1
        if isinstance(given, dict) and (step in given or is_missing):
            given = given.get(step)
        elif isinstance(given, list | tuple) and isinstance(step, int):
            given = given[step] if step < len(given) else None
        else:
            continue
        steps.append(step)
    return steps


def _either(sentences: list[str]) -> str:
    """One sentence about a value that is of none of several types."""
    kinds = [one.removeprefix(_MUST_BE) for one in sentences if one.startswith(_MUST_BE)]
    if "a number" in kinds and "an integer" in kinds:
        kinds.remove("an integer")
    if len(kinds) < 2 or len(kinds) < len(sentences) - 1:
        return "; ".join(sentences)
    return f"{_MUST_BE}{', '.join(kinds[:-1])}, or {kinds[-1]}"
