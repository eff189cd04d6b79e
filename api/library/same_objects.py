"""The search for the same object in different photographs, wired to a library."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from regard.api.library.home import Home
from regard.core.errors import CannotWork
from regard.core.records import Channel, Kind, QueryKind, Target
from regard.search.same_objects.finder import Colours, ObjectFinder
from regard.storage.retrieval.regions import SqlRegions

_LIKE_WITH_LIKE = {
    Kind.IMAGE: (QueryKind.IMAGE, Target.IMAGE, "whole photographs"),
    Kind.REGION: (QueryKind.REGION, Target.REGION, "regions"),
}
# A finder keeps its last comparison, which takes seconds.
_FINDERS: WeakKeyDictionary[Home, ObjectFinder] = WeakKeyDictionary()


def object_finder(library: Home) -> ObjectFinder:
    """The library's finder, always the same; raises CannotWork when the profile compares no regions."""
    if library not in _FINDERS:
        _FINDERS[library] = new_object_finder(library)
    return _FINDERS[library]


def new_object_finder(library: Home, *, use_colours: bool = True) -> ObjectFinder:
    """A finder over the live pipeline; raises CannotWork when the profile compares no regions."""
    return ObjectFinder(
        SqlRegions(library.catalog, library.pipeline),
        library.search_catalog,
        library.indexes,
        compared_channel(library, Kind.REGION),
        _colours(library) if use_colours else None,
    )


def compared_channel(library: Home, kind: Kind) -> Channel:
    """The channel that meets whole images, or regions, with their like best.

    Raises CannotWork where there is none.
    """
    query, target, compared = _LIKE_WITH_LIKE[kind]
    routed = library.profile.routes.get((query, target), ())
    channels = [weighted for weighted in routed if weighted.channel.kind is kind]
    if not channels:
        raise CannotWork(
            f"the profile {library.profile.name} does not compare {compared}",
            remedy="use a home whose profile does",
        )
    return max(channels, key=lambda weighted: weighted.weight).channel


def _colours(library: Home) -> Colours | None:
    """Colours are told by `lite`, in a block of its joint space."""
    from regard.models.lite.encoder import JOINT, colours_of_regions

    channel = Channel(JOINT.name, Kind.REGION)
    if channel not in library.pipeline.channels:
        return None
    return Colours(channel, colours_of_regions)
