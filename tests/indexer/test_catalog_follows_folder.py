"""After any edits to a folder, indexing makes the catalog equal to it."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from made_library import Library, write_photo

pytestmark = pytest.mark.slow

_NAMES = st.sampled_from(
    ["a.png", "b.png", "c/a.png", "c/b.jpg", "c/d/e.png", "c-x.png", "f/g.png"]
)
_SEEDS = st.integers(0, 5)


class EditedFolder(RuleBasedStateMachine):
    """Random edits with indexing runs in between."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="regard-edits-"))
        self.library = Library(self.folder)
        # A root without any photograph would be an error.
        self.library.photo("keep.png", 99)
        self.indexed = False

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    def _path(self, name: str) -> Path:
        path = self.library.photos / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    @rule(name=_NAMES, seed=_SEEDS)
    def write(self, name: str, seed: int) -> None:
        write_photo(self._path(name), seed)
        self.indexed = False

    @rule(name=_NAMES)
    def delete(self, name: str) -> None:
        self._path(name).unlink(missing_ok=True)
        self.indexed = False

    @rule(name=_NAMES, other=_NAMES)
    def rename(self, name: str, other: str) -> None:
        if self._path(name).exists():
            self._path(name).rename(self._path(other))
            self.indexed = False

    @rule(name=_NAMES, other=_NAMES)
    def swap(self, name: str, other: str) -> None:
        first, second = self._path(name), self._path(other)
        if first.exists() and second.exists() and first != second:
            aside = self.folder / "aside"
            first.rename(aside)
            second.rename(first)
            aside.rename(second)
            self.indexed = False

    @rule(name=_NAMES, other=_NAMES)
    def duplicate(self, name: str, other: str) -> None:
        if self._path(name).exists() and name != other:
            shutil.copyfile(self._path(name), self._path(other))
            self.indexed = False

    @rule(name=_NAMES, seconds=st.integers(1, 10**9))
    def touch(self, name: str, seconds: int) -> None:
        if self._path(name).exists():
            os.utime(self._path(name), (seconds, seconds))
            self.indexed = False

    @rule(name=_NAMES, keep=st.integers(0, 60))
    def corrupt(self, name: str, keep: int) -> None:
        path = self._path(name)
        if path.exists():
            path.write_bytes(path.read_bytes()[:keep])
            self.indexed = False

    @rule()
    def rename_folder(self) -> None:
        source, target = self.library.photos / "c", self.library.photos / "f"
        if source.exists() and not (target / "c").exists():
            target.mkdir(exist_ok=True)
            source.rename(target / "c")
            self.indexed = False

    @rule()
    def index(self) -> None:
        outcome = self.library.run("index", self.library.photos, "--profile", "fake", "--json")
        assert outcome.code in {0, 1}, outcome
        report = outcome.document
        assert (outcome.code == 1) == bool(report["failures"])
        again = self.library.run("index", self.library.photos, "--json").document
        assert again["unchanged"] + again["failed"] == len(self.library.asset_ids())
        assert again["indexed"] == again["moved"] == again["removed"] == again["regions"] == 0
        assert again["failures"] == report["failures"]
        self.indexed = True

    @invariant()
    def the_catalog_is_the_folder(self) -> None:
        if not self.indexed:
            return
        files = {
            os.fsencode(path): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in self.library.photos.rglob("*")
            if path.is_file()
        }
        rows = self.library.sql(
            "SELECT path, sha256, failure FROM asset LEFT JOIN content ON content.id = content_id"
        )
        assert {path for path, _, _ in rows} == set(files)
        assert len(rows) == len(files)
        for path, sha256, failure in rows:
            assert (sha256 is None) == (failure is not None)
            assert sha256 in {None, files[path]}
            # No complete photograph is this small.
            assert (failure is not None) == (len(Path(os.fsdecode(path)).read_bytes()) <= 60)
        good = {os.fsdecode(path) for path, sha256, _ in rows if sha256 is not None}
        shown = {hit["asset"]["uri"] for hit in self.library.search("red", "--limit", "100")}
        assert shown == good
        self.library.verify()


few = settings(
    max_examples=3,
    stateful_step_count=10,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


class TestEditedFolder(EditedFolder.TestCase):
    settings = few


@pytest.mark.campaign
class TestEditedFolderOften(EditedFolder.TestCase):
    settings = settings(few, max_examples=30, stateful_step_count=14)
