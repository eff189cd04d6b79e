"""The Library over a home on this machine."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, Any

from regard.api.library.answers import answer_of, details_of, group_of, load_picture, region_of
from regard.api.library.home import (
    Home,
    home_engine,
    open_home,
    open_home_catalog,
    open_or_make_home,
    open_originals,
    own_folders,
)
from regard.api.library.interface import (
    DEFAULT_KINDS,
    AssetLike,
    Library,
    PathLike,
    asset_number,
    asset_numbers,
    duplicate_kinds,
    expanded,
)
from regard.api.library.queries import (
    DEFAULT_COLLECTION,
    WrittenSearch,
    collection_filter,
    filters_alone,
    longest_side,
    picture_uri,
    require_name,
    require_text,
    star_rating,
    suggestion_limit,
)
from regard.api.library.relevance import relevance_status
from regard.api.library.results import (
    Album,
    Answer,
    CollectionStatus,
    Details,
    Duplicates,
    ModelChange,
    Pipeline,
    Pipelines,
    Pruned,
    Rebuilt,
    Region,
    Status,
    Suggestion,
)
from regard.api.library.settings import Settings
from regard.core.errors import (
    AWAITED,
    CannotWork,
    DecodeError,
    EngineUnavailable,
    NotFound,
    PipelineConflict,
    RootUnavailable,
    UsageError,
)
from regard.core.filters import EVERYTHING, AssetFilter, PathPart
from regard.core.words import composed
from regard.indexer.report import SILENT, IndexReport, Progress
from regard.models.profiles.recommending import better_profile
from regard.photos.files import absolute_path, is_absolute, uri_of_path
from regard.search.answers import ImageQuery, Scope, TextQuery
from regard.search.engine import SearchEngine
from regard.search.language.planning import compose_query, intersect, read_filter, read_terms
from regard.search.language.syntax import WrittenPicture, WrittenQuery

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

    from regard.core.assets import AlbumRecord, AssetDetail
    from regard.core.geometry import Mask
    from regard.indexer.reading import ReadReport
    from regard.indexer.sidecar_writing import SidecarReport
    from regard.indexer.watching import Watch
    from regard.storage.assets.albums import SqlAlbums
    from regard.storage.assets.editing import SqlAssetEditing
    from regard.storage.assets.overview import ExclusionOverview
    from regard.storage.assets.review import SqlDuplicateReview
    from regard.storage.export.exporting import ExportReport
    from regard.storage.export.imported_rows import ImportReport
    from regard.storage.retrieval.channel_indexes import ChannelIndexes
    from regard.storage.retrieval.recall import RecallReport
    from regard.storage.retrieval.verification import Finding

_ALBUMS_AT_ONCE = 1000
_EXCLUSIONS_SHOWN = 20


class LocalLibrary(Library):
    """A library over a home; `profile` names the models to index with, None the home's own."""

    def __init__(self, settings: Settings, profile: str | None = None) -> None:
        """Nothing is opened, or made, before the first call that needs it."""
        self._settings = settings
        self._profile = profile
        self._opened = ExitStack()
        self._home: Home | None = None
        self._engine: SearchEngine | None = None
        self._is_to_index = self._is_closed = False

    def __repr__(self) -> str:
        return f"<regard library in {self._settings.home}>"

    def close(self) -> None:
        self._release()
        self._is_closed = True

    def _release(self) -> None:
        self._opened.close()
        if self._settings.ray is not None:
            from regard.indexer.ray_analysis import disconnect

            disconnect()
        self._home = self._engine = None

    def index(
        self,
        *paths: PathLike,
        collection: str = DEFAULT_COLLECTION,
        retry_failed: bool = False,
        reread: bool = False,
        exclude: Sequence[str] = (),
        include: Sequence[str] = (),
        clear_exclusions: bool = False,
        read: bool = True,
        progress: Progress = SILENT,
    ) -> IndexReport:
        from regard.api.library.reading import follow_indexing
        from regard.indexer.discover import require_root
        from regard.indexer.exclusions import ExclusionChange

        require_name(collection)
        exclusion_change = ExclusionChange(tuple(exclude), tuple(include), clear_exclusions)
        roots = expanded(paths)
        for root in roots:
            # A mistyped path must not make a home, nor choose a profile for it.
            require_root(absolute_path(root))
        home = self._home_to_index()
        if home.is_new and self._profile is None and (advice := better_profile()) is not None:
            progress.note(advice)
        progress.begin("indexing")
        report = home.indexer(collection).run(
            roots,
            retry_failed=retry_failed,
            reread=reread,
            exclusion_change=exclusion_change,
            progress=progress,
        )
        follow_indexing(home, report, progress, read=read)
        return report

    def read(self, *, progress: Progress = SILENT) -> ReadReport:
        from regard.api.library.reading import read_photographs

        home = self._live_home()
        progress.begin("reading text")
        return read_photographs(home, progress)

    def watch(
        self,
        *paths: PathLike,
        collection: str = DEFAULT_COLLECTION,
        poll: bool = False,
        read: bool = True,
        progress: Progress = SILENT,
    ) -> Iterator[IndexReport]:
        from regard.indexer.discover import require_root
        from regard.indexer.watching import Watch

        require_name(collection)
        roots = [absolute_path(root) for root in expanded(paths)]
        for root in roots:
            require_root(root)
        watch = Watch(
            lambda: self._home_to_index().indexer(collection).catalog,
            roots,
            own_folders(self._settings),
            progress,
            is_polled=poll,
        )
        return self._runs(watch, collection, progress, read=read)

    def _runs(
        self, watch: Watch, collection: str, progress: Progress, *, read: bool
    ) -> Iterator[IndexReport]:
        """Index what a watch gives; what can't be done now is done later."""
        from regard.api.library.reading import follow_indexing
        from regard.indexer.changes import QUIET_SECONDS

        is_waiting = False
        for changed in watch.changes():
            home = self._home_to_index()
            try:
                report = home.indexer(collection).run(
                    changed.roots,
                    parts=changed.parts,
                    quiet_seconds=QUIET_SECONDS,
                    exclusion_change=None,
                    progress=progress,
                )
            except (*AWAITED, RootUnavailable, PipelineConflict) as error:
                if isinstance(error, PipelineConflict) and home.is_live():
                    raise
                if not is_waiting:
                    progress.note(f"{error.message}; it is tried again")
                is_waiting = True
                watch.again(changed)
                continue
            is_waiting = False
            follow_indexing(home, report, progress, read=read)
            yield report

    def remove(self, *paths: PathLike, collection: str = DEFAULT_COLLECTION) -> int:
        from regard.indexer.removing import remove_assets

        require_name(collection)
        home = self._live_home()
        catalog = home.indexer(collection).catalog
        return remove_assets(catalog, home.indexes, expanded(paths))

    def write_metadata(
        self,
        query: str | None = None,
        *,
        collection: str | None = None,
        dry_run: bool = False,
        progress: Progress = SILENT,
    ) -> SidecarReport:
        from regard.indexer.sidecar_writing import write_sidecars
        from regard.storage.assets.collections import SqlCollections
        from regard.storage.assets.edited import SqlEditedAssets

        assets, written = collection_filter(collection), filters_alone(query)
        home = self._live_home()
        if collection is not None:
            SqlCollections(home.catalog).named(collection)
        assets = intersect(assets, self._filter(written, assets))
        progress.begin("writing sidecars")
        return write_sidecars(
            SqlEditedAssets(home.catalog, assets), dry_run=dry_run, progress=progress
        )

    def _search(self, search: WrittenSearch, scope: Scope) -> Answer:
        terms = read_terms(search.query, _decoded)
        assets = intersect(scope.filter, self._filter(search.query, scope.filter))
        scope = dataclasses.replace(scope, filter=assets)
        found = self._search_engine().search(compose_query(terms), scope)
        return answer_of(found, search.described, self._mask)

    def _filter(self, query: WrittenQuery, within: AssetFilter) -> AssetFilter:
        from regard.api.library.albums import AlbumFilters

        if not query.conditions:
            return EVERYTHING
        albums = AlbumFilters(self._albums(), self._search_engine, _path_filter, within)
        return read_filter(query, _path_filter, albums)

    def _search_texts(self, texts: Sequence[str], scope: Scope) -> list[Answer | UsageError]:
        engine = self._search_engine()
        queries = [_text_query(text) for text in texts]
        answers = iter(
            engine.search_texts([one for one in queries if isinstance(one, TextQuery)], scope)
        )
        return [
            answer_of(next(answers), {}, self._mask) if isinstance(query, TextQuery) else query
            for query in queries
        ]

    def suggest(self, text: str, limit: int = 10) -> list[Suggestion]:
        from regard.api.library.suggesting import Suggestions

        text, limit = require_text(text), suggestion_limit(limit)
        found = Suggestions(self._live_home().catalog).read(text, limit)
        return [Suggestion(one.kind.value, one.value, one.query) for one in found]

    def albums(self) -> list[Album]:
        store = self._albums()
        found: list[AlbumRecord] = []
        while page := store.page(after=found[-1].name if found else None, limit=_ALBUMS_AT_ONCE):
            found += page
        return [Album(one.name, one.query, one.assets) for one in found]

    def create_album(self, name: str, query: str | None = None) -> Album:
        from regard.api.library.albums import require_saved

        name = require_name(name, "album")
        if query is not None:
            require_saved(require_text(query), _path_filter)
        made = self._albums().create(name, query)
        return Album(made.name, made.query, made.assets)

    def change_album(
        self,
        name: str,
        *,
        add: str | Iterable[AssetLike] = (),
        remove: str | Iterable[AssetLike] = (),
    ) -> int:
        store = self._albums()
        album = store.named(composed(name)).id
        joining, leaving = (set(asset_numbers(chosen)) for chosen in (add, remove))
        return store.change(album, add=joining, remove=leaving)

    def rename_album(self, name: str, new_name: str) -> Album:
        store = self._albums()
        number = store.named(composed(name)).id
        made = store.edit(number, name=require_name(new_name, "album"))
        return Album(made.name, made.query, made.assets)

    def delete_album(self, name: str) -> None:
        store = self._albums()
        store.delete(store.named(composed(name)).id)

    def _albums(self) -> SqlAlbums:
        from regard.storage.assets.albums import SqlAlbums

        return SqlAlbums(self._live_home().catalog)

    def duplicates(
        self,
        kinds: str | Iterable[str] = DEFAULT_KINDS,
        *,
        collection: str | None = None,
        progress: Progress = SILENT,
    ) -> Duplicates:
        from regard.api.library.duplicates import HomeDuplicates
        from regard.storage.assets.collections import SqlCollections

        assets, wanted = collection_filter(collection), duplicate_kinds(kinds)
        home = self._live_home()
        if collection is not None:
            SqlCollections(home.catalog).named(collection)
        parts = HomeDuplicates(home)
        progress.begin("reading")
        progress.expect(parts.store.count_unsigned())
        report = parts.sign(progress=progress)
        progress.begin("comparing")
        progress.expect(parts.finder.waiting(wanted))
        groups = []
        if parts.finder.compare(wanted, should_stop=progress.should_stop, advance=progress.advance):
            for kind in wanted:
                for group in parts.finder.groups(kind, assets):
                    if progress.should_stop():
                        break
                    groups.append(group_of(group))
        if progress.should_stop():
            return Duplicates(interrupted=True)
        return Duplicates(tuple(groups), tuple(report.unusable))

    def merge_duplicates(self, keep: AssetLike, discard: str | Iterable[AssetLike]) -> int:
        return self._review().merge(asset_number(keep), asset_numbers(discard))

    def mark_distinct(self, assets: str | Iterable[AssetLike], *, distinct: bool = True) -> int:
        return self._review().mark_distinct(asset_numbers(assets), distinct=distinct)

    def _review(self) -> SqlDuplicateReview:
        from regard.storage.assets.review import SqlDuplicateReview

        return SqlDuplicateReview(self._live_home().catalog)

    def stack(self, assets: str | Iterable[AssetLike]) -> int:
        return self._editing().stack(asset_numbers(assets))

    def unstack(self, assets: str | Iterable[AssetLike]) -> int:
        return self._editing().unstack(asset_numbers(assets))

    def restack(self, assets: str | Iterable[AssetLike]) -> int:
        return self._editing().restack(asset_numbers(assets))

    def _editing(self) -> SqlAssetEditing:
        from regard.storage.assets.editing import SqlAssetEditing

        return SqlAssetEditing(self._live_home().catalog)

    def details(self, asset: AssetLike) -> Details:
        return details_of(self._detail(asset))

    def rate(self, assets: AssetLike | Iterable[AssetLike], rating: int) -> None:
        from regard.storage.assets.editing import SqlAssetEditing

        numbers, stars = asset_numbers(assets), star_rating(rating)
        SqlAssetEditing(self._live_home().catalog).rate(numbers, stars)

    def regions(self, asset: AssetLike) -> list[Region]:
        detail = self._detail(asset)
        return [region_of(region, self._mask) for region in (*detail.regions, *detail.texts)]

    def _detail(self, asset: AssetLike) -> AssetDetail:
        from regard.storage.assets.reading import SqlAssetReading

        home = self._live_home()
        return SqlAssetReading(home.catalog, home.pipeline).detail(asset_number(asset))

    def _mask(self, region: int) -> Mask:
        from regard.storage.assets.reading import SqlAssetReading

        return SqlAssetReading(self._live_home().catalog).mask(region)

    def picture(self, asset: AssetLike, longest: int = 512) -> Picture:
        from regard.storage.assets.reading import SqlAssetReading

        record = SqlAssetReading(self._live_home().catalog).get(asset_number(asset))
        return load_picture(record.path, record.poster_ms, longest_side(longest))

    def motion_video(self, asset: AssetLike) -> bytes:
        from regard.photos.decoding import DEFAULT_LIMITS
        from regard.photos.files import read_file
        from regard.photos.photo_file import motion_video_offset
        from regard.storage.assets.reading import SqlAssetReading

        record = SqlAssetReading(self._live_home().catalog).get(asset_number(asset))
        data = read_file(record.path, DEFAULT_LIMITS.max_bytes)
        begin = motion_video_offset(data)
        if begin is None:
            raise NotFound(
                f"the photograph a{record.id} has no video in its file",
                remedy="ask for those whose facts have a motion_video_offset",
            )
        return data[begin:]

    def status(self) -> Status:
        from regard.storage.assets.overview import read_overview
        from regard.storage.service.webhooks import SqlWebhooks

        home = self._live_home()
        overview = read_overview(home.catalog)
        channels: Mapping[str, Mapping[str, Any]] = {}
        away = []
        try:
            channels = home.indexes.stored_stats()
        except EngineUnavailable as error:
            away = [f"  indexes: {error}"]
        kept = _pipelines(home.catalog)
        relevance = relevance_status(home)
        webhooks = SqlWebhooks(home.catalog).list()
        pipeline, location = home.pipeline, uri_of_path(os.fsencode(self._settings.home))
        details = {
            "home": location,
            "profile": pipeline.profile,
            "pipeline": pipeline.fingerprint,
            **dataclasses.asdict(overview),
            "relevance": relevance.to_json(),
            "channels": channels,
            "pipelines": [one.to_json() for one in kept],
            "webhooks": [one.to_json() for one in webhooks],
        }
        lines = [
            f"home     {location}",
            f"profile  {pipeline.profile} ({pipeline.fingerprint[:16]})",
            *(
                f"  collection {one.name}: {one.indexed} photographs"
                + (f", {one.failed} failed" if one.failed else "")
                for one in overview.collections
            ),
            *_exclusion_lines(overview.exclusions),
            str(relevance),
            f"  {overview.contents} contents, {overview.regions} regions, "
            f"{overview.captions} captions, {overview.embeddings} embeddings",
            f"  {overview.lines} lines of text in {overview.read} contents that were read",
            *(map(str, kept) if len(kept) > 1 else ()),
            *(
                f"  index {name}: {stats['rows']} rows"
                + (f" in {stats['segments']} segments" if "segments" in stats else "")
                for name, stats in channels.items()
            ),
            *away,
            *(f"  {one}" for one in webhooks if one.failures),
        ]
        return Status(
            location,
            pipeline.profile,
            tuple(
                CollectionStatus(one.name, one.indexed + one.failed, failed=one.failed)
                for one in overview.collections
            ),
            overview.contents,
            overview.regions,
            overview.captions,
            overview.embeddings,
            details,
            tuple(lines),
        )

    def verify(self) -> list[Finding]:
        from regard.storage.retrieval.read_words import verify_read_words
        from regard.storage.retrieval.verification import verify_catalog, verify_keywords

        home = self._live_home()
        return [
            *verify_catalog(home.catalog, home.pipeline),
            *(finding for indexes in _all_indexes(home) for finding in indexes.verify()),
            *verify_keywords(home.catalog.database),
            *verify_read_words(home.catalog.database),
        ]

    def measure_recall(self) -> RecallReport:
        return self._live_home().indexes.measure_recall()

    def rebuild(self) -> Rebuilt:
        from regard.storage.retrieval.read_words import rebuild_read_words
        from regard.storage.retrieval.verification import rebuild_counts, rebuild_keywords

        home = self._live_home()
        rebuild_counts(home.catalog.database)
        rebuild_read_words(home.catalog.database)
        stats: list[int] = []
        with ThreadPoolExecutor(1) as pool:
            keywords = pool.submit(rebuild_keywords, home.catalog.database)
            for indexes in _all_indexes(home):
                indexes.rebuild()
                stats += [int(one["rows"]) for one in indexes.stats().values()]
            keywords.result()
        return Rebuilt(sum(stats), len(stats))

    def pipelines(self) -> Pipelines:
        with open_home_catalog(self._settings, make=False) as catalog:
            return Pipelines(tuple(_pipelines(catalog)))

    def reindex(self, profile: str | None = None, *, progress: Progress = SILENT) -> ModelChange:
        from regard.api.library.reindexing import is_live, reindex, target_profile

        with open_home_catalog(self._settings, make=False) as catalog:
            target = target_profile(self._settings, catalog, profile)
            was_live = is_live(catalog, target)
            progress.begin("reindexing")
            report = reindex(
                self._settings,
                catalog,
                target,
                progress=progress,
            )
        return ModelChange(
            target.name,
            target.spec.fingerprint,
            live=not report.interrupted,
            was_live=was_live,
            failed=len(report.failures),
            interrupted=report.interrupted,
            report=report,
        )

    def rollback(self, *, at_once: bool = False, progress: Progress = SILENT) -> ModelChange:
        from regard.api.library.reindexing import reindex, target_profile
        from regard.storage.pipelines.states import roll_back

        with open_home_catalog(self._settings, make=False) as catalog:
            found = roll_back(catalog, at_once=at_once)
            missing, interrupted = found.missing, False
            if not found.is_live:
                progress.note(f"{missing} photographs are analysed first")
                progress.begin("catching up")
                report = reindex(
                    self._settings,
                    catalog,
                    target_profile(self._settings, catalog, found.pipeline.profile),
                    only=found.pipeline.fingerprint,
                    progress=progress,
                )
                missing, interrupted = len(report.failures), report.interrupted
        return ModelChange(
            found.pipeline.profile,
            found.pipeline.fingerprint,
            live=not interrupted,
            missing=missing,
            interrupted=interrupted,
        )

    def prune(
        self,
        pipelines: Sequence[str] = (),
        *,
        unfinished: bool = False,
        progress: Progress = SILENT,
    ) -> Pruned:
        from regard.storage.pipelines.pruning import prune

        progress.begin("deleting")
        with open_home_catalog(self._settings, make=False) as catalog:
            gone = prune(
                catalog,
                home_engine(self._settings, catalog),
                pipelines,
                unfinished=unfinished,
                should_stop=progress.should_stop,
            )
        return Pruned(tuple(gone), interrupted=progress.should_stop())

    def export(
        self, folder: str | os.PathLike[str], collections: Sequence[str] = ()
    ) -> ExportReport:
        from pathlib import Path

        from regard.storage.export.exporting import export_catalog

        for name in collections:
            require_name(name)
        with open_home_catalog(self._settings, make=False) as catalog:
            return export_catalog(catalog, Path(folder).expanduser(), collections)

    def import_(
        self, folder: str | os.PathLike[str], *, progress: Progress = SILENT
    ) -> ImportReport:
        from pathlib import Path

        from regard.storage.export.checking import open_export
        from regard.storage.export.importing import import_catalog

        # A mistyped path, or an export that can't be used, must not make a home.
        checked = open_export(Path(folder).expanduser())
        progress.begin("importing")
        progress.expect(checked.export.content_count)
        with open_home_catalog(self._settings, make=True) as catalog:
            report = import_catalog(
                catalog,
                checked,
                place_of=open_originals(self._settings, catalog).path_of,
                should_stop=progress.should_stop,
                advance=progress.advance,
            )
            live = catalog.live_pipeline()
            if live is not None:
                indexes = Home(self._settings, catalog, live).indexes
                indexes.catch_up()
                indexes.snapshot()
        return report

    def _live_home(self) -> Home:
        """The home under its live pipeline, which another process may have changed."""
        if self._home is None or not self._home.is_live():
            self._open(open_home(self._settings))
            self._is_to_index = False
        assert self._home is not None
        return self._home

    def _home_to_index(self) -> Home:
        """The home, made where there is none, with models that may write into it."""
        if not self._is_to_index or self._home is None or not self._home.is_live():
            self._open(open_or_make_home(self._settings, self._profile))
            self._is_to_index = True
        assert self._home is not None
        return self._home

    def _search_engine(self) -> SearchEngine:
        home = self._live_home()
        if self._engine is None:
            self._engine = home.engine()
        return self._engine

    def _open(self, opening: AbstractContextManager[Home]) -> None:
        if self._is_closed:
            raise CannotWork("the library was closed", remedy="open it again")
        self._release()
        self._home = self._opened.enter_context(opening)


def _pipelines(catalog: object) -> list[Pipeline]:
    from regard.storage.pipelines.states import read_pipelines

    return [Pipeline(**one.to_json()) for one in read_pipelines(catalog)]  # type: ignore[arg-type]


def _exclusion_lines(exclusions: Sequence[ExclusionOverview]) -> list[str]:
    """The newest exclusions, and how many more there are."""
    older = len(exclusions) - _EXCLUSIONS_SHOWN
    more = [f"  and {older} more, see: regard status --json"] if older > 0 else []
    return [*(f"  {one}" for one in exclusions[-_EXCLUSIONS_SHOWN:]), *more]


def _all_indexes(home: Home) -> Iterator[ChannelIndexes]:
    """The indexes of the live pipeline, of those that are kept, and of the one being built."""
    from regard.storage.retrieval.channel_indexes import ChannelIndexes

    for pipeline in home.catalog.pipelines():
        if pipeline.id == home.pipeline.id:
            yield home.indexes
        else:
            yield ChannelIndexes(home.catalog, pipeline, home.indexes.engine)


def _text_query(text: str) -> TextQuery | UsageError:
    try:
        return TextQuery(text)
    except UsageError as error:
        return error


def _decoded(written: WrittenPicture) -> ImageQuery:
    from regard.photos.photo_file import decode_file

    uri = picture_uri(written.name)
    try:
        return ImageQuery(decode_file(os.fsencode(written.name)), uri, written.box)
    except DecodeError as error:
        raise DecodeError(f"{uri} can't be used: {error.message}") from error


def _path_filter(text: str) -> AssetFilter:
    """What `path:` means on a home: an absolute path, or successive folders anywhere."""
    if is_absolute(text):
        return AssetFilter(path_prefixes=(absolute_path(text),))
    return AssetFilter(path_parts=(PathPart(os.fsencode(text)),))
