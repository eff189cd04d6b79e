"""Reads a Dockerfile and a .dockerignore, as much of their languages as regard's own use.

hadolint checks the grammar; this only finds the steps, so that tests can look at them and run them.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Step:
    """One instruction: `RUN`, `COPY`, …; its flags (`--from=x` as {"from": "x"}); and the rest of it."""

    word: str
    flags: Mapping[str, str]
    value: str

    @property
    def words(self) -> list[str]:
        """The rest as a list: what stands in a JSON form, else split as a shell does."""
        if self.value.startswith("["):
            return [str(word) for word in json.loads(self.value)]
        return shlex.split(self.value)


@dataclass(frozen=True)
class Stage:
    """What follows one FROM."""

    base: str
    name: str
    steps: list[Step] = field(default_factory=list)

    def all(self, word: str) -> list[Step]:
        return [step for step in self.steps if step.word == word]

    def last(self, word: str) -> Step:
        """The step that counts: a later one replaces an earlier."""
        return self.all(word)[-1]

    @property
    def environment(self) -> dict[str, str]:
        """Every ENV, with what it says of variables as it stands."""
        return dict(pair.split("=", 1) for step in self.all("ENV") for pair in step.words)


@dataclass(frozen=True)
class Dockerfile:
    """The stages in order, and the arguments that stand before the first."""

    arguments: dict[str, str]
    stages: list[Stage]


def read_dockerfile(text: str) -> Dockerfile:
    """Raises AssertionError for an instruction before the first FROM that is no ARG."""
    found = Dockerfile({}, [])
    for step in _steps(text):
        if step.word == "FROM":
            base, *named = step.words
            found.stages.append(Stage(base, named[1] if named else ""))
        elif found.stages:
            found.stages[-1].steps.append(step)
        else:
            assert step.word == "ARG", step
            name, _, value = step.value.partition("=")
            found.arguments[name] = value
    return found


def _steps(text: str) -> Iterator[Step]:
    pending = ""
    for line in text.splitlines():
        if line.lstrip().startswith("#") or not line.strip():
            continue
        if line.endswith("\\"):
            pending += line[:-1]
            continue
        word, _, rest = (pending + line).strip().partition(" ")
        pending = ""
        rest = rest.lstrip()
        flags: dict[str, str] = {}
        while match := re.match(r"--([a-z-]+)=(\S+)\s+", rest):
            flags[match[1]] = match[2]
            rest = rest[match.end() :]
        yield Step(word.upper(), flags, rest)
    assert not pending, "the last line goes on nowhere"


class Context:
    """Which files of a folder Docker would send to a build: what .dockerignore leaves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._rules: list[tuple[bool, re.Pattern[str]]] = []
        for line in (folder / ".dockerignore").read_text().splitlines():
            pattern = line.strip()
            if pattern and not pattern.startswith("#"):
                kept = pattern.startswith("!")
                self._rules.append((kept, re.compile(_expression(pattern.removeprefix("!")))))

    def holds(self, path: str) -> bool:
        """Whether a path, relative and with slashes, is sent; the last rule that fits it counts."""
        parts = path.split("/")
        ways = ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]
        sent = True
        for kept, expression in self._rules:
            if any(expression.fullmatch(way) for way in ways):
                sent = kept
        return sent

    def files(self) -> list[str]:
        """All files that are sent, sorted."""
        # Folders of which nothing can be sent are many and deep here: .venv, .git.
        tops = [top for top in self.folder.iterdir() if self.holds(top.name)]
        found = [
            file
            for top in tops
            for file in (top.rglob("*") if top.is_dir() else [top])
            if file.is_file()
        ]
        names = [file.relative_to(self.folder).as_posix() for file in found]
        return sorted(name for name in names if self.holds(name))


def _expression(pattern: str) -> str:
    """The regular expression of one pattern: `*` within a name, `**` over any number of folders."""
    parts = []
    for part in pattern.strip("/").split("/"):
        if part == "**":
            parts.append("(?:.*/)?")
            continue
        escaped = re.escape(part).replace(r"\*", "[^/]*").replace(r"\?", "[^/]")
        parts.append(escaped.replace(r"\[", "[").replace(r"\]", "]") + "/")
    return "".join(parts).removesuffix("/")
