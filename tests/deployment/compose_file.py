"""Reads docker-compose.yml as Compose does: anchors and merges resolved, variables at their defaults."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")
Service = dict[str, Any]


@dataclass(frozen=True)
class ComposeFile:
    """The whole document, and the variables that it asks of the environment."""

    document: dict[str, Any]
    variables: frozenset[str]

    @property
    def services(self) -> dict[str, Service]:
        services: dict[str, Service] = self.document["services"]
        return services


def read_compose(file: Path) -> ComposeFile:
    """Raises AssertionError for a variable that has no default."""
    text = file.read_text()
    variables = _VARIABLE.findall(text)
    return ComposeFile(
        _with_defaults(yaml.safe_load(text)), frozenset(name for name, _ in variables)
    )


def strings(value: Any) -> Iterator[str]:
    """Every key and every value that is text, however deep."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield str(name)
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)
    elif isinstance(value, str):
        yield value


def _with_defaults(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _with_defaults(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_with_defaults(inner) for inner in value]
    return _VARIABLE.sub(_default, value) if isinstance(value, str) else value


def _default(match: re.Match[str]) -> str:
    assert match[2] is not None, f"${{{match[1]}}} has no default"
    return match[2]
