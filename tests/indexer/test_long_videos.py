"""Two hours of video take little more memory than a minute; `pytest -s` shows the figures."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from made_library import Library, command, painted
from made_videos import write_video

pytestmark = [pytest.mark.slow, pytest.mark.campaign]

# A process inherits the peak of the one it is forked from, so a small one stands between.
_MEASURED = """
import pathlib, resource, subprocess, sys
code = subprocess.call(sys.argv[2:])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
pathlib.Path(sys.argv[1]).write_text(f"{used.ru_maxrss * 1024} {used.ru_utime + used.ru_stime}")
sys.exit(code)
"""


def _index_measured(library: Library) -> tuple[int, float]:
    """Peak bytes and CPU seconds of indexing in a process of its own."""
    peak = library.home.parent / "peak"
    arguments = ("index", library.photos, "--home", library.home, "--profile", "fake", "--json")
    subprocess.run(
        [sys.executable, "-c", _MEASURED, peak, *command(*arguments)],
        check=True,
        capture_output=True,
    )
    most, seconds = peak.read_text().split()
    return int(most), float(seconds)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_two_hours_take_little_more_memory_than_a_minute(
    tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two hours at five frames a second; each scene lasts five seconds."""
    names = ["red", "green", "blue", "yellow", "purple", "white"]
    scenes = [(painted((name, names[n % 5]), n, (320, 240)), 5.0) for n, name in enumerate(names)]
    used = {}
    for name, minutes in (("short", 1), ("long", 120)):
        library = Library(tmp_path / name)
        write_video(
            library.photos / f"clip{suffix}", scenes * (2 * minutes), size=(320, 240), rate=5
        )
        used[name] = _index_measured(library)
        ((count,),) = library.sql("SELECT count(*) FROM region")
        assert count == min(12 * minutes, 1000)
    with capsys.disabled():
        print(f"\n{suffix}: peak ratio {used['long'][0] / used['short'][0]:.3f}, CPU {used}")
    assert used["long"][0] < 1.3 * used["short"][0]
