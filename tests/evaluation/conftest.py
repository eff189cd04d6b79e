"""A small labelled set on disk."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from made_labels import HEIGHT, WIDTH, WriteSet
from PIL import Image as Pillow


@pytest.fixture
def write_set(tmp_path: Path) -> WriteSet:
    """Writes photographs, `captions.json` and `instances.json`; annotations as COCO has them."""

    def write(
        names: Sequence[str],
        captions: Sequence[Mapping[str, Any]] = (),
        objects: Sequence[Mapping[str, Any]] = (),
        categories: Sequence[Mapping[str, Any]] = (),
    ) -> Path:
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Pillow.new("RGB", (WIDTH, HEIGHT), "teal").save(path)
        images = [
            {"id": i, "file_name": name, "width": WIDTH, "height": HEIGHT}
            for i, name in enumerate(names, start=1)
        ]
        for file, listed in (("captions.json", captions), ("instances.json", objects)):
            content = {
                "images": images,
                "annotations": [{"id": i, **one} for i, one in enumerate(listed, start=1)],
                "categories": list(categories),
            }
            (tmp_path / file).write_text(json.dumps(content))
        return tmp_path

    return write
