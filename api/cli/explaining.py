"""`regard search --explain`: for each hit, what found it and how much of its score that is."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from regard.api.cli.app import printable
from regard.api.cli.output import JsonHit, print_hits

_FIELDS = {
    "title": "the title",
    "tag": "a tag",
    "file_name": "the file's name",
    "folder": "a folder's name",
    "description": "the description",
    "caption": "the caption",
    "region_caption": "a region's caption",
}


def print_explained(hits: Sequence[JsonHit], *, is_filtered: bool = False) -> None:
    """Hits in the documented JSON form: one paragraph each, a line for each channel that found it."""
    if not hits:
        print_hits(hits, is_filtered=is_filtered)
        return
    console = Console(width=None if sys.stdout.isatty() else 240)
    for hit in hits:
        console.print(Text(f"{hit['rank']}. {printable(hit['asset']['uri'])}", style="bold"))
        console.print(_summary(hit))
        table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
        for justify in ("right", "right", "left", "left"):
            table.add_column(justify=justify, overflow="fold")
        for match in sorted(hit["channels"], key=lambda match: -float(match["contribution"])):
            table.add_row(
                f"   {_share(match, hit):.0%}",
                f"{match['contribution']:.4f}",
                f"{match['kind']} #{match['rank']}, {match['score']:.3f}",
                Text(printable("; ".join(_reasons(match, hit)))),
            )
        console.print(table)


def _summary(hit: JsonHit) -> str:
    if not hit["channels"]:
        return "   listed by date: nothing was looked for"
    known = hit["relevance"]
    relevance = "" if known is None else f", right with a probability of {known:.0%}"
    return f"   score {hit['score']:.4f}{relevance}, made of"


def _share(match: Mapping[str, Any], hit: JsonHit) -> float:
    return float(match["contribution"]) / hit["score"] if hit["score"] else 0.0


def _reasons(match: Mapping[str, Any], hit: JsonHit) -> Iterator[str]:
    """What of the hit the channel matched, in words."""
    region, caption = hit["region"], hit["asset"]["caption"]
    match match["kind"]:
        case "image":
            yield "the whole picture"
        case "region" if region is not None:
            box = ",".join(map(str, region["bbox"]))
            yield f"its part {region['id']} at {box}"
        case "caption":
            of_region = None if region is None else region["caption"]
            yield f"the caption “{of_region or caption or ''}”"
        case "keyword":
            for word in match["words"]:
                yield f"“{word['text']}” in {_FIELDS.get(word['field'], word['field'])}"
            if caption and any(word["field"] == "caption" for word in match["words"]):
                yield f"which is “{caption}”"
