"""The project's text is plain English: it avoids some words, and its lines stay short."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

_REPOSITORY = Path(__file__).resolve().parents[1]
_SUFFIXES = {".py", ".md", ".toml", ".js", ".css", ".html", ".yml"}
_NAMES = {"Makefile", "Dockerfile"}

# Line breaks in prose, with the signs that begin the next line of a comment.
_LINE_BREAK = re.compile(r"\s*\n\s*(?:[#*/]+ )?")

# Regular expressions.
_AVOIDED = (
    "anew",
    "whoever",
    "(?<!who )whom",  # not in the list of stop words
    "by itself",
    "in vain",
    "in the midst of",
    "(?:goes|go|gone) on with",
    "(?<!there )(?:is|are|was|were) no (?!longer|slower|faster)",
    "(?<!each )(?<!some )(?<!most )(?<!all )(?<!one )(?<!first )of which(?!\\.)",
    "at the (?:least|most)",
    "but for",
    "what (?:is|was) asked(?! to)",
    "the rooms",
    "faces? for people",
    "holds? regard to its word",
    "turns? it round",
)


def _read_tracked_texts() -> dict[str, str]:
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=_REPOSITORY, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    paths = {name: _REPOSITORY / name for name in names if name}
    return {
        name: path.read_text("utf-8")
        for name, path in paths.items()
        if (path.suffix in _SUFFIXES or path.name in _NAMES)
        and path.is_file()
        and path != Path(__file__).resolve()
    }


_TEXTS = _read_tracked_texts()


def test_text_has_no_avoided_phrase() -> None:
    avoided = re.compile(rf"\b(?:{'|'.join(_AVOIDED)})\b.{{0,30}}", re.IGNORECASE)
    found = [
        f"{name}: {match[0]}"
        for name, text in _TEXTS.items()
        for match in avoided.finditer(_LINE_BREAK.sub(" ", text))
    ]
    assert not found


def test_prose_lines_end_before_column_100() -> None:
    long_lines = []
    for name, text in _TEXTS.items():
        if not name.endswith(".md"):
            continue
        prose = re.sub(
            r"^ *```.*?^ *```$", lambda code: "\n" * code[0].count("\n"), text, flags=re.S | re.M
        )
        for number, line in enumerate(prose.splitlines(), start=1):
            without_links = re.sub(r"\]\([^)]*\)|https?://\S+", "", line)
            if len(without_links) >= 100 and not line.lstrip().startswith("|"):
                long_lines.append(f"{name}:{number}")
    assert not long_lines


def test_readme_has_at_most_120_lines() -> None:
    assert len(_TEXTS["README.md"].splitlines()) <= 120


def test_paths_named_in_docs_exist() -> None:
    folders = "api|benchmarks|core|evaluation|indexer|models|photos|search|storage|tests"
    missing = {
        f"{name}: {path}"
        for name, text in _TEXTS.items()
        if name.endswith(".md")
        for path in re.findall(rf"`((?:{folders})/[\w/.-]+)`", text)
        if not (_REPOSITORY / path).exists()
    }
    assert not missing
