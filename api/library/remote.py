"""The Library over a server.

What the server refuses is raised as the error that a home would raise in its place: UsageError for
wrong arguments, NotFound, Conflict or NameTaken, else CannotWork.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from regard.api.client import Client, Filters, ServerProblem
from regard.api.client.jobs import ENDED
from regard.api.client.searching import SearchOptions
from regard.api.library.interface import (
    DEFAULT_KINDS,
    AssetLike,
    Library,
    PathLike,
    asset_id,
    asset_ids,
    duplicate_kinds,
    expanded,
)
from regard.api.library.queries import (
    DEFAULT_COLLECTION,
    WrittenSearch,
    longest_side,
    picture_uri,
    require_name,
    require_text,
    star_rating,
    suggestion_limit,
)
from regard.api.library.results import (
    Album,
    Answer,
    Asset,
    CollectionStatus,
    Details,
    DuplicateGroup,
    DuplicateMember,
    Duplicates,
    Hit,
    ModelChange,
    Pipeline,
    Pipelines,
    Pruned,
    Rebuilt,
    RefinedRegion,
    Region,
    Stack,
    Status,
    Suggestion,
)
from regard.api.library.sending import Sending
from regard.api.schemas import (
    AlbumDocument,
    AssetDocument,
    ChannelDocument,
    DuplicateGroupDocument,
    HitDocument,
    HitRegion,
    JobDocument,
    RefinedDocument,
    RegionDocument,
)
from regard.core.errors import (
    CannotWork,
    Conflict,
    DecodeError,
    MalformedQuery,
    NameTaken,
    NotFound,
    UnanswerableQuery,
    UsageError,
)
from regard.core.geometry import Mask
from regard.core.words import composed
from regard.indexer.exclusions import ExclusionChange
from regard.indexer.reading import ReadReport
from regard.indexer.report import SILENT, IndexReport, Progress
from regard.search.answers import ChannelMatch, Scope, WordMatch
from regard.search.language.printing import print_query
from regard.search.language.syntax import WrittenPicture, WrittenQuery

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

    from regard.storage.export.exporting import ExportReport
    from regard.storage.export.imported_rows import ImportReport
    from regard.storage.retrieval.recall import RecallReport
    from regard.storage.retrieval.verification import Finding

KEY_VARIABLE = "REGARD_API_KEY"
_WRONG_ARGUMENTS: Mapping[str, type[UsageError]] = {
    "validation": UsageError,
    "unanswerable-query": UnanswerableQuery,
    "malformed-query": UsageError,
}
_SAME_ERRORS: Mapping[str, type[CannotWork]] = {
    "not-found": NotFound,
    "name-taken": NameTaken,
    "conflict": Conflict,
}
_PICTURE_PROBLEMS = frozenset({"unusable-image", "unsupported-media", "too-large"})
_PICTURE_FIELDS = frozenset({"image", "negative_image"})
_THUMBNAILS = (256, 512, 1024)
# Every server answers this many hits in one page.
_PAGE = 100
_REFINED_PAGE = 4
_JOBS_SHOWN = 5
_LOOK_SECONDS = 0.2


class RemoteLibrary(Library):
    """A library over the server at `url`; `key` is needed where the server asks for one."""

    def __init__(self, url: str, key: str | None = None, profile: str | None = None) -> None:
        """Nothing is sent yet. Raises UsageError for what is not a server's address or a key."""
        if profile is not None:
            raise UsageError("a server has its models already", remedy="leave out --profile")
        self._client = Client(url, key)

    def __repr__(self) -> str:
        return f"<regard library at {self._client.url}>"

    def close(self) -> None:
        self._client.close()

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
        if not read:
            raise UsageError(
                "a server reads the text in photographs by its profile",
                remedy="leave out --no-read",
            )
        if reread:
            raise UsageError(
                "a server reads the metadata of its files again as a job",
                remedy="start it by the HTTP API: POST /v1/jobs, reindex with reread",
            )
        require_name(collection)
        with _problems():
            exclusion_change = ExclusionChange(tuple(exclude), tuple(include), clear_exclusions)
            sending = Sending(self._client, collection, progress, exclusion_change)
            return sending.run(expanded(paths))

    def watch(
        self,
        *paths: PathLike,
        collection: str = DEFAULT_COLLECTION,
        poll: bool = False,
        read: bool = True,
        progress: Progress = SILENT,
    ) -> NoReturn:
        raise UsageError(
            "a server watches its own folders",
            remedy="start it with: regard serve --import DIR --watch",
        )

    def read(self, *, progress: Progress = SILENT) -> ReadReport:
        with _problems():
            job = self._follow(self._client.jobs.read(), "reading text", progress)
        report = job.report or {}
        return ReadReport(
            read=report.get("read", 0),
            lines=report.get("lines", 0),
            seconds=report.get("seconds", 0.0),
            interrupted=job.state not in ENDED,
        )

    def remove(self, *paths: PathLike, collection: str = DEFAULT_COLLECTION) -> NoReturn:
        raise _works_on_homes("remove")

    def write_metadata(
        self,
        query: str | None = None,
        *,
        collection: str | None = None,
        dry_run: bool = False,
        progress: Progress = SILENT,
    ) -> NoReturn:
        raise _works_on_homes("write-metadata")

    def _search(self, search: WrittenSearch, scope: Scope) -> Answer:
        query, files = _numbered(search.query)
        uris = [picture_uri(name) for name in files]
        options: SearchOptions = {**_options(scope), "query": print_query(query), "images": files}
        with _problems():
            try:
                answer = self._all_pages(None, options, scope.limit)
            except OSError as error:
                raise DecodeError(f"{' or '.join(uris)} can't be used: {error.strerror}") from error
            except ServerProblem as problem:
                if uris and problem.name in _PICTURE_PROBLEMS:
                    raise DecodeError(
                        f"{' or '.join(uris)} can't be used: {problem.detail}"
                    ) from problem
                if problem.position is not None and options["query"] == search.text:
                    raise MalformedQuery(
                        problem.detail,
                        position=problem.position,
                        length=problem.length or 0,
                        remedy=problem.remedy,
                    ) from problem
                raise
        shown = _with_names(answer.query, uris) | search.described
        return dataclasses.replace(answer, query=shown)

    def _search_texts(self, texts: Sequence[str], scope: Scope) -> list[Answer | UsageError]:
        answers: list[Answer | UsageError] = []
        with _problems():
            for text in texts:
                try:
                    if not text.strip():
                        raise UsageError("the query is empty")
                    answers.append(self._all_pages(text, _options(scope), scope.limit))
                except UsageError as error:
                    answers.append(error)
                except ServerProblem as problem:
                    if problem.name not in _WRONG_ARGUMENTS:
                        raise
                    answers.append(UsageError(problem.detail, remedy=problem.remedy))
        return answers

    def suggest(self, text: str, limit: int = 10) -> list[Suggestion]:
        with _problems():
            found = self._client.suggest(require_text(text), suggestion_limit(limit))
        return [Suggestion(one.kind, one.value, one.query) for one in found]

    def albums(self) -> list[Album]:
        with _problems():
            return [_album(one) for one in self._client.albums.iterate()]

    def create_album(self, name: str, query: str | None = None) -> Album:
        if query is not None:
            require_text(query)
        with _problems():
            return _album(self._client.albums.create(require_name(name, "album"), query))

    def change_album(
        self,
        name: str,
        *,
        add: str | Iterable[AssetLike] = (),
        remove: str | Iterable[AssetLike] = (),
    ) -> int:
        joining, leaving = (asset_ids(chosen) for chosen in (add, remove))
        with _problems():
            return self._client.albums.change(self._album_id(name), add=joining, remove=leaving)

    def rename_album(self, name: str, new_name: str) -> Album:
        with _problems():
            id = self._album_id(name)
            return _album(self._client.albums.edit(id, name=require_name(new_name, "album")))

    def delete_album(self, name: str) -> None:
        with _problems():
            self._client.albums.delete(self._album_id(name))

    def _album_id(self, name: str) -> str:
        named = composed(name)
        for one in self._client.albums.iterate():
            if one.name == named:
                return one.id
        raise NotFound(f"no album is named {name}", remedy="see: regard albums list")

    def duplicates(
        self,
        kinds: str | Iterable[str] = DEFAULT_KINDS,
        *,
        collection: str | None = None,
        progress: Progress = SILENT,
    ) -> Duplicates:
        within = [] if collection is None else [require_name(collection)]
        wanted = [kind.value for kind in duplicate_kinds(kinds)]
        ask = partial(self._client.duplicates.list, wanted, collection=within)  # type: ignore[arg-type]
        groups: list[DuplicateGroup] = []
        with _problems():
            while ask(limit=1).waiting:
                if progress.should_stop():
                    return Duplicates(interrupted=True)
                time.sleep(_LOOK_SECONDS)
            cursor = None
            while True:
                page = ask(limit=_PAGE, cursor=cursor)
                groups += map(self._group, page.groups)
                cursor = page.next
                if progress.should_stop():
                    return Duplicates(interrupted=True)
                if cursor is None:
                    return Duplicates(tuple(groups), left_out=page.left_out)

    def merge_duplicates(self, keep: AssetLike, discard: str | Iterable[AssetLike]) -> int:
        kept, others = asset_id(keep), asset_ids(discard)
        with _problems():
            return self._client.duplicates.merge(kept, others)

    def mark_distinct(self, assets: str | Iterable[AssetLike], *, distinct: bool = True) -> int:
        ids = asset_ids(assets)
        with _problems():
            return self._client.duplicates.mark_distinct(ids, distinct=distinct)

    def stack(self, assets: str | Iterable[AssetLike]) -> int:
        with _problems():
            return self._client.assets.bulk(asset_ids(assets), "stack").done

    def unstack(self, assets: str | Iterable[AssetLike]) -> int:
        with _problems():
            return self._client.assets.bulk(asset_ids(assets), "unstack").done

    def restack(self, assets: str | Iterable[AssetLike]) -> int:
        with _problems():
            return self._client.assets.bulk(asset_ids(assets), "restack").done

    def details(self, asset: AssetLike) -> Details:
        with _problems():
            found = self._client.assets.get(asset_id(asset))
        return Details(
            self._asset(found),
            found.state,
            found.title,
            tuple(found.tags),
            found.camera,
            found.taken_at,
            found.taken_precision,
            found.facts.model_dump(),
            tuple(album.name for album in found.albums),
        )

    def rate(self, assets: AssetLike | Iterable[AssetLike], rating: int) -> None:
        ids, stars = asset_ids(assets), star_rating(rating)
        if not ids:
            return
        with _problems():
            self._client.assets.bulk(ids, "rate", rating=stars)

    def regions(self, asset: AssetLike) -> list[Region]:
        with _problems():
            found = self._client.assets.get(asset_id(asset))
        return [self._region(one) for one in (*found.regions, *found.texts)]

    def picture(self, asset: AssetLike, longest: int = 512) -> Picture:
        return self._load_picture(asset_id(asset), longest_side(longest))

    def motion_video(self, asset: AssetLike) -> bytes:
        with _problems():
            return self._client.assets.motion(asset_id(asset))

    def status(self) -> Status:
        client = self._client
        with _problems():
            info = client.info()
            collections = list(client.collections.iterate())
            jobs = client.jobs.list(limit=_JOBS_SHOWN).items
        counts = info.counts
        details = {
            "server": client.url,
            **info.model_dump(mode="json"),
            "collections": [one.model_dump(mode="json") for one in collections],
            "jobs": [job.model_dump(mode="json") for job in jobs],
        }
        kept = tuple(
            CollectionStatus(one.name, one.assets, one.pending, one.failed, one.trashed)
            for one in collections
        )
        lines = [
            f"server   {client.url}, regard {info.version}, as {info.scope}",
            f"profile  {info.profile}",
            *map(_collection_line, kept),
            f"  {counts.contents} contents, {counts.regions} regions, "
            f"{counts.captions} captions, {counts.embeddings} embeddings",
            *(f"  job {job.id}: {_job_line(job)}" for job in jobs),
        ]
        return Status(
            client.url,
            info.profile,
            kept,
            counts.contents,
            counts.regions,
            counts.captions,
            counts.embeddings,
            details,
            tuple(lines),
        )

    def verify(self) -> list[Finding]:
        raise _works_on_homes("verify")

    def measure_recall(self) -> RecallReport:
        raise _works_on_homes("verify --recall")

    def rebuild(self) -> Rebuilt:
        raise _works_on_homes("rebuild")

    def pipelines(self) -> Pipelines:
        with _problems():
            found = self._client.pipelines.list()
        items = (Pipeline(**one.model_dump(mode="json")) for one in found.items)
        return Pipelines(tuple(items), found.serving)

    def reindex(self, profile: str | None = None, *, progress: Progress = SILENT) -> ModelChange:
        if profile is not None:
            require_text(profile, "profile")
        with _problems():
            job = self._client.pipelines.reindex(profile)
            return self._changed(job, "reindexing", progress)

    def rollback(self, *, at_once: bool = False, progress: Progress = SILENT) -> ModelChange:
        with _problems():
            found = self._client.pipelines.roll_back(at_once=at_once)
            if not found.live:
                progress.note(f"{found.missing} photographs are analysed first")
                change = self._changed(found.jobs[0], "catching up", progress)
                return dataclasses.replace(
                    change, profile=found.profile, fingerprint=found.fingerprint
                )
        return ModelChange(found.profile, found.fingerprint, live=True, missing=found.missing)

    def prune(
        self,
        pipelines: Sequence[str] = (),
        *,
        unfinished: bool = False,
        progress: Progress = SILENT,
    ) -> Pruned:
        with _problems():
            before = [one.fingerprint for one in self._client.pipelines.list().items]
            job = self._client.pipelines.prune(pipelines, unfinished=unfinished)
            job = self._follow(job, "deleting", progress)
            after = {one.fingerprint for one in self._client.pipelines.list().items}
        gone = tuple(one for one in before if one not in after)
        return Pruned(gone, job.state not in ENDED, job.model_dump(mode="json"))

    def export(
        self, folder: str | os.PathLike[str], collections: Sequence[str] = ()
    ) -> ExportReport:
        raise _works_on_homes("export")

    def import_(
        self, folder: str | os.PathLike[str], *, progress: Progress = SILENT
    ) -> ImportReport:
        raise _works_on_homes("import")

    def _changed(self, job: JobDocument, stage: str, progress: Progress) -> ModelChange:
        job = self._follow(job, stage, progress)
        is_done = job.state in ENDED
        return ModelChange(
            job.profile,
            None,
            live=is_done,
            failed=job.failed,
            interrupted=not is_done,
            job=job.model_dump(mode="json"),
            message=job.message,
        )

    def _follow(self, job: JobDocument, stage: str, progress: Progress) -> JobDocument:
        """The job when it has ended, or as it is when stopped; raises CannotWork if it failed."""
        progress.begin(stage)
        seen = 0
        while job.state not in ENDED:
            if progress.should_stop():
                progress.note(f"the server continues job {job.id}")
                return job
            time.sleep(_LOOK_SECONDS)
            job = self._client.jobs.get(job.id)
            if job.total is not None:
                progress.expect(job.total)
            progress.advance(max(0, job.done - seen))
            seen = max(seen, job.done)
        if job.state != "done":
            raise CannotWork(
                job.message or f"the job {job.id} was cancelled",
                remedy="repair that, and run the command again",
            )
        return job

    def _all_pages(self, text: str | None, options: SearchOptions, limit: int) -> Answer:
        """An answer, from as many pages as its limit takes."""
        page = limit if limit <= _PAGE else min(limit, self._client.info().limits.hits)
        if options.get("refine"):
            # Each hit may take the server seconds, and it must not be silent for long.
            page = min(page, _REFINED_PAGE)
        answer = self._client.search(text, limit=page, **options)
        hits, took_ms, matched = answer.hits, answer.took_ms, answer.matched
        while answer.next is not None and len(hits) < limit:
            size = min(page, limit - len(hits))
            answer = self._client.search(text, limit=size, cursor=answer.next, **options)
            hits, took_ms = hits + answer.hits, took_ms + answer.took_ms
        return Answer(
            answer.query,
            took_ms,
            matched,
            tuple(map(self._hit, hits)),
            tuple(answer.unknown_words),
            answer.relevance_source,
        )

    def _load_picture(self, id: str, longest: int) -> Picture:
        return self._load(self._client.assets.thumbnail, id, longest)

    @staticmethod
    def _load(fetch: Callable[..., bytes], id: str, longest: int) -> Picture:
        from PIL import Image

        size = next((size for size in _THUMBNAILS if size >= longest), _THUMBNAILS[-1])
        with _problems():
            try:
                data = fetch(id, size)
            except ServerProblem as problem:
                if problem.name == "not-found":
                    raise
                raise DecodeError(problem.detail) from problem
        picture = Image.open(io.BytesIO(data)).convert("RGB")
        picture.thumbnail((longest, longest))
        return picture

    def _hit(self, hit: HitDocument) -> Hit:
        region = hit.region
        return Hit(
            hit.rank,
            hit.score,
            hit.relevance,
            self._asset(hit.asset, region),
            None if region is None else self._region(region),
            tuple(map(_match, hit.channels)),
            None if hit.refined is None else _refined(hit.refined),
        )

    def _region(self, region: RegionDocument | HitRegion) -> Region:
        return Region(
            region.id,
            _bbox(region.bbox),
            region.area,
            region.caption,
            region.text,
            getattr(region, "score", None),
            partial(self._load_mask, region.id),
            region.time_ms,
        )

    def _load_mask(self, id: str) -> Mask:
        with _problems():
            runs = self._client.regions.mask_run_lengths(id)
        return Mask(*runs.size, runs.counts.encode("ascii"))

    def _group(self, group: DuplicateGroupDocument) -> DuplicateGroup:
        members = (
            DuplicateMember(self._asset(member.asset), member.similarity, member.region)
            for member in group.members
        )
        return DuplicateGroup(group.kind, group.keeper, tuple(group.reasons), tuple(members))

    def _asset(self, asset: AssetDocument, region: HitRegion | None = None) -> Asset:
        load_picture = partial(self._load_picture, asset.id)
        if region is not None and region.time_ms is not None:
            # That of the moment that matched.
            load_picture = partial(self._load, self._client.regions.crop, region.id)
        # The server gives its own URLs as paths.
        is_own = asset.uri == asset.urls.original
        uri = f"{self._client.url}/v1/assets/{asset.id}/original" if is_own else asset.uri
        return Asset(
            asset.id,
            uri,
            asset.width or 0,
            asset.height or 0,
            asset.caption,
            path=uri.encode(),
            format=asset.format,
            size=asset.size,
            collection=asset.collection.name,
            duration_ms=asset.duration_ms,
            stack=None if asset.stack is None else Stack(asset.stack.id, asset.stack.count),
            load_picture=load_picture,
        )


@contextlib.contextmanager
def _problems() -> Iterator[None]:
    """Raise problems of the server in the block as the errors of a library."""
    try:
        yield
    except ServerProblem as problem:
        if problem.name in _WRONG_ARGUMENTS:
            error = _WRONG_ARGUMENTS[problem.name]
            raise error(problem.detail, remedy=problem.remedy) from problem
        if problem.name in _SAME_ERRORS:
            raise _SAME_ERRORS[problem.name](problem.detail, remedy=problem.remedy) from problem
        if problem.status == 401:
            problem.remedy = (
                f"give a key with --key-file FILE, {KEY_VARIABLE} or regard.open(URL, key=KEY); "
                "regard keys create makes one"
            )
        elif problem.name == "scope-missing" and problem.remedy is None:
            problem.remedy = "use a key with that scope; regard keys create --scope makes one"
        raise


def _works_on_homes(operation: str) -> UsageError:
    return UsageError(
        f"{operation} works on a home and not on a server",
        remedy="open the home itself: --home DIR instead of --server, or regard.open(DIR)",
    )


def _numbered(query: WrittenQuery) -> tuple[WrittenQuery, list[str]]:
    """The query with numbers in place of its pictures' names, and the files in that order."""
    files: dict[str, int] = {}
    terms = []
    for term in query.terms:
        what = term.what
        if isinstance(what, WrittenPicture):
            number = files.setdefault(what.name, len(files) + 1)
            what = dataclasses.replace(what, name=str(number))
        terms.append(dataclasses.replace(term, what=what))
    return dataclasses.replace(query, terms=tuple(terms)), list(files)


def _with_names(query: Mapping[str, Any], uris: Sequence[str]) -> dict[str, Any]:
    """What the answer says of the query, with the pictures' URIs in place of their numbers."""
    shown = {name: value for name, value in query.items() if name not in {"query", "parts"}}
    if "any_of" in shown:
        shown["any_of"] = [_with_names(one, uris) for one in shown["any_of"]]
    for name in _PICTURE_FIELDS & shown.keys():
        numbers = shown[name]
        if isinstance(numbers, list):
            shown[name] = [uris[int(number) - 1] for number in numbers]
        else:
            shown[name] = uris[int(numbers) - 1]
    return shown


def _options(scope: Scope) -> SearchOptions:
    collections = scope.filter.collections
    filters = None if collections is None else Filters(collection=collections)
    return SearchOptions(
        target=scope.target.value,
        filters=filters,
        min_relevance=scope.min_relevance,
        exact=scope.exact,
        refine=scope.refined_ranks > 0,
        sort=scope.order.value,
        fold_stacks=scope.fold_stacks,
    )


def _album(album: AlbumDocument) -> Album:
    return Album(album.name, album.query, album.assets)


def _match(match: ChannelDocument) -> ChannelMatch:
    return ChannelMatch(
        match.kind,
        match.rank,
        match.score,
        match.contribution,
        match.space,
        tuple(WordMatch(word.text, word.field) for word in match.words or ()),
    )


def _refined(region: RefinedDocument) -> RefinedRegion:
    height, width = region.mask.size
    mask = Mask(height, width, region.mask.counts.encode("ascii"))
    return RefinedRegion(_bbox(region.bbox), region.area, region.score, mask)


def _bbox(sides: Sequence[int]) -> tuple[int, int, int, int]:
    x, y, width, height = sides
    return x, y, width, height


def _collection_line(one: CollectionStatus) -> str:
    states = {"waiting": one.pending, "failed": one.failed, "in the trash": one.trashed}
    more = "".join(f", {count} {state}" for state, count in states.items() if count)
    return f"  collection {one.name}: {one.assets} photographs{more}"


def _job_line(job: JobDocument) -> str:
    total = "" if job.total is None else f" of {job.total}"
    failed = f", {job.failed} failed" if job.failed else ""
    message = "" if job.message is None else f": {job.message}"
    where = "" if job.collection is None else f" into {job.collection.name}"
    return f"{job.kind}{where}, {job.state}, {job.done}{total} done{failed}{message}"
