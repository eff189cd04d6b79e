"""Changing a home's models: building a pipeline beside the live one, deleting those not needed.

What the command line and the worker have in common.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from regard.api.wiring import load_ready_profile, nothing_indexed
from regard.core.errors import PipelineConflict
from regard.core.protocols import Profile
from regard.core.settings import Settings
from regard.indexer.reindexing import Reindexer
from regard.indexer.report import IndexReport, Progress
from regard.storage.catalog import Catalog
from regard.storage.channel_indexes import ChannelIndexes
from regard.storage.originals import Originals
from regard.storage.pruning import prune
from regard.storage.reindexing import SqlReindexing


def target_profile(settings: Settings, catalog: Catalog, name: str | None) -> Profile:
    """The profile to change to, None for the home's own as it is today.

    Raises HomeError for a home without photographs, UsageError for an unknown name, ModelError or
    MissingDependency when the profile can't run here.
    """
    live = catalog.live_pipeline()
    if live is None:
        raise nothing_indexed(settings)
    return load_ready_profile(name, live)


def is_live(catalog: Catalog, profile: Profile) -> bool:
    """Whether the home has the profile's models already."""
    live = catalog.live_pipeline()
    return live is not None and live.fingerprint == profile.spec.fingerprint


def reindex(
    settings: Settings,
    catalog: Catalog,
    profile: Profile,
    *,
    only: str | None = None,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    waits: Callable[[str], None] = lambda sentence: None,
) -> IndexReport:
    """Build the profile's pipeline until nothing waits, and have it go live; see `Reindexer.run`.

    `only`: the fingerprint that it has to have. Raises PipelineConflict when the profile makes another now.
    """
    spec = profile.spec
    if only is not None and spec.fingerprint != only:
        raise PipelineConflict(
            f"the profile {profile.name} has other models now than those to go back to",
            remedy="go back without what was indexed since, with: regard rollback --at-once",
        )
    if is_live(catalog, profile):
        return IndexReport()
    originals = Originals(settings.home / "originals")

    def original_of(sha256: str) -> bytes | None:
        path = originals.path_of(sha256)
        return path if os.path.exists(path) else None

    building = SqlReindexing(catalog, spec, original_of=original_of)
    return Reindexer(
        building,
        profile.analyzer,
        ChannelIndexes(catalog, building.pipeline, settings.indexes),
        batch_size=profile.batch_size,
        analyzer_threads=profile.analyzer_threads,
    ).run(progress=progress, should_stop=should_stop, waits=waits)


def prune_again(
    settings: Settings,
    catalog: Catalog,
    chosen: Sequence[str],
    *,
    unfinished: bool,
    should_stop: Callable[[], bool],
) -> IndexReport:
    """Prune as a job does, perhaps one that was interrupted: what is gone by now is done.

    `removed` counts pipelines.
    """
    there = {pipeline.fingerprint for pipeline in catalog.pipelines()}
    left = [one for one in chosen if one in there]
    gone: list[str] = []
    if left or not chosen:
        gone = prune(
            catalog, settings.indexes, left, unfinished=unfinished, should_stop=should_stop
        )
    return IndexReport(removed=len(gone), interrupted=should_stop())
