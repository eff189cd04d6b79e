"""Compare indexing with the bare model calls: `python benchmarks/indexing_rate.py DIR [DIR...]`.

Two things are timed in turn, several times, in one process:

- indexing: `Indexer.run` over the folders into a new home, from discovery to the snapshot, loading of the
  models included;
- models: the same profile's analyzer over the same photographs, decoded before, at the setting (calls side
  by side, images a call, threads inside a call) that is the quickest over every sixth photograph.

The ratio of the two says what reading, hashing, decoding, committing and the indexes cost. Only
ratios of one run compare; the rates depend on the machine and on what else it does.

With `--against PYTHON`, the interpreter of another checkout's environment, `regard index` of this
checkout and of that one take turns instead, each in a process and a home of its own, and without
reading text.

With `--ray ADDRESS`, this checkout's command with that option takes turns with the one without. Processor
time then counts without the actors, which belong to the cluster.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from regard.api.library.home import open_or_make_home
from regard.api.library.settings import Settings
from regard.core.protocols import Analyzer
from regard.core.records import Image
from regard.indexer.folder_walk import FolderWalk
from regard.models.profiles.registry import load_profile
from regard.photos.photo_file import decode_file


@dataclass(frozen=True)
class Setting:
    """How the analyzer is called."""

    calls: int
    batch: int
    threads_inside: int

    def __str__(self) -> str:
        return f"{self.calls} calls of {self.batch}, {self.threads_inside} threads inside"


def main() -> None:
    """Time, and print a table or JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folders", nargs="*", type=Path, default=[Path("photoset")])
    parser.add_argument("--profile", default="lite")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--against", type=Path, metavar="PYTHON")
    parser.add_argument("--ray", metavar="ADDRESS")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    is_compared = arguments.against or arguments.ray
    report = _compare(arguments) if is_compared else _measure(arguments)
    print(json.dumps(report, indent=None if arguments.json else 2))


def _compare(arguments: argparse.Namespace) -> dict[str, object]:
    """Photographs a second, and a second of processor time, of two commands in turns."""
    this = Path(sys.executable)
    commands: dict[str, tuple[Path, list[str]]] = {
        "this": (this, ["--ray", arguments.ray] if arguments.ray else []),
        "other": (arguments.against or this, []),
    }
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for number in range(arguments.rounds):
        print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr)
        for name, (python, options) in commands.items():
            given = ["--profile", arguments.profile, *options]
            runs[name].append(_run_index(python, given, arguments.folders))
    report: dict[str, object] = {"profile": arguments.profile}
    for position, clock in enumerate(("elapsed", "processor")):
        rates = {name: [run[position] for run in done] for name, done in runs.items()}
        for name, values in rates.items():
            report[f"{name}_per_second_{clock}"] = _spread(values)
        pairs = zip(rates["this"], rates["other"], strict=True)
        report[f"ratio_{clock}"] = _spread([this / other for this, other in pairs])
    return report


def _run_index(python: Path, options: list[str], folders: list[Path]) -> tuple[float, float]:
    """Photographs a second of elapsed and of processor time by `regard index` of a checkout."""
    code = "import sys; from regard.api.cli import main; sys.exit(main(sys.argv[1:]))"
    with tempfile.TemporaryDirectory() as home:
        command = [python.absolute(), "-c", code, "index", *(f.resolve() for f in folders)]
        if b"--no-read" in subprocess.check_output([*command, "--help"]):
            command.append("--no-read")
        started, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [*command, "--home", home, *options, "--json"],
            cwd=home,
            stdout=subprocess.PIPE,
            check=True,
        )
        elapsed = time.perf_counter() - started
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = usage.ru_utime + usage.ru_stime - used.ru_utime - used.ru_stime
    count = json.loads(done.stdout)["indexed"]
    return count / elapsed, count / processor


def _measure(arguments: argparse.Namespace) -> dict[str, object]:
    """Indexing and the bare model calls in turns."""

    profile = load_profile(arguments.profile)
    analyzer = profile.analyzer()
    paths = [
        found.stamp.path for folder in arguments.folders for found in FolderWalk(_bytes(folder))
    ]
    images = [decode_file(path) for path in paths]
    analyzer.analyze(images[:1])
    cores = len(os.sched_getaffinity(0))
    settings = [Setting(cores, batch, 1) for batch in (1, 4, 8, 16)]
    settings += [Setting(1, batch, cores) for batch in (1, 8)]
    tried = {setting: _rate(analyzer, images[::6], setting) for setting in settings}
    best = max(tried, key=lambda setting: tried[setting])
    indexing, models = [], []
    for number in range(arguments.rounds):
        print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr)
        indexing.append(len(images) / _time_indexing(arguments.profile, arguments.folders))
        models.append(_rate(analyzer, images, best))
    return {
        "photographs": len(images),
        "profile": arguments.profile,
        "indexing_per_second": _spread(indexing),
        "models_per_second": _spread(models),
        "ratio": _spread([a / b for a, b in zip(indexing, models, strict=True)]),
        "models_at": str(best),
        "settings_tried": {str(setting): round(rate, 2) for setting, rate in tried.items()},
    }


def _time_indexing(profile: str, folders: list[Path]) -> float:
    with tempfile.TemporaryDirectory() as home:
        started = time.perf_counter()
        with open_or_make_home(Settings.resolve(Path(home), {}), profile) as library:
            report = library.indexer("default").run(folders)
        seconds = time.perf_counter() - started
    if report.failures:
        raise SystemExit(f"{len(report.failures)} photographs failed")
    return seconds


def _rate(analyzer: Analyzer, images: list[Image], setting: Setting) -> float:
    """Photographs a second through the analyzer."""
    torch.set_num_threads(setting.threads_inside)
    batches = [images[at : at + setting.batch] for at in range(0, len(images), setting.batch)]
    started = time.perf_counter()
    with ThreadPoolExecutor(setting.calls) as pool:
        for _ in pool.map(analyzer.analyze, batches):
            pass
    return len(images) / (time.perf_counter() - started)


def _spread(values: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 3),
        "minimum": round(min(values), 3),
        "maximum": round(max(values), 3),
    }


def _bytes(folder: Path) -> bytes:
    return bytes(folder.resolve())


if __name__ == "__main__":
    main()
