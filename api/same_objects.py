"""The search for the same object in different photographs, wired to a library."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from regard.api.wiring import Library
from regard.core.errors import CannotWork
from regard.core.records import Channel, Kind, QueryKind, Target
from regard.search.same_objects.finder import Colours, ObjectFinder
from regard.storage.stored_regions import SqlRegions

# A finder keeps its last comparison, which takes seconds.
_FINDERS: WeakKeyDictionary[Library, ObjectFinder] = WeakKeyDictionary()


def object_finder(library: Library) -> ObjectFinder:
    """The library's finder, always the same; raises CannotWork when the profile compares no regions."""
    if library not in _FINDERS:
        _FINDERS[library] = new_object_finder(library)
    return _FINDERS[library]


def new_object_finder(library: Library, *, use_colours: bool = True) -> ObjectFinder:
    """A finder over the live pipeline; raises CannotWork when the profile compares no regions."""
    return ObjectFinder(
        SqlRegions(library.catalog, library.pipeline),
        library.search_catalog,
        library.indexes,
        region_channel(library),
        _colours(library) if use_colours else None,
    )


def region_channel(library: Library) -> Channel:
    """The channel that meets regions with regions best; raises CannotWork where there is none."""
    routed = library.profile.routes.get((QueryKind.REGION, Target.REGION), ())
    channels = [
        (weighted.weight, weighted.channel)
        for weighted in routed
        if weighted.channel.kind is Kind.REGION
    ]
    if not channels:
        raise CannotWork(
            f"the profile {library.profile.name} does not compare regions",
            remedy="use a home whose profile does",
        )
    return max(channels, key=lambda item: item[0])[1]


def _colours(library: Library) -> Colours | None:
    """Colours are told by `lite`, in a block of its joint space."""
    from regard.models.lite.encoder import JOINT, colours_of_regions

    channel = Channel(JOINT.name, Kind.REGION)
    if channel not in library.pipeline.channels:
        return None
    return Colours(channel, colours_of_regions)
