"""Builds the concrete parts of a home and wires them; the one place that knows all rooms."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator

from regard.api.library.settings import Settings
from regard.core.errors import HomeError, PipelineConflict, UsageError
from regard.core.protocols import Profile
from regard.core.records import Routes
from regard.indexer.analysing import Analysing
from regard.indexer.run import Indexer
from regard.models.profiles.registry import DEFAULT_PROFILE, load_profile
from regard.search.engine import Observe, SearchEngine
from regard.storage.assets.indexing import SqlIndexingCatalog
from regard.storage.files.originals import Originals
from regard.storage.pipelines.catalog import Catalog, open_catalog
from regard.storage.pipelines.stored import StoredPipeline, check_pipeline, check_spaces
from regard.storage.retrieval.channel_indexes import ChannelIndexes
from regard.storage.retrieval.keywords import SqlKeywordSearch
from regard.storage.retrieval.search_catalog import SqlSearchCatalog

DEFAULT_COLLECTION = "default"


class Home:
    """An opened home with a live pipeline: its catalog, profile and vector indexes."""

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        pipeline: StoredPipeline,
        profile: Profile | None = None,
    ) -> None:
        """Nothing is loaded yet; `profile` is the home's where it is at hand already."""
        self.settings = settings
        self.catalog = catalog
        self.pipeline = pipeline
        self._profile = profile
        self.search_catalog = SqlSearchCatalog(catalog, pipeline)
        self.indexes = ChannelIndexes(catalog, pipeline, settings.indexes)
        self.keywords = SqlKeywordSearch(catalog, pipeline)

    @functools.cached_property
    def profile(self) -> Profile:
        """The home's profile; raises PipelineConflict when this version lacks it."""
        return self._profile or _profile_of(self.pipeline)

    def engine(
        self,
        routes: Routes | None = None,
        observe: Observe | None = None,
    ) -> SearchEngine:
        """A search engine over this home; `routes` stand in for the profile's own.

        Raises ModelError when the encoder is not at hand, PipelineConflict when it is another one.
        """
        check_spaces(self.pipeline, self.profile.spaces)
        return SearchEngine(
            self.profile, self.search_catalog, self.indexes, routes, observe, self.keywords
        )

    def indexer(self, collection: str) -> Indexer:
        """An indexer into one collection of this home."""
        return Indexer(
            SqlIndexingCatalog(
                self.catalog,
                self.pipeline,
                collection,
                is_managed=Originals(self.settings.home / "originals").holds,
            ),
            Analysing(
                self.profile.analyzer,
                self.indexes,
                self.profile.batch_size,
                self.profile.analyzer_threads,
            ),
        )


@contextlib.contextmanager
def open_home(settings: Settings) -> Iterator[Home]:
    """A home that something was indexed into; raises HomeError when there is none."""
    with open_home_catalog(settings, make=False) as catalog:
        pipeline = catalog.live_pipeline()
        if pipeline is None:
            raise nothing_indexed(settings)
        yield Home(settings, catalog, pipeline)


@contextlib.contextmanager
def open_or_make_home(
    settings: Settings, profile: str | None, *, to_search: bool = False
) -> Iterator[Home]:
    """A home to index into, made when there is none; `to_search` one to search with its own profile.

    To search, it matters not what of the profile has changed since, as long as its encoders have not.

    `profile` None means the home's own, `lite` for a new home. Before anything is written, raises
    UsageError for an unknown name, ModelError or MissingDependency when the profile can't run here,
    PipelineConflict when the home has another one and something made by it.
    """
    chosen = load_ready_profile(profile, None) if profile is not None else None
    with open_home_catalog(settings, make=True) as catalog:
        pipeline = catalog.live_pipeline()
        if chosen is None:
            chosen = load_ready_profile(None, pipeline)
        if pipeline is None or pipeline.fingerprint != chosen.spec.fingerprint:
            pipeline = catalog.make_live(chosen.spec)
        if profile is not None or not to_search:
            check_pipeline(pipeline, chosen.spec)
        yield Home(settings, catalog, pipeline, chosen)


def load_ready_profile(name: str | None, pipeline: StoredPipeline | None) -> Profile:
    """A profile that can run here: the named one, else that of the pipeline, else the default.

    Raises UsageError for an unknown name, ModelError or MissingDependency when it can't run.
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
    """The catalog of a home, with or without a live pipeline; raises HomeError."""
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


def _profile_of(pipeline: StoredPipeline) -> Profile:
    """The profile of a home; one that this version does not know is the home's trouble, not the user's."""
    try:
        return load_profile(pipeline.profile)
    except UsageError as error:
        raise PipelineConflict(
            f"this home was indexed with the profile {pipeline.profile}, which this version lacks",
            remedy="install the version of regard that has it, or choose another --home",
        ) from error


def nothing_indexed(settings: Settings) -> HomeError:
    """What to say of a home that has no photographs."""
    return HomeError(
        f"nothing is indexed in the home {settings.home}",
        remedy="run: regard index FOLDER, or name the right --home",
    )


def require_name(collection: str) -> str:
    """A collection's name; raises UsageError for a blank one, and for bytes that are no UTF-8."""
    if not collection.strip():
        raise UsageError("the collection's name is empty", remedy="give --collection a name")
    if not is_text(collection):
        raise UsageError("the collection's name is no text", remedy="give --collection in UTF-8")
    return collection


def is_text(argument: str) -> bool:
    """Whether an argument's bytes were text; those that were not can't be stored or encoded."""
    return not any("\ud800" <= character <= "\udfff" for character in argument)
