"""docs/scale.md holds what its script computes."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def test_tables_of_the_docs_are_those_of_the_script() -> None:
    table = runpy.run_path(str(REPOSITORY / "benchmarks" / "library_costs.py"))["table"]
    text = (REPOSITORY / "docs" / "scale.md").read_text()
    given = re.findall(r"^\| ([\d.]+) kB in (\d+) vectors \|", text, re.MULTILINE)
    assert given
    for kilobytes, vectors in given:
        lines = "\n".join(table(float(kilobytes) * 1e3, int(vectors)))
        assert lines in text, lines
