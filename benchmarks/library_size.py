"""Measure how regard grows: `python benchmarks/library_size.py --photographs N [--home DIR]`.

Makes a synthetic library (`synthetic_library.py`), or uses the one made earlier in DIR, and
prints figures as JSON, each by a function below. `--only` names some of them; those that change
the library come last. `--real` is a folder of `real_vectors.py`, to which the vectors are fitted
and on which recall is measured; without one, scikit-image's photographs serve as a small sample.

`--against` prints how each figure grew beside an earlier report's. Times depend on the machine and
on what else it does.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from size_library import SORTS, Bench, Skipped
from size_measuring import (
    bytes_below,
    forget_pages,
    get,
    memory,
    post,
    repeated,
    run,
    seconds,
    together,
)
from size_recall import engines, recall, recall_real
from synthetic_library import COLLECTIONS, PROBE, SHARES, Maker
from synthetic_vectors import Mixtures, compare

from regard.api.cli.sample_photos import gather_sample_photos
from regard.api.library.home import open_home
from regard.api.library.settings import Settings
from regard.core.records import Target
from regard.search.answers import Scope, TextQuery

_DEEP = 1000


_PAGE, _PAGES = 20, 50


_CLIENTS = 8


_REST_SECONDS = 100  # a minute after its last job the worker gives memory back


_ENOUGH = 5  # times that a slow request is repeated
_LEAST_REPEATS = 4  # half of them, without the first, still have percentiles


_BULK = 1000


def catalog(bench: Bench) -> dict[str, Any]:
    """Writes a second, bytes over the vectors' bytes, and the first building of the indexes."""
    return bench.made


def resemblance(bench: Bench) -> list[dict[str, object]]:
    """Scores of real queries over real and over synthetic rows."""
    return compare(bench.real, bench.mixtures)


def cold(bench: Bench) -> dict[str, Any]:
    """A search in a new process, first with nothing of the home in the system's cache."""
    bench.stop()
    forget_pages(bench.home)
    search = partial(run, "search", "a red bus", "--json", "--home", bench.home)
    return {"uncached": search(), "cached": search()}


def server(bench: Bench) -> dict[str, Any]:
    """A server's start and its first search, with nothing of the home in the system's cache."""
    bench.stop()
    forget_pages(bench.home)
    started = bench.server
    return {
        "ready_seconds": started.ready,
        "first_search_seconds": started.first,
        "stop_seconds": round(seconds(bench.stop), 2),
    }


def warm(bench: Bench) -> dict[str, Any]:
    """Searches of a warm server, one client."""

    def composed(searches: int, count: int, negative: int) -> list[Callable[[], Any]]:
        documents = []
        for _ in range(searches):
            of: list[dict[str, Any]] = [{"text": one} for one in bench.texts(count)]
            of[count - negative :] = [{**one, "negative": True} for one in of[count - negative :]]
            documents.append({"terms": of})
        return [partial(post, bench.client, "/v1/search", one) for one in documents]

    asset = get(bench.client, "/v1/assets", limit=1)["items"][0]["id"]
    similar = partial(get, bench.client, f"/v1/assets/{asset}/similar")
    return {
        "text_to_image": repeated(bench.searches()),
        "text_to_region": repeated(bench.searches(target="region")),
        "like_image": repeated([similar] * _ENOUGH),
        "three_terms_one_negative": repeated(composed(bench.repeats // 2, 3, 1)),
        "sixteen_terms": repeated(composed(_ENOUGH, 16, 0)),
        "with_facets": repeated(bench.searches(_ENOUGH, facets="camera,month,tags,collection")),
        "page_50": _last_page(bench),
    }


def _last_page(bench: Bench) -> dict[str, float]:
    times = []
    for one in bench.texts(_ENOUGH):
        cursor: dict[str, str] = {}
        for _ in range(_PAGES):
            started = time.perf_counter()
            answer = get(bench.client, "/v1/search", q=one, limit=_PAGE, **cursor)
            last = time.perf_counter() - started
            cursor = {"cursor": answer["next"]}
            if answer["next"] is None:
                break
        times.append(last)
    return {"p50_ms": round(1000 * float(np.median(times)), 2)}


def deep(bench: Bench) -> dict[str, Any]:
    """A thousand hits, from the engine in this process."""
    with open_home(Settings.resolve(bench.home, {})) as home:
        engine = home.engine()
        scope = Scope(Target.IMAGE, _DEEP)
        calls = [partial(engine.search, TextQuery(one), scope) for one in bench.texts(_ENOUGH)]
        return {"limit_1000": repeated(calls)}


def filters(bench: Bench) -> dict[str, Any]:
    """Searches within a share of the photographs, near to and far from the text; all must hit."""
    numbers = itertools.count()

    def search(tag: str = "") -> Any:
        # A number hardly changes the text, but nobody has searched for it before.
        text = f"{PROBE} {next(numbers)} {tag}"
        return get(bench.client, "/v1/search", limit=100, q=text)

    plain = repeated([search] * bench.repeats)
    found: dict[str, Any] = {"unfiltered": plain}
    for sort, share in itertools.product(SORTS, SHARES):
        tag = f"{sort}-{share}"
        passing = bench.query("SELECT count(*) FROM asset_tag WHERE tag = :tag", tag=tag)[0][0]
        if not passing:
            continue
        within = partial(search, f"tag:{tag}")
        first = seconds(within)
        times = repeated([within] * _ENOUGH)
        found[tag] = times | {
            "first_ms": round(1000 * first, 2),
            "over_unfiltered": round(times["p50_ms"] / plain["p50_ms"], 2),
            "passing": passing,
            "hits_missing": min(100, passing) - len(within()["hits"]),
        }
    return found


def clients(bench: Bench) -> dict[str, Any]:
    """Eight clients that search without pause."""
    connections = [httpx.Client(base_url=bench.server.url, timeout=600) for _ in range(_CLIENTS)]

    def search(number: int) -> None:
        get(connections[number], "/v1/search", q=bench.texts(1)[0])

    search(0)
    found = together(_CLIENTS, 20.0, search)
    for connection in connections:
        connection.close()
    return found


def memory_use(bench: Bench) -> dict[str, Any]:
    """Memory of server and worker after searches and an upload, and over the vectors' bytes.

    Measured when the upload was analysed, and when the worker has rested for a while.
    """
    for search in bench.searches(_ENOUGH) + bench.searches(_ENOUGH, target="region"):
        search()
    with tempfile.TemporaryDirectory() as folder:
        gather_sample_photos(Path(folder))
        # Another content each time, which has to be analysed.
        picture = (Path(folder) / "coffee.png").read_bytes() + os.urandom(8)
    upload = bench.client.post("/v1/assets", files={"file": ("coffee.png", picture)})
    upload.raise_for_status()
    deadline = time.monotonic() + 300
    while get(bench.client, "/v1/assets", state="pending")["items"]:
        if time.monotonic() > deadline:
            raise Skipped("the upload was not analysed within five minutes")
        time.sleep(0.5)
    for search in bench.searches(_ENOUGH):
        search()
    vectors = bench.made["vector_bytes"] / 2**20

    def measured() -> dict[str, Any]:
        used = {name: memory(process) for name, process in bench.server.processes().items()}
        private = sum(one["private_mb"] for one in used.values())
        return used | {
            "server_over_vectors": round(used["server"]["private_mb"] / vectors, 3),
            "together_over_vectors": round(private / vectors, 3),
        }

    found = measured()
    time.sleep(_REST_SECONDS)
    return found | {"rested": measured()}


def lists(bench: Bench) -> dict[str, Any]:
    """Requests that list, count and describe."""
    paths: dict[str, tuple[str, dict[str, Any]]] = {
        "info": ("/v1/info", {}),
        "pipelines": ("/v1/pipelines", {}),
        "collections": ("/v1/collections", {}),
        "changes": ("/v1/changes", {}),
        "bursts": ("/v1/duplicates", {"kind": "burst"}),
        "list_by_date": ("/v1/assets", {"sort": "-date"}),
        "list_by_added": ("/v1/assets", {"sort": "-added"}),
        "list_facets": ("/v1/assets", {"facets": "camera,month,tags,collection"}),
        "months": ("/v1/assets/months", {}),
        "suggestions": ("/v1/suggestions", {"q": "any"}),
        "list_tag": ("/v1/assets", {"tag": "any-1"}),
    }
    found: dict[str, Any] = {}
    _wait_for_copies(bench)
    for name, (path, parameters) in paths.items():
        call = partial(get, bench.client, path, **parameters)
        first = seconds(call)
        found[name] = repeated([call] * _ENOUGH) | {"first_ms": round(1000 * first, 2)}
    middle = partial(get, bench.client, "/v1/assets", sort="-date", limit=100)
    for _ in range(bench.made["photographs"] // 200):
        cursor = middle()["next"]
        middle = partial(middle, cursor=cursor) if cursor else middle
    return found | {"list_middle_page": repeated([middle] * _ENOUGH)}


def _wait_for_copies(bench: Bench) -> None:
    """Until the worker has compared all photographs."""
    while get(bench.client, "/v1/duplicates", kind="burst", limit=1)["waiting"]:
        time.sleep(0.5)


def commands(bench: Bench) -> dict[str, Any]:
    """Commands that look at everything, and an unchanged tree."""
    bench.stop()
    index = [bench.photographs / name for name in COLLECTIONS]
    return {
        "status": run("status", "--home", bench.home),
        "verify": run("verify", "--home", bench.home),
        "unchanged": run("index", index[0], "--collection", index[0].name, "--home", bench.home),
    }


def new_photograph(bench: Bench) -> dict[str, Any]:
    """One photograph that is indexed into the library by a process of its own."""
    bench.stop()
    with tempfile.TemporaryDirectory() as folder:
        gather_sample_photos(Path(folder) / "all")
        picture = Path(folder) / "new" / f"{time.time_ns()}.png"
        picture.parent.mkdir()
        # Bytes behind the end make it another content.
        picture.write_bytes((Path(folder) / "all" / "cat.png").read_bytes() + picture.name.encode())
        return run("index", picture.parent, "--home", bench.home)


def rebuild(bench: Bench) -> dict[str, Any]:
    """All vector indexes from the catalog."""
    bench.stop()
    return run("rebuild", "--home", bench.home)


def copies(bench: Bench) -> dict[str, Any]:
    """The first search for copies, which compares all photographs."""
    bench.stop()
    return run("duplicates", "--kind", "exact", "--kind", "edited", "--home", bench.home)


def same_objects(bench: Bench) -> dict[str, Any]:
    """The first search for photographs of the same object."""
    bench.stop()
    return run("duplicates", "--kind", "object", "--home", bench.home)


def replay(bench: Bench) -> dict[str, Any]:
    """A hundredth is added by a run that dies before it saves indexes; then two searches."""
    bench.stop()
    with open_home(Settings.resolve(bench.home, {})) as home:
        Maker(home, Mixtures(bench.real, seed=1), seed=1).write(
            bench.made["photographs"] // 100, bench.photographs / "late"
        )
    search = partial(run, "search", "a red bus", "--json", "--home", bench.home)
    return {"first": search(), "second": search()}


def remove(bench: Bench) -> dict[str, Any]:
    """All photographs of a collection, a twentieth of the library, are forgotten."""
    bench.stop()
    folder = bench.photographs / "scans"
    return run("remove", folder, "--collection", "scans", "--home", bench.home)


def edits(bench: Bench) -> dict[str, Any]:
    """A fifth goes to the trash, a thousand at a time; then searches after each of some edits."""
    ids = [f"a{row.id}" for row in bench.query("SELECT id FROM asset ORDER BY id DESC")]
    trashed = ids[1::5]
    bulk = partial(post, bench.client, "/v1/assets/bulk")
    parts = [trashed[start : start + _BULK] for start in range(0, len(trashed), _BULK)]
    trash = [seconds(partial(bulk, {"ids": part, "action": "delete"})) for part in parts]
    searches = bench.searches(_ENOUGH)
    before, after = repeated(searches), []
    for search, one in zip(searches, ids[::5], strict=False):
        bulk({"ids": [one], "action": "tag", "tags": ["edited"]})
        after.append(seconds(search))
    return {
        "trash_1000_ms": round(1000 * float(np.median(trash)), 1),
        "search_with_trash": before,
        "search_after_an_edit_ms": round(1000 * float(np.median(after)), 2),
    }


def purge(bench: Bench) -> dict[str, Any]:
    """The trash is emptied, with searches meanwhile; the bytes of the home before and after."""
    before = bytes_below(bench.home)
    trashed = len(bench.query("SELECT id FROM asset WHERE deleted_at IS NOT NULL"))
    started = time.monotonic()
    jobs = post(bench.client, "/v1/trash/empty", {})["jobs"]
    took = time.monotonic() - started
    meanwhile = repeated(bench.searches(_ENOUGH))
    for job in jobs:
        while get(bench.client, f"/v1/jobs/{job['id']}")["state"] in {"queued", "running"}:
            time.sleep(0.2)
    all_took = time.monotonic() - started
    search = repeated(bench.searches(_ENOUGH))
    bench.stop()
    after = bytes_below(bench.home)
    return {
        "purged": trashed,
        "request_seconds": round(took, 2),
        "seconds": round(all_took, 2),
        "search_meanwhile": meanwhile,
        "search_after": search,
        "bytes_before": before,
        "bytes_after": after,
    }


FIGURES: dict[str, Callable[[Bench], Any]] = {
    figure.__name__: figure
    for figure in (
        *(catalog, resemblance, cold, server, warm, deep, filters, clients, recall, recall_real),
        *(
            engines,
            commands,
            memory_use,
            new_photograph,
            rebuild,
            copies,
            same_objects,
            lists,
            replay,
        ),
        *(edits, purge, remove),
    )
}


def print_growth(before: object, after: object, name: str = "") -> None:
    """A Markdown row for each number of two reports, with their ratio."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in (key for key in before if key in after):
            print_growth(before[key], after[key], f"{name} {key}".strip())
    elif isinstance(before, int | float) and isinstance(after, int | float):
        ratio = f"{after / before:.2f}" if before else ""
        print(f"| {name.replace('_', ' ')} | {before:g} | {after:g} | {ratio} |", file=sys.stderr)


def main() -> None:
    """Make the library, measure, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photographs", type=int, default=2000)
    parser.add_argument("--home", type=Path, help="keep the library here, and use it again")
    parser.add_argument("--real", type=Path, help="a folder of real_vectors.py")
    parser.add_argument("--only", nargs="+", choices=FIGURES, default=list(FIGURES))
    parser.add_argument(
        "--against", type=Path, help="an earlier report, to print a table of growth"
    )
    parser.add_argument("--repeats", type=int, default=40, help=f"at least {_LEAST_REPEATS}")
    parser.add_argument("--engine-rows", type=int, default=100_000, help="for other engines")
    parser.add_argument("--postgres", metavar="URL", help="a database for pgvector")
    arguments = parser.parse_args()
    if arguments.repeats < _LEAST_REPEATS:
        parser.error(f"--repeats is at least {_LEAST_REPEATS}")
    folder = arguments.home or Path(tempfile.mkdtemp(prefix="regard-size-"))
    bench = Bench(folder, arguments)
    report: dict[str, Any] = {}
    try:
        bench.make(arguments.photographs)
        for name in arguments.only:
            try:
                report[name] = FIGURES[name](bench)
            except (Skipped, httpx.HTTPError) as error:
                report[name] = {"skipped": str(error)}
            print(name, json.dumps(report[name]), file=sys.stderr, flush=True)
    finally:
        bench.stop()
        if arguments.home is None:
            shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(report, indent=2))
    if arguments.against is not None:
        print_growth(json.loads(arguments.against.read_text(encoding="utf-8")), report)


if __name__ == "__main__":
    main()
