"""What indexing leaves out: what programs make, ignore files, and what people say and regard
remembers."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_library import Library, regard, write_photo

from regard.core.errors import UsageError
from regard.indexer.exclusions import ExclusionChange, Pattern
from regard.indexer.folder_walk import FolderWalk


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path)


def walked(root: Path) -> set[str]:
    return {
        os.path.relpath(os.fsdecode(one.stamp.path), root) for one in FolderWalk(os.fsencode(root))
    }


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


LEFT_OUT = [
    *("@eaDir/a.jpg/SYNOPHOTO_THUMB_XL.jpg", "#recycle/a.jpg", "#snapshot/day/a.jpg"),
    *("@Recycle/a.jpg", "@Recently-Snapshot/a.jpg", ".@__thumb/a.jpg", "~snapshot/a.jpg"),
    *("$RECYCLE.BIN/S-1/a.jpg", "$Recycle.Bin/a.jpg", "System Volume Information/a.jpg"),
    *("lost+found/a.jpg", "found.000/a.jpg", ".Trash-1000/files/a.jpg", ".Trashes/a.jpg"),
    *("._a.jpg", "__MACOSX/b/._a.jpg", "__MACOSX/a.jpg", ".AppleDouble/a.jpg", ".hidden.jpg"),
    *(".thumbnails/a.jpg", ".dtrash/a.jpg", "node_modules/x/a.png", "CaptureOne/Cache/a.jpg"),
    *("Catalog Previews.lrdata/0/a.jpg", "Catalog Smart Previews.LRDATA/a.jpg"),
    *("appdata_oc1x2y/preview/a.jpg", "files_versions/a.jpg", "_gsdata_/a.jpg"),
    "My.photoslibrary/resources/derivatives/a/a.jpg",
    "My.photoslibrary/scopes/cloudsharing/resources/derivatives/a.jpg",
    *("Old.photolibrary/Thumbnails/a.jpg", "Old.aplibrary/Previews/a.jpg"),
    *("private/.nomedia", "private/a.jpg", "private/below/a.jpg", "album/.noimage", "album/a.jpg"),
    *("cache/CACHEDIR.TAG", "cache/a.jpg", "a home/catalog.sqlite3", "a home/indexes/x"),
    "a home/thumbnails/ab/cd/a.webp",
]
KEPT = [
    *("a.jpg", "@eaDir.jpg", "#recycle.jpg", "eaDir/a.jpg", "previews/a.jpg", "derivatives/a.jpg"),
    *("My.photoslibrary/originals/0/a.jpg", "My.photoslibrary/resources/renders/a.jpg"),
    *("Thumbnails/a.jpg", "lost and found/a.jpg", "recycled paper/a.jpg", "cache 2/CACHEDIR.TAG"),
    *("cache 2/a.jpg", "Cache/a.jpg", "trash/a.jpg", "indexes/a.jpg"),
]


def test_what_programs_make_for_themselves_is_left_out(tmp_path: Path) -> None:
    touch(tmp_path, *LEFT_OUT, *KEPT)
    signature = "Signature: 8a477f597d28d172789f06886806bc55\n# made by a program"
    (tmp_path / "cache" / "CACHEDIR.TAG").write_text(signature)
    (tmp_path / "cache 2" / "CACHEDIR.TAG").write_text("another text")
    assert walked(tmp_path) == {name for name in KEPT if name.endswith(".jpg")}
    for folder in ("@eaDir", "#recycle", ".thumbnails", "private", "cache"):
        # A root is never left out.
        assert walked(tmp_path / folder), folder
    touch(tmp_path, "My.photoslibrary/resources/proxies/a.jpg")
    assert walked(tmp_path / "My.photoslibrary") == {"originals/0/a.jpg", "resources/renders/a.jpg"}


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("a", ["a", "x/a", "a/"], ["b", "aa", "a/b"]),
        ("a/", ["a/", "x/a/"], ["a", "a/b"]),
        ("/a", ["a", "a/"], ["x/a"]),
        ("x/a", ["x/a"], ["a", "y/x/a"]),
        ("*.jpg", ["a.jpg", "x/a.jpg", "a.jpg/"], ["a.JPG", "a.jpg/b"]),
        ("**/a", ["a", "x/y/a"], ["b"]),
        ("a/**", ["a/b", "a/b/c"], ["a/", "a"]),
        ("a/**/b", ["a/b", "a/x/y/b"], ["a/bb", "b"]),
        ("a/*", ["a/b", "a/b/"], ["a/b/c", "a/"]),
        ("*", ["a", "x/a", "x/"], []),
        ("**", ["a", "x/a"], []),
        ("/**", ["a", "x/a"], []),
        ("?", ["a", "x/a"], ["ab"]),
        ("[a-c]x", ["ax", "y/bx"], ["dx"]),
        ("[!a]x", ["bx"], ["ax"]),
        ("[[:digit:]]x", ["1x"], ["ax"]),
        ("[[]", ["["], ["a"]),
        ("\\#a", ["#a"], ["a"]),
        ("\\!a", ["!a"], ["a"]),
        ("a  ", ["a"], ["a  "]),
        ("a\\ ", ["a "], ["a"]),
        ("a b", ["a b"], ["a"]),
        ("é*", ["été"[2:] + "x"], ["ex"]),
    ],
)
def test_patterns_match_as_in_gitignore(
    pattern: str, matching: list[str], other: list[str]
) -> None:
    read = Pattern(b"/root", pattern)
    for name in (*matching, *other):
        path = os.fsencode(f"/root/{name.rstrip('/')}")
        assert read.matches(path, is_folder=name.endswith("/")) == (name in matching), name
        assert not read.matches(path.replace(b"/root", b"/rootless"), is_folder=True)


@pytest.mark.parametrize("line", ["", "#a", "  ", "!", "a\\", "/", "a//"])
def test_lines_that_are_no_pattern_match_nothing(line: str) -> None:
    with pytest.raises(ValueError, match=r"pattern|nothing"):
        Pattern(b"/", line)


@pytest.mark.parametrize("pattern", ["", "!", "a\\", "a\nb", "a\0", "  "])
def test_malformed_patterns_are_wrong_arguments(library: Library, pattern: str) -> None:
    with pytest.raises(UsageError, match="gitignore"):
        ExclusionChange(exclude=(pattern,))
    if "\0" not in pattern:
        library.run("index", library.photos, "--exclude", pattern).expect_sentence(2, "pattern")
    assert not library.home.exists()


def test_the_nearest_ignore_file_that_matches_decides(tmp_path: Path) -> None:
    root = tmp_path / "all" / "photos"
    names = ("a.jpg", "a.png", "2023/a.png", "2023/b.png", "2024/a.png", "2024/x/a.png")
    touch(root, *names, "raw/a.jpg", "raw/keep/b.jpg", "caf\u00e9/a.jpg", "x/y/only.jpg")
    touch(root, os.fsdecode(b"bad\xff.jpg"))
    (tmp_path / "all" / ".regardignore").write_text("*.png\nonly.jpg\n")
    (root / ".regardignore").write_bytes(
        "\ufeff# a comment\r\n/raw/\r\n!keep/\ncaf\u00e9\n!y/only.jpg\n".encode() + b"bad\xff.jpg"
    )
    (root / "2023" / ".regardignore").write_text("!*.png\nb.*\n")
    (root / "2024" / ".regardignore").write_text("!/a.png\n")
    # Nothing below `raw` can be included again, and `y/only.jpg` is relative to the root.
    assert walked(root) == {"a.jpg", "2023/a.png", "2024/a.png"}
    assert walked(root / "2024") == {"a.png"}
    assert walked(root / "raw") == {"a.jpg", "keep/b.jpg"}
    (root / ".regardignore").write_text("!x/y/only.jpg\n!.hidden/\n")
    touch(root, ".hidden/a.jpg", ".other/a.jpg")
    assert walked(root) >= {"x/y/only.jpg", ".hidden/a.jpg", "raw/a.jpg"}
    assert ".other/a.jpg" not in walked(root)


@pytest.mark.parametrize("kind", ["a pipe", "a folder", "a dangling link", "too large"])
def test_an_unreadable_ignore_file_hides_its_folder(library: Library, kind: str) -> None:
    library.photo("a.png", 1)
    library.photo("x/b.png", 2)
    assert library.index()["indexed"] == 2
    ignore = library.photos / "x" / ".regardignore"
    match kind:
        case "a pipe":
            os.mkfifo(ignore)
        case "a folder":
            ignore.mkdir()
        case "a dangling link":
            ignore.symlink_to("nowhere")
        case _:
            ignore.write_bytes(b"#" * (1 << 20) + b"\n")
    report = library.index(code=1)
    assert (report["unchanged"], report["removed"]) == (1, 0)
    assert ".regardignore" in report["failures"][0]["reason"]


def counts(report: dict[str, object]) -> dict[str, object]:
    names = ("indexed", "unchanged", "removed", "left_out")
    return {name: report[name] for name in names if report[name]}


def test_exclusions_are_remembered_until_cleared(library: Library) -> None:
    for number, name in enumerate(("a.png", "b.jpg", "x/c.png", "x/d.jpg", "#y/e.png")):
        library.photo(name, number)
    assert counts(library.index()) == {"indexed": 5}
    photos = library.photos
    # What was indexed goes as files that are gone do.
    report = library.index(photos, "--exclude", "*.jpg", "--exclude", "#y")
    assert counts(report) == {"unchanged": 2, "removed": 3, "left_out": 3}
    assert counts(library.index()) == {"unchanged": 2, "left_out": 3}
    assert counts(library.index(photos / "x")) == {"unchanged": 1, "left_out": 1}
    # The last said wins, and a collection remembers its own.
    assert counts(library.index(photos, "--include", "/b.*")) == {
        "indexed": 1,
        "unchanged": 2,
        "left_out": 2,
    }
    assert counts(library.index(photos, "--collection", "other")) == {"indexed": 5}
    shown = library.run("status").out.decode()
    assert f"left out of default: *.jpg below {photos}" in shown
    assert f"included in default: /b.* below {photos}" in shown
    exclusions = library.run("status", "--json").document["exclusions"]
    assert exclusions[0] == {
        "collection": "default",
        "path": str(photos),
        "pattern": "*.jpg",
        "left_out": True,
    }
    # Said again, it is the last.
    assert counts(library.index(photos, "--exclude", "*.jpg"))["left_out"] == 3
    assert counts(library.index(photos, "--exclude", "!b.jpg"))["indexed"] == 1
    assert counts(library.index(photos, "--clear-exclusions")) == {"indexed": 2, "unchanged": 3}
    assert library.run("status", "--json").document["exclusions"] == []
    library.verify()


def test_excluding_everything_is_not_an_emptied_root(library: Library) -> None:
    library.photo("a.png", 1)
    library.photo("x/b.png", 2)
    assert library.index()["indexed"] == 2
    (library.photos / ".regardignore").write_text("*\n")
    (library.photos / "a.png").unlink()
    assert counts(library.index())["removed"] == 2
    (library.photos / ".regardignore").unlink()
    assert counts(library.index()) == {"indexed": 1}
    (library.photos / "x" / "b.png").unlink()
    library.run("index", library.photos).expect_sentence(3, "nothing was removed")


def test_what_is_removed_comes_back_only_when_named_or_included(library: Library) -> None:
    for number, name in enumerate(("a.png", "b.png", "x/c.png", "x/d.png")):
        library.photo(name, number)
    photos = library.photos
    assert counts(library.index()) == {"indexed": 4}
    for path in (photos / "a.png", photos / "x"):
        assert library.run("remove", path).code == 0
    assert counts(library.index()) == {"unchanged": 1, "left_out": 2}
    assert counts(library.index("--retry-failed", photos)) == {"unchanged": 1, "left_out": 2}
    assert f"left out of default: {photos / 'a.png'}" in library.run("status").out.decode()
    assert counts(library.index(photos, "--include", "/a.png"))["indexed"] == 1
    assert counts(library.index(photos / "x")) == {"indexed": 2}
    assert counts(library.index()) == {"unchanged": 4}
    # Removed as a whole, then a part of it is named: the rest stays out.
    assert library.run("remove", photos / "x").code == 0
    assert counts(library.index(photos / "x" / "c.png")) == {"indexed": 1}
    assert counts(library.index()) == {"unchanged": 3, "left_out": 1}
    # A root that is removed is indexed when it is named, without what was removed from it.
    assert library.run("remove", photos).code == 0
    assert counts(library.index()) == {"indexed": 2, "left_out": 1}
    library.verify()


def test_a_path_that_was_named_is_reached_by_later_runs(library: Library) -> None:
    library.photo("a.png", 1)
    for number, name in enumerate((".hidden/x/b.png", ".hidden/c.png", "@eaDir/d.png"), 2):
        library.photo(name, number)
    (library.photos / "private").mkdir()
    library.photo("private/e.png", 6)
    (library.photos / "private" / ".nomedia").touch()
    assert counts(library.index()) == {"indexed": 1, "left_out": 3}
    for name in (".hidden/x", "@eaDir/d.png", "private"):
        assert counts(library.index(library.photos / name))["indexed"] == 1
    assert library.index()["unchanged"] == 4
    assert len(library.run("status", "--json").document["exclusions"]) == 3
    assert library.index(library.photos / "private")["unchanged"] == 1
    assert len(library.run("status", "--json").document["exclusions"]) == 3
    assert library.run("remove", library.photos / ".hidden").code == 0
    assert library.index()["unchanged"] == 3


def test_the_home_is_left_out_and_uploads_keep_their_assets(tmp_path: Path) -> None:
    library = Library(tmp_path)
    library.home = library.photos / "home"
    library.photo("a.png", 1)
    write_photo(library.home / "thumbnails" / "ab" / "x.png", 2)
    upload = write_photo(library.home / "originals" / "ab" / "y.png", 3)
    assert counts(library.index()) == {"indexed": 1}
    stored = library.photo("b.png", 4)
    assert counts(library.index()) == {"indexed": 1, "unchanged": 1}
    stored.unlink()
    with sqlite3.connect(library.home / "catalog.sqlite3") as connection:
        connection.execute(
            "UPDATE asset SET managed = 1, path = ? WHERE uri LIKE '%b.png'", [os.fsencode(upload)]
        )
    connection.close()
    assert counts(library.index()) == {"unchanged": 1}
    assert library.sql("SELECT count(*) FROM asset") == [(2,)]
    assert counts(library.index("--collection", "other", library.photos)) == {"indexed": 1}
    library.run("index", library.home / "originals").expect_sentence(3, "lies in the home")
    assert regard("remove", library.photos, "--home", library.home).code == 0
    assert library.sql("SELECT count(*) FROM asset WHERE managed") == [(1,)]


def _made_tree(root: Path, chance: random.Random) -> None:
    names = ["a", "b", "foo", "a.jpg", "b.png", "#x", "!y", "a b", "[z]", "foo.jpg", "A.JPG"]
    for _ in range(14):
        depth = chance.randrange(4)
        folder = root.joinpath(*(chance.choice(["a", "b", "foo", "#x"]) for _ in range(depth)))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / (chance.choice(names) + chance.choice(["", ".jpg"]))).touch()
        except OSError:
            continue
    atoms = ["a", "b", "foo", "*", "**", "*.jpg", "?", "[ab]", "\\#x", "\\!y", "#x", "a b", "f*"]
    atoms += ["[z]", "\\[z\\]", "*.*", "[!a]", "[^b]*", "a\\ b", "foo ", "foo\\ ", "[[:alpha:]]"]

    def lines() -> Iterator[str]:
        for _ in range(chance.randrange(1, 5)):
            body = "/".join(chance.choice(atoms) for _ in range(chance.choice([1, 1, 1, 2, 2, 3])))
            start = chance.choice(["", "", "!"]) + chance.choice(["", "", "", "/"])
            yield start + body + chance.choice(["", "", "", "", "/"])

    folders = [root, *(path for path in root.rglob("*") if path.is_dir())]
    for folder in chance.sample(folders, min(len(folders), chance.randrange(1, 4))):
        (folder / ".regardignore").write_text("\n".join(lines()))
        shutil.copy(folder / ".regardignore", folder / ".gitignore")


def _seen_by_regard(root: Path) -> set[str]:
    """Every file that a walk does not leave out, photograph or not."""
    walk = FolderWalk(os.fsencode(root))
    rules = walk.exclusions.root_rules(walk.root)
    seen = set()
    stack = [(os.fsencode(root), rules)]
    while stack:
        folder, rules = stack.pop()
        with os.scandir(folder) as entries:
            listed = list(entries)
        for entry in listed:
            if entry.is_dir():
                inner = walk.exclusions.inside(entry.path, rules)
                if inner is not None:
                    stack.append((entry.path, inner))
            elif not walk.exclusions.leaves_out(entry.path, rules, is_folder=False):
                seen.add(os.path.relpath(os.fsdecode(entry.path), root))
    return seen


@pytest.mark.campaign
def test_ignore_files_mean_what_git_takes_them_for(tmp_path: Path) -> None:
    if shutil.which("git") is None:
        pytest.skip("no git; install it with: apt-get install git")
    differing = []
    for seed in range(400):
        root = tmp_path / str(seed)
        root.mkdir()
        _made_tree(root, random.Random(seed))
        subprocess.run(["git", "init", "-q", root], check=True)
        listed = subprocess.run(
            ["git", "-C", root, "ls-files", "-z", "-o", "--exclude-per-directory=.gitignore"],
            capture_output=True,
            check=True,
        ).stdout
        by_git = set(map(os.fsdecode, filter(None, listed.split(b"\0"))))
        # Whether hidden names are left out is not git's concern.
        differences = _seen_by_regard(root) ^ by_git
        if any("." not in {part[0] for part in name.split("/")} for name in differences):
            differing.append(seed)
    # pathspec and git differ where several stars stand inside a name.
    assert len(differing) <= 4, differing
