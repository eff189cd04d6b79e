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
        Answer,
        Asset,
        Details,
        DuplicateGroup,
        Duplicates,
        Hit,
        ModelChange,
        Pipeline,
        Pipelines,
        RefinedRegion,
        Region,
        Stack,
        Status,
    )
    from regard.core.errors import (
        CannotWork,
        DecodeError,
        MalformedQuery,
        NotFound,
        RegardError,
        UnanswerableQuery,
        UsageError,
    )
    from regard.indexer.report import IndexReport, Progress
    from regard.search.answers import ChannelMatch

    __version__: str

_MODULES = {
    "regard.api.library.interface": ("Library",),
    "regard.api.library.opening": ("open",),
    "regard.api.library.results": (
        *("Answer", "Asset", "Details", "DuplicateGroup", "Duplicates", "Hit", "ModelChange"),
        *("Pipeline", "Pipelines", "RefinedRegion", "Region", "Stack", "Status"),
    ),
    "regard.core.errors": (
        *("CannotWork", "DecodeError", "MalformedQuery", "NotFound", "RegardError"),
        *("UnanswerableQuery", "UsageError"),
    ),
    "regard.indexer.report": ("IndexReport", "Progress"),
    "regard.search.answers": ("ChannelMatch",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "Answer",
    "Asset",
    "CannotWork",
    "ChannelMatch",
    "DecodeError",
    "Details",
    "DuplicateGroup",
    "Duplicates",
    "Hit",
    "IndexReport",
    "Library",
    "MalformedQuery",
    "ModelChange",
    "NotFound",
    "Pipeline",
    "Pipelines",
    "Progress",
    "RefinedRegion",
    "RegardError",
    "Region",
    "Stack",
    "Status",
    "UnanswerableQuery",
    "UsageError",
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
