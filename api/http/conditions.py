"""Conditional requests for files (RFC 9110, section 13)."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import format_datetime, parsedate_to_datetime
from typing import Annotated, Any

from fastapi import Depends, Header, Request

from regard.api.http.problems import Problem

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_TAG = re.compile(r'(?:W/)?"[^"]*"')


@dataclass(frozen=True, slots=True)
class FileVersion:
    """What identifies a file's state: its strong entity tag, and when it was modified."""

    tag: str
    modified: datetime.datetime | None = None

    @property
    def headers(self) -> dict[str, str]:
        """`ETag`, and `Last-Modified` if it is known and not in the future."""
        if self.modified is None:
            return {"ETag": self.tag}
        return {"ETag": self.tag, "Last-Modified": format_datetime(self.modified, usegmt=True)}


def _header(name: str, description: str) -> Any:
    return Header(alias=name, max_length=1000, description=description)


def modified_at(mtime_ns: int) -> datetime.datetime | None:
    """A file's time in whole seconds; None if it is in the future, which no answer may claim."""
    moment = _EPOCH + datetime.timedelta(seconds=mtime_ns // 10**9)
    return moment if moment <= datetime.datetime.now(datetime.UTC) else None


@dataclass(frozen=True, slots=True)
class Conditions:
    """The conditions of a request, by the lower-case names of their headers."""

    headers: Mapping[str, str]

    def is_known(self, version: FileVersion) -> bool:
        """Whether the caller has this version, so that the answer is 304.

        Raises the problem `precondition-failed` if the caller wants another version.
        """
        matching, modified = self.headers.get("if-match"), version.modified
        if matching is not None:
            # Weak tags never match here.
            if matching.strip() != "*" and version.tag not in _TAG.findall(matching):
                raise _failed(version)
        elif (
            modified is not None
            and (since := self._date("if-unmodified-since")) is not None
            and modified > since
        ):
            raise _failed(version)
        other = self.headers.get("if-none-match")
        if other is not None:
            tags = [tag.removeprefix("W/") for tag in _TAG.findall(other)]
            return version.tag in tags or other.strip() == "*"
        since = self._date("if-modified-since")
        return since is not None and modified is not None and modified <= since

    def has_part_of(self, version: FileVersion) -> bool:
        """Whether a range continues what the caller has: If-Range is absent or names it."""
        wanted = self.headers.get("if-range")
        return wanted is None or wanted.strip() in version.headers.values()

    def _date(self, name: str) -> datetime.datetime | None:
        """A header's time; None if it is absent or not valid, and then ignored."""
        try:
            found = parsedate_to_datetime(self.headers.get(name, ""))
            return found if found.tzinfo is not None else found.replace(tzinfo=datetime.UTC)
        except (ValueError, OverflowError):
            return None


def _failed(version: FileVersion) -> Problem:
    return Problem("precondition-failed", headers={"ETag": version.tag})


def read_conditions(
    request: Request,
    if_match: Annotated[
        str | None, _header("If-Match", "Tags, or *: 412 unless one is the file's.")
    ] = None,
    if_none_match: Annotated[
        str | None, _header("If-None-Match", "Tags, or *: 304 if one is the file's.")
    ] = None,
    if_unmodified_since: Annotated[
        str | None, _header("If-Unmodified-Since", "A date: 412 if the file changed since.")
    ] = None,
    if_modified_since: Annotated[
        str | None, _header("If-Modified-Since", "A date: 304 unless the file changed since.")
    ] = None,
    if_range: Annotated[
        str | None, _header("If-Range", "A tag or date: the whole file if it is another's.")
    ] = None,
) -> Conditions:
    """The conditions of a request; a header that is sent in several lines is one list."""
    given = {
        "if-match": if_match,
        "if-none-match": if_none_match,
        "if-unmodified-since": if_unmodified_since,
        "if-modified-since": if_modified_since,
        "if-range": if_range,
    }
    return Conditions(
        {
            name: ", ".join(request.headers.getlist(name))
            for name, value in given.items()
            if value is not None
        }
    )


Conditional = Annotated[Conditions, Depends(read_conditions)]
