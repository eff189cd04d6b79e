"""Decides what a walk leaves out.

Patterns have gitignore's syntax and are relative to a folder. The first of these rules that says
anything about a path decides:

1. What people gave: patterns of `--exclude` and `--include`, paths that were removed or named.
   The last given wins.
2. The `.regardignore` files of the folders above it, the nearest first; in each, the last pattern
   that matches.
3. What programs make for themselves: known names, hidden names, and marked folders.

As in git, a folder that is left out is not entered, so patterns can't include what lies in it.
Paths that a person named are still reached. Regard's own folders are always left out.

Paths may be those of objects; see `regard.photos.files` for what their folders are.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from pathspec.patterns.gitignore.base import GitIgnorePatternError
from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

from regard.core.catalog import Exclusion
from regard.core.errors import DecodeError, UsageError
from regard.photos.files import Confinement, folders_above, has_folder, names_in, open_regular

IGNORE_FILE = b".regardignore"
_MAX_IGNORE_BYTES = 1 << 20
_CACHE_TAG = b"CACHEDIR.TAG"
_CACHE_SIGNATURE = b"Signature: 8a477f597d28d172789f06886806bc55"
_CATALOG, _INDEXES = b"catalog.sqlite3", b"indexes"
# What the rules of a folder depend on, if it is there.
NOTED_NAMES = (IGNORE_FILE, b".nomedia", b".noimage", _CACHE_TAG, _CATALOG, _INDEXES)

# Lower-case names of folders, by the program that makes them.
_MADE_BY_PROGRAMS = frozenset(
    name.encode()
    for name in (
        *("@eadir", "#recycle", "#snapshot", "@tmp", "@sharesnap"),  # Synology
        *("@recycle", "@recently-snapshot", "@__thumb", "@transcode"),  # QNAP
        *("$recycle.bin", "recycler", "recycled", "system volume information"),  # Windows
        *("lost+found", "~snapshot"),  # ext4, NetApp
        *("__macosx", "network trash folder", "temporary items"),  # macOS
        *("ipod photo cache", "files_trashbin", "files_versions"),  # iTunes, Nextcloud
        *("node_modules", "__pycache__", "_gsdata_"),  # programmers' tools, GoodSync
    )
)
# Lightroom's previews; fragments that chkdsk recovers; previews of Nextcloud.
_MADE_NAME = re.compile(rb".*\.(lrdata|lrcat-data)|found\.\d{3}|appdata_oc\w+", re.DOTALL)
_LIBRARY = re.compile(rb"\.(photoslibrary|photolibrary|migratedphotolibrary|aplibrary)(/|$)")
_MADE_IN_LIBRARIES = frozenset(
    {b"derivatives", b"proxies", b"previews", b"thumbnails", b"caches", b"data.noindex"}
)


_POSIX_CLASSES = {
    "alnum": "a-zA-Z0-9",
    "alpha": "a-zA-Z",
    "digit": "0-9",
    "lower": "a-z",
    "space": " \t",
    "upper": "A-Z",
    "xdigit": "0-9a-fA-F",
}
# A set of characters in a regular expression.
_SET = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)


class Pattern:
    """One pattern of gitignore's syntax, for the paths below a folder.

    `is_left_out` is false for one that begins with `!`.
    """

    def __init__(self, folder: bytes, text: str) -> None:
        """Raises ValueError for text that is not a pattern: a comment, nothing, or malformed."""
        self._prefix = folder.rstrip(b"/") + b"/"
        # Spaces at the end do not count unless they are escaped.
        body = re.sub(r"(?<!\\)[ \t\r\n]+$", "", text)
        self._of_folders = body.endswith("/")
        body = body.removesuffix("/")
        if self._of_folders and body.endswith(" "):
            body = body[:-1] + "\\ "
        if body.removeprefix("!") in {"*", "**", "/**", "**/*"}:
            # pathspec's expression for these does not match to the end.
            body = body[: body.startswith("!")] + "?*"
        elif body.endswith("/**"):
            body += "/*"
        for name, characters in _POSIX_CLASSES.items():
            body = body.replace(f"[:{name}:]", characters)
        try:
            regex, include = GitIgnoreSpecPattern.pattern_to_regex(body)
        except GitIgnorePatternError as error:
            raise ValueError(str(error)) from error
        if include is None or regex is None or body.endswith("/"):
            raise ValueError(f"{text!r} matches nothing")
        self._regex = re.compile(_SET.sub(_escaped_set, regex))
        self.is_left_out: bool = include

    def matches(self, path: bytes, *, is_folder: bool) -> bool:
        """Whether it matches the path itself, not only a folder above it."""
        if (self._of_folders and not is_folder) or not path.startswith(self._prefix):
            return False
        relative = os.fsdecode(path[len(self._prefix) :])
        match = self._regex.search(relative)
        return match is not None and match.end() == len(relative)


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds in a folder: the patterns of files above, in order of precedence.

    In a `is_passage` folder, only paths on the way to what a person named are not left out.
    """

    patterns: tuple[Pattern, ...] = ()
    is_passage: bool = False


@dataclass(slots=True)
class Exclusions:
    """What walks leave out: by people's exclusions, `given`, oldest first, and always `own`.

    `own` are the folders where regard keeps its own files: the home, and those in a bucket.
    `own_identities` are the devices and inodes of those that are on this machine.
    """

    given: Sequence[Exclusion] = ()
    own: Sequence[bytes] = ()
    own_identities: set[tuple[int, int]] = field(default_factory=set, init=False)
    _patterns: list[tuple[int, Pattern, bool]] = field(default_factory=list)
    _paths: dict[bytes, tuple[int, bool]] = field(default_factory=dict)
    _passages: set[bytes] = field(default_factory=set)

    def __post_init__(self) -> None:
        for folder in self.own:
            with suppress(OSError):
                status = os.stat(folder)
                self.own_identities.add((status.st_dev, status.st_ino))
        for place, one in enumerate(self.given):
            if one.pattern is None:
                self._paths[one.path] = place, one.is_left_out
                continue
            with suppress(ValueError):
                pattern = Pattern(one.path, os.fsdecode(one.pattern))
                self._patterns.append((place, pattern, one.is_left_out))
        self._patterns.reverse()
        for path, (_, is_left_out) in self._paths.items():
            if not is_left_out:
                self._passages.update(folders_above(path))

    def is_own(self, path: bytes) -> bool:
        """Whether a path lies in a folder of regard's own, links unresolved."""
        return any(path.startswith(folder + b"/") for folder in self.own)

    def root_rules(self, root: bytes, confinement: Confinement | None = None) -> Rules:
        """The rules in a root, with the ignore files of the folders above; raises DecodeError."""
        patterns: list[Pattern] = []
        for folder in [root, *folders_above(root)]:
            if names_in(folder, [IGNORE_FILE]) and (
                confinement is None or confinement.holds(folder)
            ):
                patterns += _read_patterns(folder, confinement)
        return Rules(tuple(patterns))

    def closes(self, folder: bytes, rules: Rules) -> bool:
        """Whether a folder is left out before it is listed; a passage is not."""
        return folder not in self._passages and bool(self.leaves_out(folder, rules, is_folder=True))

    def inside(
        self,
        folder: bytes,
        rules: Rules,
        confinement: Confinement | None = None,
        names: Collection[bytes] | None = None,
    ) -> Rules | None:
        """The rules in a folder; None if it is left out, perhaps by a mark in it.

        `rules` are those of its parent, `names` the folder's, if it was listed. Raises DecodeError
        if its ignore file can't be read.
        """
        is_out = self.leaves_out(folder, rules, is_folder=True)
        if names is None:
            names = names_in(folder, NOTED_NAMES)
        if is_out is None:
            is_out = _is_marked(folder, names, confinement)
        if is_out:
            return Rules(rules.patterns, True) if folder in self._passages else None
        if IGNORE_FILE not in names:
            return Rules(rules.patterns)
        return Rules((*_read_patterns(folder, confinement), *rules.patterns))

    def was_removed(self, path: bytes) -> bool:
        """Whether a person removed a path, or a folder above it, and named none of them since."""
        given = [self._paths[one] for one in (path, *folders_above(path)) if one in self._paths]
        return bool(given) and max(given)[1]

    def needs_naming(self, path: bytes, confinement: Confinement | None = None) -> bool:
        """Whether walks over the folders above would leave a path out."""
        rules = Rules()
        is_folder = has_folder(path)
        folders = [*reversed(folders_above(path)), *([path] if is_folder else [])]
        try:
            for folder in folders:
                if folder != path and confinement is not None and not confinement.holds(folder):
                    continue
                inner = self.inside(folder, rules, confinement)
                if inner is None:
                    return True
                rules = inner
        except DecodeError:
            # Those walks can't tell what an ignore file says, and report it.
            return False
        return (
            rules.is_passage if is_folder else bool(self.leaves_out(path, rules, is_folder=False))
        )

    def leaves_out(self, path: bytes, rules: Rules, *, is_folder: bool) -> bool | None:
        """Whether a path is left out of a folder in which `rules` hold; None if nothing says so.

        Then a mark in it may, see `inside`. One that leads to a named path is a passage.
        """
        place = -1
        is_out: bool | None = None
        if path in self._paths:
            place, is_out = self._paths[path]
        for newer, pattern, is_left_out in self._patterns:
            if newer < place:
                break
            if pattern.matches(path, is_folder=is_folder):
                is_out = is_left_out
                break
        if rules.is_passage:
            return is_out is not False or path not in self._paths
        if is_out is not None:
            return is_out
        for pattern in rules.patterns:
            if pattern.matches(path, is_folder=is_folder):
                return pattern.is_left_out
        is_hidden = os.path.basename(path).startswith(b".")
        return True if is_hidden or (is_folder and _is_made_by_program(path)) else None


def _is_made_by_program(path: bytes) -> bool:
    """Whether a folder is one that programs fill for themselves, by its name."""
    folder, name = os.path.split(path.lower())
    return (
        name in _MADE_BY_PROGRAMS
        or _MADE_NAME.fullmatch(name) is not None
        or (name in _MADE_IN_LIBRARIES and _LIBRARY.search(folder) is not None)
        or (name == b"cache" and os.path.basename(folder) == b"captureone")
    )


def _inside(folder: bytes, name: bytes) -> bytes:
    # A folder's name may be empty in a bucket, where its path ends with a slash that counts.
    return folder + b"/" + name


def _escaped_set(match: re.Match[str]) -> str:
    """A set without what Python may come to read as operations on sets."""
    return "[" + re.sub(r"(?<!\\)([\[&~|]|(?<=-)-)", r"\\\1", match[0][1:])


def _is_marked(folder: bytes, names: Collection[bytes], confinement: Confinement | None) -> bool:
    """Whether a folder asks to be left out, or is the home of another catalog."""
    if b".nomedia" in names or b".noimage" in names:
        return True
    if _CATALOG in names and _INDEXES in names:
        return True
    if _CACHE_TAG not in names:
        return False
    with suppress(DecodeError), open_regular(_inside(folder, _CACHE_TAG), confinement) as tag:
        return tag.read(len(_CACHE_SIGNATURE)) == _CACHE_SIGNATURE
    return False


def _read_patterns(folder: bytes, confinement: Confinement | None) -> list[Pattern]:
    """The patterns of a folder's ignore file, the last one first, which takes precedence.

    Lines that are malformed match nothing, as in git. Raises DecodeError.
    """
    with open_regular(_inside(folder, IGNORE_FILE), confinement) as file:
        data = file.read(_MAX_IGNORE_BYTES + 1)
    if len(data) > _MAX_IGNORE_BYTES:
        raise DecodeError(f"it has more than {_MAX_IGNORE_BYTES:,} bytes")
    patterns = []
    for line in reversed(os.fsdecode(data.removeprefix(b"\xef\xbb\xbf")).split("\n")):
        with suppress(ValueError):
            patterns.append(Pattern(folder, line))
    return patterns


@dataclass(frozen=True, slots=True)
class ExclusionChange:
    """What a person changes about the files of a run, and of later runs over the paths.

    `include` and `exclude` are patterns relative to each path; `clears` forgets earlier exclusions
    at or below the paths.
    """

    exclude: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    clears: bool = False

    def __post_init__(self) -> None:
        """Raises UsageError for a malformed pattern."""
        self._patterns(b"/")

    def changes_to(
        self, known: Sequence[Exclusion], paths: Sequence[bytes], confinement: Confinement | None
    ) -> tuple[set[int], list[Exclusion]]:
        """The ids of exclusions to forget, and those to add, when a person names the paths."""
        named = set(paths)
        add = [one for path in named if has_folder(path) for one in self._patterns(path)]
        # What is given again takes precedence again.
        again = {(one.path, one.pattern) for one in add}
        forget = {
            one.id
            for one in known
            if (one.path, one.pattern) in again
            or (one.pattern is None and one.is_left_out and one.path in named)
            or (self.clears and not named.isdisjoint([one.path, *folders_above(one.path)]))
        }
        left = Exclusions([*(one for one in known if one.id not in forget), *add])
        add += [
            Exclusion(path, None, is_left_out=False)
            for path in sorted(named)
            if left.needs_naming(path, confinement)
        ]
        return forget, add

    def _patterns(self, folder: bytes) -> list[Exclusion]:
        """The patterns for a folder; a `#` begins no comment here, and a `!` negates one."""
        exclusions = []
        for place, text in enumerate((*self.include, *self.exclude)):
            is_negated = text.startswith("!")
            body = text.removeprefix("!")
            body = f"\\{body}" if body.startswith("#") else body
            try:
                Pattern(folder, body)
            except ValueError:
                body = ""
            if not body or any(character in body for character in "\0\n\r"):
                raise UsageError(
                    f"{text!r} is not a pattern of gitignore's syntax",
                    remedy="use one such as '*.tmp', 'private/' or '/2024/drafts'",
                )
            is_left_out = (place >= len(self.include)) != is_negated
            exclusions.append(Exclusion(folder, os.fsencode(body), is_left_out))
        return exclusions


NO_EXCLUSION_CHANGE = ExclusionChange()
