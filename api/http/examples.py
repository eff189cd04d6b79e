"""Example answers for the OpenAPI document; tests validate them against their models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_HOLIDAY = {"id": "c1", "name": "holiday"}
_VERSION = "9e2946af46ca"
_AT = "2024-06-02T09:30:00Z"

_ASSET: dict[str, Any] = {
    "id": "a17",
    "collection": _HOLIDAY,
    "external_id": "dam-4711",
    "uri": "/v1/assets/a17/original",
    "path": None,
    "file_name": "harbour.jpg",
    "title": "Harbour at dawn",
    "tags": ["dawn", "harbour"],
    "custom": {"shoot": "harbour"},
    "state": "indexed",
    "width": 4000,
    "height": 3000,
    "format": "JPEG",
    "duration_ms": None,
    "stack": {"id": "a17", "count": 2},
    "size": 2841207,
    "taken_at": "2024-05-01T07:30:00",
    "taken_precision": "time",
    "added_at": _AT,
    "dated_at": "2024-05-01T07:30:00",
    "camera": "Fujifilm X100",
    "caption": "A red boat in a harbour.",
    "urls": {
        "self": "/v1/assets/a17",
        "original": "/v1/assets/a17/original",
        "thumbnail": f"/v1/assets/a17/thumbnail?v={_VERSION}&size=256",
        "thumbnail_512": f"/v1/assets/a17/thumbnail?v={_VERSION}&size=512",
        "thumbnail_1024": f"/v1/assets/a17/thumbnail?v={_VERSION}&size=1024",
        "thumbnail_4096": f"/v1/assets/a17/thumbnail?v={_VERSION}&size=4096",
        "similar": "/v1/assets/a17/similar",
    },
}
_REGION_URLS = {
    "crop": f"/v1/regions/r92/crop?v={_VERSION}",
    "mask": f"/v1/regions/r92/mask?v={_VERSION}",
    "similar": "/v1/regions/r92/similar",
}
_REGION: dict[str, Any] = {
    "id": "r92",
    "bbox": [1210, 1480, 900, 420],
    "area": 251340,
    "score": 0.87,
    "caption": None,
    "time_ms": None,
    "urls": _REGION_URLS,
}
_LINE: dict[str, Any] = {
    **_REGION,
    "bbox": [1300, 1580, 300, 60],
    "area": 18000,
    "score": 0.98,
    "text": "LE HAVRE",
    "corners": [[1300, 1580], [1600, 1580], [1600, 1640], [1300, 1640]],
}
_DETAIL: dict[str, Any] = {
    **_ASSET,
    "sha256": "9e2946af46caacc7471d8f322d79f29cdea6a913e7cebed38f17a2d03b853377",
    "failure": None,
    "deleted_at": None,
    "facts": {
        "camera_make": "Fujifilm",
        "camera_model": "X100",
        "lens": None,
        "latitude": 54.32,
        "longitude": 10.14,
        "country": "Germany",
        "city": "Kiel",
        "altitude_m": None,
        "exposure_seconds": 0.004,
        "f_number": 5.6,
        "iso": 200,
        "focal_length_mm": 23.0,
        "motion_video_offset": None,
        "rating": None,
        "description": None,
        "keywords": ["harbour"],
        "utc_offset_minutes": 120,
    },
    "regions": [_REGION],
    "captions": [{"text": "A red boat in a harbour.", "model": "lite", "region": None}],
    "texts": [_LINE],
    "albums": [{"id": "b1", "name": "Best of 2024"}],
}
_ALBUM: dict[str, Any] = {
    "id": "b1",
    "name": "Best of 2024",
    "query": None,
    "created_at": _AT,
    "assets": 12,
    "cover": "a17",
}
_SUGGESTION = {"kind": "tag", "value": "harbour", "query": "red boat tag:harbour"}
_JOB: dict[str, Any] = {
    "id": "j4",
    "kind": "import",
    "state": "running",
    "collection": _HOLIDAY,
    "profile": None,
    "pipelines": [],
    "root": "photos",
    "path": "2024/harbour",
    "changed": None,
    "total": 1200,
    "done": 310,
    "failed": 0,
    "report": None,
    "message": None,
    "created_at": _AT,
    "started_at": "2024-06-02T09:30:01Z",
    "finished_at": None,
}
_COLLECTION: dict[str, Any] = {
    **_HOLIDAY,
    "created_at": _AT,
    "assets": 1200,
    "pending": 890,
    "failed": 1,
    "trashed": 0,
}
_FACETS = {"camera": [{"value": "Fujifilm X100", "count": 310}]}

EXAMPLES: Mapping[str, dict[str, Any]] = {
    "AssetDetailDocument": _DETAIL,
    "AssetDocument": _ASSET,
    "AssetList": {"items": [_ASSET], "next": None, "facets": _FACETS},
    "AssetMonths": {
        "months": [{"month": "2024-06", "count": 84}, {"month": "2024-05", "count": 312}],
        "total": 396,
        "through": "a5012",
    },
    "AssetPlaces": {
        "places": [
            {
                "latitude": 53.5461,
                "longitude": 9.9663,
                "box": [9.9312, 53.5401, 9.9935, 53.5502],
                "count": 84,
                "asset": "a17",
                "thumbnail": "/v1/assets/a17/thumbnail?v=9f86d081884c7d65&size=256",
                "country": "Germany",
                "city": "Hamburg",
            }
        ],
        "total": 84,
    },
    "BulkAnswer": {"done": 2},
    "ChangeList": {
        "changes": [
            {"position": 41, "kind": "added", "asset": "a17", "collection": _HOLIDAY, "at": _AT}
        ],
        "next": 41,
        "more": False,
    },
    "CollectionDocument": _COLLECTION,
    "CollectionList": {"items": [_COLLECTION], "next": None},
    "DuplicateList": {
        "groups": [
            {
                "kind": "edited",
                "keeper": "a17",
                "reasons": ["most pixels: 4000 × 3000"],
                "members": [
                    {"asset": _ASSET, "similarity": 1.0, "region": None},
                    {
                        "asset": {**_ASSET, "id": "a18", "file_name": "harbour small.jpg"},
                        "similarity": 0.98,
                        "region": None,
                    },
                ],
            }
        ],
        "complete": True,
        "waiting": False,
        "left_out": 0,
        "next": None,
    },
    "Health": {"status": "ok"},
    "InfoDocument": {
        "version": "0.1.0",
        "profile": "lite",
        "refines": False,
        "spaces": {"lite-joint": 616, "lite-visual": 256},
        "counts": {
            "assets": 337,
            "contents": 337,
            "regions": 4044,
            "captions": 337,
            "embeddings": 9099,
        },
        "limits": {
            "upload_bytes": 209715200,
            "upload_files": 100,
            "video_bytes": 10737418240,
            "pixels": 120000000,
            "page": 1000,
            "hits": 500,
        },
        "roots": ["photos"],
        "scope": "read",
        "collections": ["holiday"],
        "keys_required": True,
        "recall": None,
    },
    "AlbumDocument": _ALBUM,
    "AlbumList": {"items": [_ALBUM], "next": None},
    "SuggestionList": {"items": [_SUGGESTION]},
    "SuggestionDocument": _SUGGESTION,
    "JobDocument": _JOB,
    "JobFailureList": {
        "items": [{"asset": "a19", "file_name": "broken.jpg", "reason": "it is cut short"}],
        "next": None,
    },
    "JobList": {"items": [_JOB], "next": None},
    "PipelineList": {
        "items": [
            {
                "profile": "lite",
                "fingerprint": "4239409f1402",
                "state": "live",
                "models": {"encoder": "lite"},
                "spaces": {"lite-joint": 616, "lite-visual": 256},
                "analysed": 337,
                "missing": 0,
                "failed": 0,
                "embeddings": 9099,
                "live_since": _AT,
                "replaced_at": None,
            }
        ],
        "serving": "4239409f1402",
    },
    "PurgeAnswer": {"purged": 2, "jobs": []},
    "Readiness": {"status": "ready", "reasons": []},
    "RegionWithAsset": {**_LINE, "asset": _ASSET},
    "RollbackDocument": {
        "profile": "lite",
        "fingerprint": "4239409f1402",
        "missing": 0,
        "live": True,
        "jobs": [],
    },
    "SearchAnswer": {
        "query": {"text": "a red boat", "target": "image"},
        "took_ms": 12.3,
        "matched": True,
        "relevance_source": "profile",
        "unknown_words": [],
        "hits": [
            {
                "rank": 1,
                "score": 1.49,
                "relevance": 0.81,
                "asset": _ASSET,
                "region": {
                    "id": "r92",
                    "bbox": [1210, 1480, 900, 420],
                    "area": 251340,
                    "caption": None,
                    "urls": _REGION_URLS,
                },
                "refined": {
                    "bbox": [1240, 1500, 820, 390],
                    "area": 319800,
                    "score": 0.72,
                    "mask": {"size": [3000, 4000], "counts": "lXPa13n..."},
                    "outline": "M2480,3000l1640,0 0,780 -1640,0z",
                },
                "channels": [
                    {
                        "space": "lite-joint",
                        "kind": "region",
                        "rank": 1,
                        "score": 0.31,
                        "contribution": 1.0,
                    },
                    {
                        "kind": "keyword",
                        "rank": 2,
                        "score": 7.1,
                        "contribution": 0.49,
                        "words": [{"text": "boat", "field": "caption"}],
                    },
                ],
            }
        ],
        "next": None,
        "facets": _FACETS,
    },
    "UploadAnswer": {
        "items": [
            {
                "file_name": "harbour.jpg",
                "status": "created",
                "asset": {**_ASSET, "state": "pending", "caption": None},
                "problem": None,
            },
            {
                "file_name": "notes.txt",
                "status": "refused",
                "asset": None,
                "problem": {
                    "type": "/v1/problems/unsupported-media",
                    "title": "Unsupported media",
                    "status": 415,
                    "detail": "it is not a photograph or video of a known format",
                    "remedy": None,
                },
            },
        ],
        "job": {**_JOB, "kind": "upload", "state": "queued", "root": None, "path": None},
    },
}
