"""Time the stages of a first text search: `python benchmarks/cold_start.py HOME [TEXT]`.

Starts fresh interpreters, so that nothing but the disk's cache is warm, and prints medians in
milliseconds: the whole command, and what each of its stages took.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

_STAGES = """
import json, sys, time
marks = [("interpreter", time.perf_counter())]
from pathlib import Path
from regard.api.cli import output
from regard.api.cli.commands import search
from regard.api.library.home import open_home
from regard.core.records import Target
from regard.api.library.settings import Settings
from regard.search.answers import Scope, TextQuery
marks.append(("imports", time.perf_counter()))
with open_home(Settings.resolve(Path(sys.argv[1]), {})) as library:
    marks.append(("open the home", time.perf_counter()))
    for space in {space.name for space in library.profile.spec.spaces}:
        encoder = library.profile.encoder(space)
        if encoder.takes_texts:
            encoder.encode_texts([sys.argv[2]])
    marks.append(("load the text encoder and encode", time.perf_counter()))
    library.indexes.catch_up()
    marks.append(("read the vector indexes", time.perf_counter()))
    library.engine().search(TextQuery(sys.argv[2]), Scope(Target.IMAGE, 10))
    marks.append(("search and hydrate", time.perf_counter()))
print(json.dumps({b[0]: 1000 * (b[1] - a[1]) for a, b in zip(marks, marks[1:])}))
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("home")
    parser.add_argument("text", nargs="?", default="a red flower")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    whole: list[float] = []
    stages: list[dict[str, float]] = []
    for _ in range(arguments.rounds):
        started = time.perf_counter()
        _run("-m", "regard.api.cli", "search", arguments.text, "--home", arguments.home)
        whole.append(1000 * (time.perf_counter() - started))
        stages.append(json.loads(_run("-c", _STAGES, arguments.home, arguments.text)))
    print(f"{statistics.median(whole):6.0f}  regard search, the whole command")
    for name in stages[0]:
        print(f"{statistics.median(stage[name] for stage in stages):6.0f}  {name}")


def _run(*arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True)
    return done.stdout


if __name__ == "__main__":
    main()
