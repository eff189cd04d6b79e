"""Find photographs, and the things in them, by text and by image.

    import regard

    with regard.open("~/photo-index") as library:
        library.index("~/Pictures")
        for hit in library.search("a red bus", target="region").hits:
            print(hit.asset.uri, hit.region.bbox, hit.relevance)

The package exports `open`, the `Library` that it returns, the types of its results, and the errors
that it raises.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
from typing import TYPE_CHECKING, Any

# In a checkout the subpackages stand beside this folder, and Python run from the checkout imports
# this folder itself. The installed package, further along `sys.path`, has the subpackages.
__path__ = pkgutil.extend_path(__path__, __name__)

if TYPE_CHECKING:
    from regard.api.library.interface import Library
    from regard.api.library.opening import open
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
    from regard.core.catalog import Failure
    from regard.core.errors import (
        CannotWork,
        Conflict,
        DecodeError,
        LeaseHeld,
        MalformedQuery,
        NameTaken,
        NotFound,
        RegardError,
        RootUnavailable,
        StoreUnavailable,
        UnanswerableQuery,
        UsageError,
    )
    from regard.core.geometry import Mask
    from regard.indexer.reading import ReadReport
    from regard.indexer.report import IndexReport, Progress
    from regard.indexer.sidecar_writing import SidecarReport
    from regard.search.answers import ChannelMatch, WordMatch
    from regard.storage.export.exporting import ExportReport
    from regard.storage.export.imported_rows import ImportReport
    from regard.storage.retrieval.recall import ChannelRecall, Estimate, RecallReport
    from regard.storage.retrieval.verification import Finding

    __version__: str

_MODULES = {
    "regard.api.library.interface": ("Library",),
    "regard.api.library.opening": ("open",),
    "regard.api.library.results": (
        *("Album", "Answer", "Asset", "CollectionStatus", "Details", "DuplicateGroup"),
        *("DuplicateMember", "Duplicates", "Hit", "ModelChange", "Pipeline", "Pipelines"),
        *("Pruned", "Rebuilt", "RefinedRegion", "Region", "Stack", "Status", "Suggestion"),
    ),
    "regard.core.catalog": ("Failure",),
    "regard.core.errors": (
        *("CannotWork", "Conflict", "DecodeError", "LeaseHeld", "MalformedQuery", "NameTaken"),
        *("NotFound", "RegardError", "RootUnavailable", "StoreUnavailable"),
        *("UnanswerableQuery", "UsageError"),
    ),
    "regard.core.geometry": ("Mask",),
    "regard.indexer.reading": ("ReadReport",),
    "regard.indexer.report": ("IndexReport", "Progress"),
    "regard.indexer.sidecar_writing": ("SidecarReport",),
    "regard.search.answers": ("ChannelMatch", "WordMatch"),
    "regard.storage.export.exporting": ("ExportReport",),
    "regard.storage.export.imported_rows": ("ImportReport",),
    "regard.storage.retrieval.recall": ("ChannelRecall", "Estimate", "RecallReport"),
    "regard.storage.retrieval.verification": ("Finding",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "Album",
    "Answer",
    "Asset",
    "CannotWork",
    "ChannelMatch",
    "ChannelRecall",
    "CollectionStatus",
    "Conflict",
    "DecodeError",
    "Details",
    "DuplicateGroup",
    "DuplicateMember",
    "Duplicates",
    "Estimate",
    "ExportReport",
    "Failure",
    "Finding",
    "Hit",
    "ImportReport",
    "IndexReport",
    "LeaseHeld",
    "Library",
    "MalformedQuery",
    "Mask",
    "ModelChange",
    "NameTaken",
    "NotFound",
    "Pipeline",
    "Pipelines",
    "Progress",
    "Pruned",
    "ReadReport",
    "Rebuilt",
    "RecallReport",
    "RefinedRegion",
    "RegardError",
    "Region",
    "RootUnavailable",
    "SidecarReport",
    "Stack",
    "Status",
    "StoreUnavailable",
    "Suggestion",
    "UnanswerableQuery",
    "UsageError",
    "WordMatch",
    "__version__",
    "open",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import regard` stays quick."""
    if name == "__version__":
        value: Any = importlib.metadata.version("regard")
    elif name in _MODULE_OF:
        value = getattr(importlib.import_module(_MODULE_OF[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value
