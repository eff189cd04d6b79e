"""The benchmark of size takes each of its figures, here of few photographs."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "library_size.py"


@pytest.mark.campaign
def test_every_figure_is_taken() -> None:
    sizes = ("--photographs", "60", "--repeats", "4", "--engine-rows", "200")
    done = subprocess.run(
        [sys.executable, SCRIPT, *sizes], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPT.parent)
        assert list(report) == list(runpy.run_path(str(SCRIPT))["FIGURES"])
    assert not [name for name, figure in report.items() if "skipped" in figure]


def test_too_few_repeats_are_refused() -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "--repeats", "3"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "--repeats" in done.stderr
