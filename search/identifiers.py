"""The public ids of assets and regions, such as a12 and r92."""

from __future__ import annotations

import re
from dataclasses import dataclass

from regard.core.errors import UsageError

_FORM = re.compile(r"([ar])([1-9][0-9]{0,17})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Reference:
    """A stored asset, or with `is_region` a stored region."""

    id: int
    is_region: bool


def asset_identifier(number: int) -> str:
    """The public id of an asset."""
    return f"a{number}"


def region_identifier(number: int) -> str:
    """The public id of a region."""
    return f"r{number}"


def parse_identifier(text: str) -> Reference:
    """Parse a public id; raises UsageError."""
    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise UsageError(
            f"{text!r} is not the id of an asset or a region",
            remedy="take an id from the hits of: regard search --json",
        )
    return Reference(int(match.group(2)), match.group(1) == "r")
