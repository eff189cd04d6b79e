"""A home: the one place that builds its catalog, indexes and models."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from regard.api.library.settings import Settings
from regard.api.library.stored_relevance import StoredRelevance
from regard.core.assets import Asset
from regard.core.errors import HomeError, PipelineConflict, UsageError
from regard.core.machine import usable_cores
from regard.core.protocols import Profile
from regard.core.records import Image, Routes
from regard.core.relevance import CurrentCalibrations, RelevanceSource
from regard.models.profiles.registry import DEFAULT_PROFILE, load_profile
from regard.search.engine import SearchEngine
from regard.search.refining import LoadImage
from regard.search.timing import Observe
from regard.storage.assets.uploads import SqlUploads
from regard.storage.database.catalog import Catalog, open_catalog
from regard.storage.database.stored_pipelines import StoredPipeline, check_pipeline, check_spaces
from regard.storage.files.bucket_originals import BucketOriginals
from regard.storage.files.bucket_thumbnails import BucketThumbnails
from regard.storage.files.originals import Originals, OriginalStore, open_original
from regard.storage.files.thumbnails import Thumbnails
from regard.storage.retrieval.channel_indexes import ChannelIndexes
from regard.storage.retrieval.keywords import SqlKeywordSearch
from regard.storage.retrieval.search_catalog import SqlSearchCatalog
from regard.storage.vectors.engine import VectorEngine
from regard.storage.vectors.engines import make_engine

if TYPE_CHECKING:
    from regard.indexer.analysis import AnalysisSetup
    from regard.indexer.indexing import Indexer
    from regard.storage.assets.indexing import SqlIndexingCatalog


class Home:
    """The opened parts of a home under its live pipeline: catalog, profile and vector indexes."""

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        pipeline: StoredPipeline,
        profile: Profile | None = None,
        *,
        is_new: bool = False,
    ) -> None:
        """Nothing is loaded yet; `profile` is the pipeline's, where it is loaded already.

        `is_new`: nothing was indexed before.
        """
        self.is_new = is_new
        self.settings = settings
        self.catalog = catalog
        self.pipeline = pipeline
        self._profile = profile
        self.search_catalog = SqlSearchCatalog(catalog, pipeline)
        self.indexes = ChannelIndexes(catalog, pipeline, home_engine(settings, catalog))
        self.keywords = SqlKeywordSearch(catalog, pipeline)
        self.relevance = StoredRelevance(catalog, pipeline)

    def is_live(self) -> bool:
        """Whether the pipeline is still the live one; another process may have changed it."""
        live = self.catalog.live_pipeline()
        return live is not None and live.id == self.pipeline.id

    @functools.cached_property
    def profile(self) -> Profile:
        """The pipeline's profile; raises PipelineConflict when this version lacks it."""
        return self._profile or _profile_of(self.pipeline)

    def engine(
        self,
        routes: Routes | None = None,
        observe: Observe | None = None,
        calibrations: CurrentCalibrations | None = None,
        load_image: LoadImage | None = None,
    ) -> SearchEngine:
        """A search engine; `routes` replace the profile's own, `calibrations` those of the profile
        and of the library, `load_image` reads the pixels of an asset, by default of any file.

        Raises ModelError when the encoder is missing, PipelineConflict when it has changed.
        """
        check_spaces(self.pipeline, self.profile.spaces)
        return SearchEngine(
            self.profile,
            self.search_catalog,
            self.indexes,
            routes,
            observe,
            self.keywords,
            calibrations or self._calibrations(),
            load_image=load_image or _load_image,
        )

    def _calibrations(self) -> CurrentCalibrations:
        """Those of the profile or, if it has none, of the library."""
        own = self.profile.calibrations
        if own is None:
            return CurrentCalibrations(RelevanceSource.LIBRARY, self.relevance)
        return CurrentCalibrations(RelevanceSource.PROFILE, lambda: own)

    def indexer(self, collection: str) -> Indexer:
        """An indexer into one collection."""
        from regard.indexer.indexing import Indexer

        return Indexer(
            indexing_catalog(self.settings, self.catalog, self.pipeline, collection),
            analysis_setup(self.settings, self.profile, self.indexes),
            own_folders(self.settings),
        )


def indexing_catalog(
    settings: Settings, catalog: Catalog, pipeline: StoredPipeline, collection: str
) -> SqlIndexingCatalog:
    """The catalog as an indexer into one collection sees it."""
    from regard.storage.assets.indexing import SqlIndexingCatalog

    originals = open_originals(settings, catalog)
    return SqlIndexingCatalog(catalog, pipeline, collection, is_managed=originals.holds)


def analysis_setup(settings: Settings, profile: Profile, indexes: ChannelIndexes) -> AnalysisSetup:
    """How a profile analyses, here or on the Ray cluster of the settings."""
    from regard.indexer.analysis import AnalysisSetup

    load_file_analyzer = None
    if settings.ray is not None:
        from regard.indexer.ray_analysis import ray_analyzer

        load_file_analyzer = functools.partial(ray_analyzer, settings.ray, profile)
    return AnalysisSetup(
        profile.analyzer,
        indexes,
        profile.batch_size,
        profile.analyzer_threads or usable_cores(),
        moments_a_minute=settings.moments_a_minute,
        load_file_analyzer=load_file_analyzer,
    )


@contextlib.contextmanager
def open_home(settings: Settings) -> Iterator[Home]:
    """Open a home that something was indexed into; raises HomeError when there is none."""
    with open_home_catalog(settings, make=False) as catalog:
        pipeline = catalog.live_pipeline()
        if pipeline is None:
            raise nothing_indexed(settings)
        yield Home(settings, catalog, pipeline)


@contextlib.contextmanager
def open_or_make_home(
    settings: Settings, profile: str | None, *, to_search: bool = False
) -> Iterator[Home]:
    """Open a home to index into, and make it when there is none.

    `profile` None means the home's own, or `lite` for a new home. With `to_search` and no
    `profile`, only the encoders must be those that the home was indexed with. Before anything is
    written, raises UsageError for an unknown profile, ModelError or MissingDependency when it
    cannot run here, PipelineConflict when the home was indexed with another one.
    """
    chosen = load_ready_profile(profile, None) if profile is not None else None
    with open_home_catalog(settings, make=True) as catalog:
        pipeline = catalog.live_pipeline()
        is_new = pipeline is None
        if chosen is None:
            chosen = load_ready_profile(None, pipeline)
        if pipeline is None or pipeline.fingerprint != chosen.spec.fingerprint:
            pipeline = catalog.make_live(chosen.spec)
        if profile is not None or not to_search:
            check_pipeline(pipeline, chosen.spec)
        yield Home(settings, catalog, pipeline, chosen, is_new=is_new)


def load_ready_profile(name: str | None, pipeline: StoredPipeline | None) -> Profile:
    """A profile that can run here: the named one, else that of the pipeline, else the default.

    Raises UsageError for an unknown name, ModelError or MissingDependency when it cannot run.
    """
    if name is not None:
        profile: Profile = load_profile(name)
    else:
        profile = load_profile(DEFAULT_PROFILE) if pipeline is None else _profile_of(pipeline)
    for problem in profile.problems():
        raise problem
    return profile


@contextlib.contextmanager
def open_home_catalog(settings: Settings, *, make: bool) -> Iterator[Catalog]:
    """Open the catalog of a home, with or without a live pipeline; raises HomeError."""
    if not make and settings.database_url is None and not settings.catalog_file.exists():
        raise nothing_indexed(settings)
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HomeError(
            f"the home {settings.home} can't be made: {error.strerror}",
            remedy="give --home a folder that you may write to",
        ) from error
    catalog = open_catalog(settings.database_url or settings.catalog_file)
    try:
        yield catalog
    finally:
        catalog.close()


def home_engine(settings: Settings, catalog: Catalog) -> VectorEngine:
    """The vector engine that the settings choose; raises MissingDependency, HomeError."""
    return make_engine(
        settings.vectors, settings.vectors_token_file, settings.indexes, catalog.database
    )


def open_originals(settings: Settings, catalog: Catalog) -> OriginalStore:
    """The store of uploaded files: a folder of the home, or a bucket."""
    if settings.store is None:
        return Originals(settings.home / "originals")
    return BucketOriginals(settings.store, SqlUploads(catalog).announce)


def open_thumbnails(settings: Settings) -> Thumbnails:
    """The cache of thumbnails in the home, behind which servers may share one in a bucket."""
    shared = None if settings.store is None else BucketThumbnails(settings.store)
    return Thumbnails(settings.home / "thumbnails", shared=shared)


def own_folders(settings: Settings) -> list[bytes]:
    """Where regard keeps its own files, which are not photographs to index."""
    store = settings.store
    stored = () if store is None else (f"{store}/originals", f"{store}/thumbnails")
    return [os.fsencode(folder) for folder in (settings.home, *stored)]


def _load_image(asset: Asset, time_ms: int | None) -> Image:
    """The pixels of an asset whose file is as it was indexed, of a video those at a time.

    Raises OriginalGone, DecodeError.
    """
    # Decoding takes long to import, and a text search decodes nothing.
    from regard.photos.media import decode_picture

    # Managed files are named by their digest, and restoring a backup may truncate their times.
    mtime_ns = None if asset.managed or asset.etag is not None else asset.mtime_ns
    with open_original(
        asset.path, size=asset.size, mtime_ns=mtime_ns, etag=asset.etag, within=None
    ) as file:
        return decode_picture(file, time_ms=time_ms)


def nothing_indexed(settings: Settings) -> HomeError:
    """The error for a home without photographs."""
    return HomeError(
        f"nothing is indexed in the home {settings.home}",
        remedy="run: regard index FOLDER, or name the right --home",
    )


def _profile_of(pipeline: StoredPipeline) -> Profile:
    """The profile of a pipeline; an unknown one is the home's problem, not the caller's."""
    try:
        return load_profile(pipeline.profile)
    except UsageError as error:
        raise PipelineConflict(
            f"this home was indexed with the profile {pipeline.profile}, which this version lacks",
            remedy="install the version of regard that has it, or choose another --home",
        ) from error
