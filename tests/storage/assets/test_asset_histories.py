"""Any history of uploads, edits, trash, restoring and purging, on both databases, against a model.

After each step lists, counts and contents are the model's, and who followed the change log in
small pages has the same assets as the list.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from catalog_samples import Home, header, postgresql_in_campaign
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from made_assets import Assets, place

from regard.core.assets import AssetEdit, AssetState
from regard.core.filters import EVERYTHING, AssetFilter

NAMES = st.sampled_from("pqrs")
COLLECTIONS = st.sampled_from(["one", "two"])
CHOICE = st.integers(0, 10**6)


@dataclass
class Kept:
    """An asset as the model has it."""

    name: str
    collection: str
    trashed: bool = False
    failed: bool = False
    tags: set[str] = field(default_factory=set)


class Histories(RuleBasedStateMachine):
    home: Home

    def __init__(self) -> None:
        super().__init__()
        self.assets = Assets(self.home)
        for collection in self.assets.collections.page():
            self.assets.editing.purge_some(collection=collection.id, trashed_only=False)
        self.model: dict[int, Kept] = {}
        self.analysed: set[str] = set()
        self.copy: set[int] = set()
        self.position = self.assets.position()
        self.searching = self.home.searching()

    def pick(self, choice: int) -> int:
        ids = sorted(self.model)
        return ids[choice % len(ids)]

    def forget_contents(self) -> None:
        self.analysed &= {kept.name for kept in self.model.values() if not kept.failed}

    @rule(name=NAMES, collection=COLLECTIONS)
    def upload(self, name: str, collection: str) -> None:
        there = next(
            (
                number
                for number, kept in self.model.items()
                if (kept.name, kept.collection) == (name, collection)
            ),
            None,
        )
        made = self.assets.upload(name, collection)
        if there is None:
            assert made.status == "created"
            assert made.asset not in self.model
            self.model[made.asset] = Kept(name, collection)
            return
        kept = self.model[there]
        assert made.asset == there
        assert made.status == ("restored" if kept.trashed else "existing")
        kept.trashed = kept.failed = False

    @rule(collection=COLLECTIONS, but=st.sets(NAMES, max_size=1))
    def analyse(self, collection: str, but: set[str]) -> None:
        waiting = [
            kept
            for kept in self.model.values()
            if kept.collection == collection
            and not (kept.trashed or kept.failed or kept.name in self.analysed)
        ]
        self.assets.analyse(collection, but=sorted(but))
        for kept in waiting:
            if kept.name in but:
                kept.failed = True
            else:
                self.analysed.add(kept.name)

    @precondition(lambda self: self.model)
    @rule(choice=CHOICE, tag=st.sampled_from("xy"), removed=st.booleans())
    def tag(self, choice: int, tag: str, removed: bool) -> None:
        number = self.pick(choice)
        if removed:
            self.assets.editing.tag([number], remove=[tag])
            self.model[number].tags.discard(tag)
        else:
            self.assets.editing.tag([number], add=[tag])
            self.model[number].tags.add(tag)

    @precondition(lambda self: self.model)
    @rule(choice=CHOICE, tags=st.sets(st.sampled_from("xyz")))
    def edit(self, choice: int, tags: set[str]) -> None:
        number = self.pick(choice)
        edit = AssetEdit(frozenset({"tags"}), tags=tuple(sorted(tags)))
        self.assets.editing.edit(number, edit)
        self.model[number].tags = set(tags)

    @precondition(lambda self: self.model)
    @rule(choices=st.lists(CHOICE, min_size=1, max_size=3), into=st.booleans())
    def move(self, choices: list[int], into: bool) -> None:
        ids = {self.pick(choice) for choice in choices}
        (self.assets.editing.trash if into else self.assets.editing.restore)(ids)
        for number in ids:
            self.model[number].trashed = into

    @rule(collection=st.none() | COLLECTIONS)
    def empty_trash(self, collection: str | None) -> None:
        if collection is not None and self.assets.collections.missing([collection]):
            return
        gone = {
            number
            for number, kept in self.model.items()
            if kept.trashed and collection in {None, kept.collection}
        }
        before = {kept.name for kept in self.model.values()}
        number = None if collection is None else self.assets.collections.named(collection).id
        purged = self.assets.editing.purge_some(collection=number)
        assert purged.assets == len(gone)
        self.model = {key: kept for key, kept in self.model.items() if key not in gone}
        left = {kept.name for kept in self.model.values()}
        assert set(purged.originals) == {header(name).sha256 for name in before - left}
        # Were nobody there to delete the files, the next server would be told of them.
        assert set(purged.originals) <= set(self.assets.uploads.forgotten_originals())
        self.assets.uploads.forget_originals(purged.originals)
        assert not set(purged.originals) & set(self.assets.uploads.forgotten_originals())
        self.forget_contents()

    @invariant()
    def lists_are_the_models(self) -> None:
        reading = self.assets.reading
        found = reading.page(limit=1000) + reading.page(state=AssetState.TRASHED, limit=1000)
        assert {asset.id: self.state(asset.id) for asset in found} == {
            asset.id: asset.state for asset in found
        }
        assert {asset.id for asset in found} == set(self.model)
        for asset in found:
            kept = self.model[asset.id]
            assert (asset.file_name, asset.collection) == (f"{kept.name}.jpg", kept.collection)
            assert set(asset.tags) == kept.tags
        self.forget_contents()

    def state(self, number: int) -> AssetState:
        kept = self.model[number]
        if kept.trashed:
            return AssetState.TRASHED
        if kept.failed:
            return AssetState.FAILED
        return AssetState.INDEXED if kept.name in self.analysed else AssetState.PENDING

    @invariant()
    def contents_are_those_that_someone_has(self) -> None:
        has = {kept.name for kept in self.model.values() if not kept.failed}
        assert self.assets.contents() == {header(name).sha256 for name in has}
        for name in "pqrs":
            needed = any(kept.name == name for kept in self.model.values())
            assert self.assets.uploads.needs(place(name)) == needed

    @invariant()
    def collections_count(self) -> None:
        for record in self.assets.collections.page():
            states = [
                self.state(number)
                for number, kept in self.model.items()
                if kept.collection == record.name
            ]
            assert record.trashed == states.count(AssetState.TRASHED)
            assert record.assets == len(states) - record.trashed
            assert record.pending == states.count(AssetState.PENDING)
            assert record.failed == states.count(AssetState.FAILED)

    @invariant()
    def the_log_replayed_is_the_list(self) -> None:
        for change in self.assets.changes(self.position, limit=2):
            self.position = change.position
            if change.kind == "added":
                assert change.asset not in self.copy
                self.copy.add(change.asset)
            else:
                # Nothing is told of what one does not have.
                assert change.asset in self.copy
                if change.kind == "removed":
                    self.copy.remove(change.asset)
        assert self.copy == {number for number, kept in self.model.items() if not kept.trashed}

    @invariant()
    def what_searches_keep_is_what_is_stored(self) -> None:
        fresh = self.home.searching()
        contents, regions = set(range(1, 60)), set(range(1, 120))
        for chosen in (EVERYTHING, AssetFilter(collections=("one",))):
            kept = self.searching.hit_records(contents, regions, chosen)
            assert kept == fresh.hit_records(contents, regions, chosen)


@postgresql_in_campaign
def test_histories(home: Home) -> None:
    class OfHome(Histories):
        pass

    OfHome.home = home
    run_state_machine_as_test(
        OfHome,
        settings=settings(
            max_examples=4,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert home.findings() == []
