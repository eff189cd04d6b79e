"""Converts records to the API's JSON documents.

They are plain dictionaries instead of Pydantic models, which would take longer than some searches.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from regard.api.http.problems import names_path
from regard.api.http.sub_path import current_prefix
from regard.api.library.answers import facts_json
from regard.core.assets import (
    AlbumRecord,
    Asset,
    AssetChange,
    AssetDetail,
    CollectionRecord,
    FacetValue,
    PlaceCount,
    StoredRegion,
)
from regard.core.errors import NotFound
from regard.core.jobs import Job
from regard.core.keys import Caller
from regard.photos.countries import country_name
from regard.search.answers import asset_identifier, region_identifier

_NUMBERED = re.compile(r"([abcjr])([1-9][0-9]{0,17})", re.ASCII)
_WORDS = {"a": "photograph", "b": "album", "c": "collection", "j": "job", "r": "region"}
_VERSION_DIGITS = 12


def collection_identifier(number: int) -> str:
    """The public id of a collection."""
    return f"c{number}"


def album_identifier(number: int) -> str:
    """The public id of an album."""
    return f"b{number}"


def job_identifier(number: int) -> str:
    """The public id of a job."""
    return f"j{number}"


def read_identifier(text: str, letter: str) -> int:
    """Parse a public id of one kind; raises NotFound for anything else."""
    match = _NUMBERED.fullmatch(text)
    if match is None or match.group(1) != letter:
        raise NotFound(
            f"no {_WORDS[letter]} has the id {text[:40]!r}", remedy="take an id from a list"
        )
    return int(match.group(2))


def utc(moment: datetime | None) -> str | None:
    """Format a naive UTC time with `Z`."""
    return None if moment is None else moment.isoformat(timespec="seconds") + "Z"


def local(moment: datetime | None) -> str | None:
    """Format a camera's local time without a zone."""
    return None if moment is None else moment.isoformat(timespec="seconds")


class Documents:
    """Makes documents for one caller; only administrators see paths of the server."""

    def __init__(self, caller: Caller, roots: Mapping[str, bytes]) -> None:
        """`roots` maps the names of import roots to their folders."""
        self._caller = caller
        self._prefix = current_prefix()
        self._roots = roots

    def asset(self, asset: Asset) -> dict[str, Any]:
        """See `regard.api.schemas.AssetDocument`."""
        number = asset_identifier(asset.id)
        itself = f"{self._prefix}/v1/assets/{number}"
        version = (asset.sha256 or "")[:_VERSION_DIGITS]
        if asset.poster_ms is not None:
            # Another analysis may choose another frame.
            version += f"-{asset.poster_ms}"
        thumbnail = f"{itself}/thumbnail?v={version}&size="
        original = f"{itself}/original"
        return {
            "id": number,
            "collection": {
                "id": collection_identifier(asset.collection_id),
                "name": asset.collection,
            },
            "external_id": asset.external_id,
            "uri": asset.uri if self._caller.is_admin and not asset.managed else original,
            "path": None if asset.managed else self._path(asset.path),
            "file_name": asset.file_name,
            "title": asset.title,
            "tags": list(asset.tags),
            "custom": dict(asset.custom),
            "state": asset.state.value,
            "width": asset.width,
            "height": asset.height,
            "format": asset.format,
            "duration_ms": asset.duration_ms,
            "stack": None
            if asset.stack_id is None
            else {"id": asset_identifier(asset.stack_id), "count": asset.stack_count},
            "size": asset.size,
            "taken_at": local(asset.taken_at),
            "taken_precision": asset.taken_precision,
            "added_at": utc(asset.added_at),
            "dated_at": local(asset.dated_at),
            "camera": asset.camera,
            "caption": asset.caption,
            "urls": {
                "self": itself,
                "original": original,
                "thumbnail": thumbnail + "256",
                "thumbnail_512": thumbnail + "512",
                "thumbnail_1024": thumbnail + "1024",
                "thumbnail_4096": thumbnail + "4096",
                "similar": f"{itself}/similar",
            },
        }

    def place(self, cell: PlaceCount) -> dict[str, Any]:
        """See `regard.api.schemas.PlaceDocument`."""
        number = asset_identifier(cell.newest)
        version = (cell.sha256 or "")[:_VERSION_DIGITS]
        box, place = cell.box, cell.place
        return {
            "latitude": cell.latitude,
            "longitude": cell.longitude,
            "box": [box.west, box.south, box.east, box.north],
            "count": cell.count,
            "asset": number,
            "thumbnail": f"{self._prefix}/v1/assets/{number}/thumbnail?v={version}&size=256",
            "country": None if place is None else country_name(place.country),
            "city": None if place is None else place.city,
        }

    def detail(self, detail: AssetDetail) -> dict[str, Any]:
        """See `regard.api.schemas.AssetDetailDocument`."""
        asset = detail.asset
        return {
            **self.asset(asset),
            "sha256": asset.sha256,
            "failure": self.shown(asset.failure_reason),
            "deleted_at": utc(asset.deleted_at),
            "facts": facts_json(detail),
            "regions": [self.region(region, asset) for region in detail.regions],
            "captions": [
                {
                    "text": caption.text,
                    "model": caption.model,
                    "region": None if caption.region is None else region_identifier(caption.region),
                }
                for caption in detail.captions
            ],
            "texts": [self.region(line, asset) for line in detail.texts],
            "albums": [
                {"id": album_identifier(number), "name": name} for number, name in detail.albums
            ],
        }

    def region(self, region: StoredRegion, asset: Asset) -> dict[str, Any]:
        """See `regard.api.schemas.RegionDocument`."""
        return {
            "id": region_identifier(region.id),
            "bbox": region.box.to_list(),
            "area": region.area,
            "score": round(region.score, 6),
            "caption": region.caption,
            **_text_of(region),
            "time_ms": region.time_ms,
            "urls": region_urls(region.id, asset),
        }

    def job(self, job: Job) -> dict[str, Any]:
        """See `regard.api.schemas.JobDocument`."""
        report = None if job.report is None else dict(job.report)
        return {
            "id": job_identifier(job.id),
            "kind": job.kind.value,
            "state": job.state.value,
            "collection": None
            if job.collection_id is None
            else {"id": collection_identifier(job.collection_id), "name": job.collection},
            "profile": job.profile,
            "pipelines": list(job.pipelines),
            "root": job.root,
            "path": job.path,
            "changed": len(job.changed) or None,
            "total": job.total,
            "done": job.done,
            "failed": 0 if report is None else report.get("failed", 0),
            "report": report,
            "message": self.shown(job.message),
            "created_at": utc(job.created_at),
            "started_at": utc(job.started_at),
            "finished_at": utc(job.finished_at),
        }

    def shown(self, sentence: str | None) -> str | None:
        """An error message, or a generic one if it names a path that the caller may not see."""
        if sentence is None or self._caller.is_admin or not names_path(sentence):
            return sentence
        return "an error occurred; the operator of the server can see the details"

    def _path(self, path: bytes) -> str | None:
        for name, folder in self._roots.items():
            if path.startswith(folder.rstrip(b"/") + b"/"):
                below = path[len(folder.rstrip(b"/")) + 1 :]
                tail = below.decode("utf-8", errors="replace")
                return f"{name}/{tail}"
        return None


def album(record: AlbumRecord) -> dict[str, Any]:
    """See `regard.api.schemas.AlbumDocument`."""
    return {
        "id": album_identifier(record.id),
        "name": record.name,
        "query": record.query,
        "created_at": utc(record.created_at),
        "assets": record.assets,
        "cover": None if record.cover is None else asset_identifier(record.cover),
    }


def collection(record: CollectionRecord) -> dict[str, Any]:
    """See `regard.api.schemas.CollectionDocument`."""
    return {
        "id": collection_identifier(record.id),
        "name": record.name,
        "created_at": utc(record.created_at),
        "assets": record.assets,
        "pending": record.pending,
        "failed": record.failed,
        "trashed": record.trashed,
    }


def change(record: AssetChange) -> dict[str, Any]:
    """See `regard.api.schemas.ChangeDocument`."""
    named = (
        None
        if record.collection is None
        else {"id": collection_identifier(record.collection_id), "name": record.collection}
    )
    return {
        "position": record.position,
        "kind": record.kind,
        "asset": asset_identifier(record.asset),
        "collection": named,
        "at": utc(record.at),
    }


def facets(counted: Mapping[str, Sequence[FacetValue]]) -> dict[str, Any]:
    """See `regard.api.schemas.FacetDocument`."""
    return {
        name: [{"value": item.value, "count": item.count} for item in values]
        for name, values in counted.items()
    }


def _text_of(region: StoredRegion) -> dict[str, Any]:
    """What only a line of text has."""
    if region.text is None or region.corners is None:
        return {}
    return {"text": region.text, "corners": [*map(list, region.corners)]}


def region_urls(region: int, asset: Asset) -> dict[str, str]:
    """See `regard.api.schemas.RegionUrls`."""
    itself = f"{current_prefix()}/v1/regions/{region_identifier(region)}"
    version = (asset.sha256 or "")[:_VERSION_DIGITS]
    return {
        "crop": f"{itself}/crop?v={version}",
        "mask": f"{itself}/mask?v={version}",
        "similar": f"{itself}/similar",
    }
