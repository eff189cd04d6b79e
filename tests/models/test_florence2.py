"""Florence-2: captions, region captions and grounding, against transformers' own way."""

from __future__ import annotations

import functools
import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from made_checkpoints.florence2 import make_florence2
from transformers import AutoProcessor, Florence2ForConditionalGeneration

from regard.core.errors import ModelError, UsageError
from regard.core.geometry import Box
from regard.core.records import Image
from regard.models.checkpoints.source import ModelSource
from regard.models.florence2.part import Florence2CaptionerPart, Florence2GrounderPart
from regard.models.florence2.reader import located_box, location_tokens, plain_text
from regard.models.parts import PartDefinition, RegionCaptioner

pytestmark = pytest.mark.slow

# With these random weights the model writes letters, or places that have both sides.
WRITING, LOCATING = 12, 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_florence2(tmp_path_factory.mktemp("florence2") / "model", WRITING)


@pytest.fixture(scope="module")
def finding(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("florence2") / "model"
    return make_florence2(folder, LOCATING, locates=True)


@functools.cache
def published(folder: Path) -> tuple[Any, Any]:
    """transformers' processor and model."""
    model = Florence2ForConditionalGeneration.from_pretrained(folder, local_files_only=True)
    return AutoProcessor.from_pretrained(folder, local_files_only=True), model.eval()


@pytest.fixture(scope="module")
def photographs(sample_images: list[Image]) -> list[Image]:
    found = [image.pixels for image in sample_images[:4]]
    found += [found[0][:, :200], found[2][5:6, 7:8]]  # tall, one pixel
    return [Image(np.ascontiguousarray(pixels)) for pixels in found]


def definition(folder: Path, parameters: dict[str, Any]) -> PartDefinition:
    source = ModelSource(path=folder)
    return PartDefinition("florence2", "profile test", source, "cpu", "float32", parameters)


def captioner(folder: Path, **parameters: Any) -> Any:
    return Florence2CaptionerPart(definition(folder, {"max_new_tokens": 12, **parameters})).load()


def reference(folder: Path, image: Image, prompt: str, beams: int) -> str:
    """What transformers' processor and model give for a task's prompt."""
    processor, model = published(folder)
    inputs = processor(
        images=[PIL.Image.fromarray(image.pixels)], text=[prompt], return_tensors="pt"
    )
    made = model.generate(**inputs, max_new_tokens=12, num_beams=beams, do_sample=False)
    text: str = processor.batch_decode(made, skip_special_tokens=True)[0]
    return plain_text(text)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize(
    ("detail", "task"),
    [
        ("brief", "<CAPTION>"),
        ("detailed", "<DETAILED_CAPTION>"),
        ("paragraph", "<MORE_DETAILED_CAPTION>"),
    ],
)
def test_captions_are_those_of_the_published_tasks(
    folder: Path, photographs: list[Image], detail: str, task: str, beams: int
) -> None:
    written = captioner(folder, detail=detail, beams=beams).caption(photographs)
    assert written == [reference(folder, image, task, beams) for image in photographs]
    assert len(set(written)) > 1


def test_regions_are_captioned_at_their_places_in_the_image(
    folder: Path, photographs: list[Image]
) -> None:
    model = captioner(folder)
    assert isinstance(model, RegionCaptioner)
    first, second, third = photographs[:3]
    boxes = [[Box(10, 20, 90, 60), Box(0, 0, first.width, first.height)], [], [Box(3, 4, 50, 70)]]
    written = model.caption_regions([first, second, third], boxes)
    assert [len(lines) for lines in written] == [2, 0, 1]
    for image, its_boxes, lines in zip((first, second, third), boxes, written, strict=True):
        for box, line in zip(its_boxes, lines, strict=True):
            tokens = location_tokens(box, image.width, image.height)
            assert line == reference(folder, image, f"<REGION_TO_DESCRIPTION>{tokens}", 3)
    assert len({line for lines in written for line in lines}) > 1
    assert model.caption_regions([], []) == []


def test_a_batch_gives_the_captions_of_single_calls(folder: Path, photographs: list[Image]) -> None:
    singly = captioner(folder, batch_size=1).caption(photographs)
    assert captioner(folder, batch_size=4).caption(photographs) == singly
    with ThreadPoolExecutor(3) as pool:
        shared = captioner(folder)
        assert [lines for (lines,) in pool.map(shared.caption, [[one] for one in photographs])] == (
            singly
        )


def test_no_caption_holds_a_mark_of_another_task() -> None:
    assert plain_text("<s> a red</ocr> bus<loc_3><loc_999>\n at sea<poly>") == "a red bus at sea"
    assert plain_text("1 < 2 and 3 > 2") == "1 < 2 and 3 > 2"


@given(
    width=st.integers(1, 6000),
    height=st.integers(1, 6000),
    data=st.data(),
)
def test_location_tokens_keep_a_box_to_within_a_cell(
    width: int, height: int, data: st.DataObject
) -> None:
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    box = Box(x, y, data.draw(st.integers(1, width - x)), data.draw(st.integers(1, height - y)))
    cells = [int(cell) for cell in re.findall(r"\d+", location_tokens(box, width, height))]
    assert all(0 <= cell <= 999 for cell in cells)
    found = located_box(cells, width, height)
    if found is None:  # narrower than a cell
        assert box.width <= width / 1000 + 1 or box.height <= height / 1000 + 1
        return
    assert 0 <= found.x < found.right <= width
    assert 0 <= found.y < found.bottom <= height
    for one, other, length in (
        (found.x, box.x, width),
        (found.right, box.right, width),
        (found.y, box.y, height),
        (found.bottom, box.bottom, height),
    ):
        assert abs(one - other) <= length / 1000 + 0.5


def locator(folder: Path, **parameters: Any) -> Any:
    return Florence2GrounderPart(definition(folder, parameters)).load()


def test_a_text_is_located_where_the_model_writes_its_place(
    finding: Path, sample_images: list[Image]
) -> None:
    photographs = sample_images
    texts = ["a red car"] * len(photographs)
    places = locator(finding, threshold=0.0).locate(photographs, texts)
    found = [place for place in places if place is not None]
    assert len(found) >= 3
    for image, place in zip(photographs, places, strict=True):
        made = reference_places(finding, image, "a red car")
        if place is None:
            continue
        assert place.box in made
        assert place.box.clipped(image.width, image.height) == place.box
        assert 0 < place.score < 1
    one_by_one = [
        place
        for image in photographs
        for place in locator(finding, threshold=0.0, batch_size=1).locate([image], ["a red car"])
    ]
    assert [place and place.box for place in one_by_one] == [
        place and place.box for place in places
    ]
    least, *_, most = sorted(place.score for place in found)
    threshold = (least + most) / 2
    assert locator(finding, threshold=threshold).locate(photographs, texts) == [
        place if place is not None and place.score >= threshold else None for place in places
    ]


def reference_places(folder: Path, image: Image, text: str) -> list[Box]:
    """All boxes of the phrases, as transformers' processor reads what the model writes."""
    processor, model = published(folder)
    prompt = f"<CAPTION_TO_PHRASE_GROUNDING>{text}"
    inputs = processor(
        images=[PIL.Image.fromarray(image.pixels)], text=[prompt], return_tensors="pt"
    )
    made = model.generate(**inputs, max_new_tokens=64, num_beams=1, do_sample=False)
    written = processor.batch_decode(made, skip_special_tokens=False)[0]
    boxes = []
    for cells in re.findall(r"<loc_(\d+)><loc_(\d+)><loc_(\d+)><loc_(\d+)>", written):
        box = located_box([int(cell) for cell in cells], image.width, image.height)
        boxes += [] if box is None else [box]
    return boxes


def test_sureness_is_the_mean_probability_of_the_four_sides(folder: Path) -> None:
    reader = locator(folder)._reader
    token = {cell: token for token, cell in reader._locations.items()}
    sequence = torch.tensor([[2, 0, 300, token[10], token[20], token[500], token[900], 2]])
    logits = torch.zeros(1, max(token.values()) + 1)
    scores = tuple(logits.clone() for _ in range(sequence.shape[1] - 1))
    certain = 3
    scores[certain - 1][0, token[10]] = 100.0
    cells, sureness = reader.first_box(SimpleNamespace(sequences=sequence, scores=scores), 0)
    assert cells == [10, 20, 500, 900]
    rest = 1 / logits.shape[1]
    assert sureness == pytest.approx(rest ** (3 / 4), rel=1e-4)
    for broken in ([2, 0, token[10], token[20], token[500], 2], [2, 0, 300, 2]):
        made = SimpleNamespace(sequences=torch.tensor([broken]), scores=scores)
        assert reader.first_box(made, 0) is None


def test_a_long_text_is_cut(folder: Path, photographs: list[Image]) -> None:
    (place,) = locator(folder, threshold=0.0).locate(photographs[:1], ["boat " * 2000])
    assert place is None or place.box.area > 0


def test_parts_refuse_what_they_cannot_load(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="detail"):
        Florence2CaptionerPart(definition(folder, {"detail": "poem"}))
    other = tmp_path / "model"
    other.mkdir()
    for config, words in (
        ({"model_type": "bart"}, "not florence2"),
        ({"model_type": "florence2", "auto_map": {}}, "needs its own code"),
    ):
        (other / "config.json").write_text(json.dumps(config))
        with pytest.raises(ModelError, match=words):
            Florence2CaptionerPart(definition(other, {})).needs()
    part = Florence2CaptionerPart(definition(folder, {}))
    assert part.captions_regions
    assert part.names_thing("a boat")
    (need,) = part.needs()
    assert need.count > 0
    plain = Florence2CaptionerPart(definition(folder, {"batch_size": 3}))
    assert plain.identity() == part.identity()
