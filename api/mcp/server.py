"""A library for language models: an MCP server whose tools call the Library interface.

Tools only read, unless changes are allowed. A call that fails is an error of the tool, whose
message says what to do; it never ends the server.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal, TypeVar

import anyio
import anyio.to_thread
from mcp.server import MCPServer
from mcp.server.mcpserver import Context, Image
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import CallToolResult, InputRequiredResult, ToolAnnotations
from pydantic import Field, ValidationError

import regard
from regard.api.library.interface import Library
from regard.api.library.results import Answer, Hit, Region
from regard.api.validation import refused_values
from regard.core.errors import RegardError, UsageError
from regard.search.language.parsing import parse_query
from regard.search.language.printing import print_filter
from regard.search.language.syntax import Field as QueryField
from regard.search.language.syntax import WrittenPicture

_INSTRUCTIONS = """\
This server searches a library of photographs by what they show. Ids such as a17 are photographs,
r5 regions (things in photographs); they stay the same between calls. Boxes are [x, y, width,
height] in pixels of the upright photograph, whose own width and height are given beside them."""

_SHOWN_REGIONS = 20
_JPEG_QUALITY = 85

_Result = TypeVar("_Result")

Query = Annotated[
    str,
    Field(
        description="What to look for in plain words (a red bus at night), and filters: "
        "taken:2024-05, taken:2019..2021, tag:lake, album:NAME, camera:NAME, country:France, "
        "city:Paris, near:LAT,LON,10km, rating:>=4, has:gps, orientation:portrait, path:FOLDER. "
        'Values with spaces need quotes: album:"Summer 2024". A minus negates a word or a filter. '
        "Filters alone list photographs, newest first."
    ),
]
AssetId = Annotated[str, Field(description="The id of a photograph, such as a17.")]
AnyId = Annotated[str, Field(description="The id of a photograph or a region: a17, r5.")]
Target = Annotated[
    Literal["image", "region"],
    Field(description="image finds photographs, region the things in them, with their boxes."),
]
Limit = Annotated[int, Field(ge=1, le=50, description="How many hits at most.")]
Collection = Annotated[str | None, Field(description="The only collection to search, by name.")]
Name = Annotated[str, Field(description="The album's name.")]
Ids = Annotated[list[str], Field(max_length=1000, description="Ids of photographs.")]


class _Tools:
    """The tools; their docstrings are what a model reads of them."""

    def __init__(self, library: Library) -> None:
        self._library = library
        # A library is for one thread at a time.
        self._turn = anyio.CapacityLimiter(1)

    async def search(
        self,
        query: Query,
        target: Target = "image",
        limit: Limit = 10,
        collection: Collection = None,
        sort: Annotated[
            Literal["relevance", "newest", "oldest"], Field(description="The order of the hits.")
        ] = "relevance",
    ) -> dict[str, Any]:
        """Find photographs, or the things in them, by a description and by filters.

        Hits are the best first. `relevance` is the estimated probability, from 0 to 1, that a hit
        is right, null if it is unknown. If `matched` is false, probably nothing in the library
        matches, and the hits are only the nearest. Fails for a query that cannot be read, saying
        where.
        """

        def search() -> Answer:
            _refuse_files(query)
            return self._library.search(
                query, target=target, limit=limit, collection=collection, sort=sort
            )

        return _answer_json(await self._call(search))

    async def similar(
        self,
        id: AnyId,
        target: Target = "image",
        limit: Limit = 10,
        collection: Collection = None,
    ) -> dict[str, Any]:
        """Find photographs, or the things in them, that look like one of the library.

        The answer is as that of `search`. Fails if there is no such photograph or region.
        """
        search = partial(
            self._library.search, like=id, target=target, limit=limit, collection=collection
        )
        return _answer_json(await self._call(search))

    async def show(
        self,
        id: AssetId,
        size: Annotated[
            int, Field(ge=64, le=1024, description="The longer side of the picture, in pixels.")
        ] = 512,
    ) -> list[dict[str, Any] | Image]:
        """Show one photograph: a small picture of it, and what is known of it.

        That is its caption, title, tags, time and place, camera and exposure, the largest regions
        in it, and the lines of text that were read in it. `facts` are in metres, seconds,
        millimetres and degrees (north and east positive). `taken_at` is local time. Fails if there
        is no such photograph; if only its file is missing, `picture_problem` says so.
        """
        return await self._call(lambda: self._shown(id, size))

    async def albums(
        self,
        name: Annotated[str | None, Field(description="An album, to list what is in it.")] = None,
        limit: Limit = 50,
    ) -> dict[str, Any]:
        """List all albums or, with a name, the photographs in one of them, newest first.

        An album with a `query` is a saved search, which fills itself; its photographs are not
        counted. To search within an album, use its name in `search`: lake album:NAME.
        """
        if name is None:
            found = await self._call(self._library.albums)
            return {"albums": [one.to_json() for one in found]}
        query = print_filter(QueryField.ALBUM, name)
        return _answer_json(await self._call(lambda: self._library.search(query, limit=limit)))

    async def create_album(
        self,
        name: Name,
        query: Annotated[
            str | None, Field(description="Make a saved search of this query instead.")
        ] = None,
    ) -> dict[str, Any]:
        """Create an album without photographs. Fails if the name is taken."""
        made = await self._call(lambda: self._library.create_album(name, query))
        return made.to_json()

    async def change_album(
        self, name: Name, add: Ids | None = None, remove: Ids | None = None
    ) -> dict[str, Any]:
        """Add photographs to an album, and take others out of it; no photograph is deleted.

        All of this happens or none of it. `changed` counts those that joined or left. Fails for a
        saved search, and if the album or a photograph does not exist.
        """
        change = partial(self._library.change_album, name, add=add or (), remove=remove or ())
        return {"changed": await self._call(change)}

    async def rate(
        self, photographs: Ids, stars: Annotated[int, Field(ge=0, le=5, description="0 for none.")]
    ) -> dict[str, Any]:
        """Give photographs 1 to 5 stars, or take them away; all of them or none of them."""
        await self._call(partial(self._library.rate, photographs, stars))
        return {"rated": len(set(photographs))}

    async def _call(self, work: Callable[[], _Result]) -> _Result:
        try:
            return await anyio.to_thread.run_sync(work, limiter=self._turn)
        except RegardError as error:
            raise ToolError(str(error)) from error
        except OSError as error:
            raise ToolError(f"the system failed: {error.strerror or error}") from error

    def _shown(self, id: str, size: int) -> list[dict[str, Any] | Image]:
        details = self._library.details(id)
        regions = self._library.regions(id)
        texts = [region.text for region in regions if region.text is not None]
        things = sorted((one for one in regions if one.text is None), key=lambda one: -one.area)
        shown: dict[str, Any] = {
            **details.to_json(),
            "facts": {name: fact for name, fact in details.facts.items() if fact is not None},
            "regions": [_region_json(region) for region in things[:_SHOWN_REGIONS]],
            "regions_in_all": len(things),
            "texts": texts,
        }
        try:
            picture = self._library.picture(id, size)
        except RegardError as error:
            return [{**shown, "picture_problem": str(error)}]
        with io.BytesIO() as file:
            picture.save(file, "JPEG", quality=_JPEG_QUALITY)
            return [shown, Image(data=file.getvalue(), format="jpeg")]


class _Server(MCPServer):
    """Answers a failed call with the sentence alone, and says in plain words what it refuses."""

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        known = [tool.name for tool in await self.list_tools()]
        if name not in known:
            raise ToolError(f"no tool is named {name!r}; the tools are {', '.join(known)}")
        try:
            return await super().call_tool(name, arguments, context)
        except ToolError as error:
            # The SDK puts "Error executing tool" before it.
            cause = error.__cause__
            if isinstance(cause, ToolError):
                raise cause from None
            if not isinstance(cause, ValidationError):
                raise
            refused = refused_values(cause.errors(), arguments)
            text = "; ".join(f"{where}: {sentence}" for where, sentence in refused)
            raise ToolError(text) from cause


def make_server(library: Library, *, allow_changes: bool = False) -> MCPServer:
    """A server over the library; only with `allow_changes` do its tools change albums and
    ratings."""
    server = _Server(
        "regard",
        title="Photographs",
        instructions=_INSTRUCTIONS,
        version=regard.__version__,
        log_level="ERROR",
    )
    tools = _Tools(library)
    reads = ToolAnnotations(read_only_hint=True, open_world_hint=False)
    for tool in (tools.search, tools.similar, tools.show, tools.albums):
        server.add_tool(tool, annotations=reads)
    if allow_changes:
        changes = ToolAnnotations(
            read_only_hint=False, destructive_hint=False, open_world_hint=False
        )
        for change in (tools.create_album, tools.change_album, tools.rate):
            server.add_tool(change, annotations=changes)
    return server


def _refuse_files(query: str) -> None:
    """Raise UsageError for a query that names pictures of this machine, as people's may."""
    if any(isinstance(term.what, WrittenPicture) for term in parse_query(query).terms):
        raise UsageError(
            "a query may not name picture files here",
            remedy="use the tool similar with a photograph of the library",
        )


def _answer_json(answer: Answer) -> dict[str, Any]:
    """An answer as briefly as a model needs it."""
    unknown = list(answer.unknown_words)
    return {
        "matched": answer.matched,
        **({"words_not_understood": unknown} if unknown else {}),
        "hits": [_hit_json(hit) for hit in answer.hits],
    }


def _hit_json(hit: Hit) -> dict[str, Any]:
    relevance = None if hit.relevance is None else round(hit.relevance, 2)
    region = None if hit.region is None else _region_json(hit.region)
    return {**hit.asset.to_json(), "relevance": relevance, "region": region}


def _region_json(region: Region) -> dict[str, Any]:
    document = region.to_json()
    del document["area"]
    return document
