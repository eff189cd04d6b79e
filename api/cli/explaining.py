"""`regard search --explain`: the channels that found each hit, and their shares of its score."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.table import Table
from rich.text import Text

from regard.api.cli.app import printable
from regard.api.cli.output import print_hits, wide_console
from regard.api.library.results import Hit
from regard.search.answers import ChannelMatch

_FIELDS = {
    "title": "the title",
    "tag": "a tag",
    "file_name": "the file's name",
    "folder": "a folder's name",
    "description": "the description",
    "caption": "the caption",
    "region_caption": "a region's caption",
    "text": "text in the picture",
    "similar_text": "similar text in the picture",
}


def print_explained(hits: Sequence[Hit], *, is_filtered: bool = False) -> None:
    """A paragraph for each hit, with a line for each channel that found it."""
    if not hits:
        print_hits(hits, is_filtered=is_filtered)
        return
    console = wide_console()
    for hit in hits:
        console.print(Text(f"{hit.rank}. {printable(hit.asset.uri)}", style="bold"))
        console.print(_summary(hit))
        table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
        for justify in ("right", "right", "left", "left"):
            table.add_column(justify=justify, overflow="fold")
        for match in sorted(hit.channels, key=lambda match: -match.contribution):
            share = match.contribution / hit.score if hit.score else 0.0
            table.add_row(
                f"   {share:.0%}",
                f"{match.contribution:.4f}",
                f"{match.kind} #{match.rank}, {match.score:.3f}",
                Text(printable("; ".join(_reasons(match, hit)))),
            )
        console.print(table)
        if hit.refined is not None:
            box = ",".join(map(str, hit.refined.bbox))
            console.print(
                f"   shown at {box}, which is right with a sureness of {hit.refined.score:.0%}"
            )


def _summary(hit: Hit) -> str:
    if not hit.channels:
        return "   listed by date: nothing was searched for"
    known = "" if hit.relevance is None else f", right with a probability of {hit.relevance:.0%}"
    return f"   score {hit.score:.4f}{known}, made of"


def _reasons(match: ChannelMatch, hit: Hit) -> Iterator[str]:
    """What the channel matched, in words."""
    match match.kind:
        case "image":
            yield "the whole picture"
        case "region" if hit.region is not None and hit.region.text is not None:
            # A line of text is shown, which has no vector.
            yield "a part of it"
        case "region" if hit.region is not None:
            yield f"its part {hit.region.id} at {','.join(map(str, hit.region.bbox))}"
        case "caption":
            yield f"the caption “{hit.caption}”"
        case "keyword" | "text":
            for word in match.words:
                yield f"“{word.text}” in {_FIELDS.get(word.field, word.field)}"
            if match.kind == "text" and hit.region is not None and hit.region.text is not None:
                yield f"line {hit.region.id} at {','.join(map(str, hit.region.bbox))}"
            if hit.asset.caption and any(word.field == "caption" for word in match.words):
                yield f"which is “{hit.asset.caption}”"
