"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def photos_dir() -> Path:
    """The labelled photo set; `REGARD_TEST_PHOTOS` names it."""
    folder = Path(os.environ.get("REGARD_TEST_PHOTOS", REPOSITORY.parent / "shared" / "photos"))
    if not (folder / "captions.json").is_file():
        pytest.skip(f"no labelled photographs at {folder}; set REGARD_TEST_PHOTOS")
    return folder.resolve()
