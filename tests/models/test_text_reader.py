"""The reader of text, with its real weights on a composed picture."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from onnxruntime import InferenceSession
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from regard.core.errors import CannotWork, ModelError
from regard.core.geometry import Box
from regard.core.records import Image
from regard.models.parts import PartDefinition
from regard.models.profiles.registry import load_profile
from regard.models.text_reading.part import RapidPart
from regard.models.text_reading.reader import RapidReader
from regard.models.text_reading.weights import DETECTION, RapidParameters

LINES = {"Fresh Bread": (40, 30), "OPEN 24 hours": (300, 200)}


@pytest.fixture(scope="module")
def reader() -> RapidReader:
    return RapidPart(PartDefinition("rapidocr", "test, reader")).load()


def picture(angle: float = 0) -> Image:
    """Two lines in dark letters on a light ground."""
    sheet = Pillow.new("RGB", (640, 320), (230, 225, 200))
    font = ImageFont.load_default(36)
    for text, place in LINES.items():
        ImageDraw.Draw(sheet).text(place, text, fill=(20, 30, 60), font=font)
    return Image(np.asarray(sheet.rotate(angle, expand=True, fillcolor=(230, 225, 200))))


def test_lines_are_read_where_they_stand(reader: RapidReader) -> None:
    (lines,) = reader.read([picture()])
    assert [line.text for line in lines] == list(LINES)
    for line, (x, y) in zip(lines, LINES.values(), strict=True):
        assert line.box.iou(Box(x, y, len(line.text) * 20, 40)) > 0.5
        assert 0.6 <= line.confidence <= 1


@pytest.mark.parametrize("angle", [12, 90, 180])
def test_turned_lines_are_read(reader: RapidReader, angle: float) -> None:
    (lines,) = reader.read([picture(angle)])
    assert {line.text for line in lines} == set(LINES)


def test_a_batch_reads_as_single_images(reader: RapidReader) -> None:
    plain = Image(np.full((40, 50, 3), 128, np.uint8))
    dot = Image(np.zeros((1, 1, 3), np.uint8))
    images = [picture(), plain, dot, picture(12)]
    assert reader.read(images) == [reader.read([image])[0] for image in images]
    assert [len(lines) for lines in reader.read(images)] == [2, 0, 0, 2]


def test_flushed_weights_detect_the_same(reader: RapidReader) -> None:
    as_shipped = InferenceSession(str(DETECTION.locate()), providers=["CPUExecutionProvider"])
    pixels = np.random.default_rng(5).normal(size=(1, 3, 96, 128)).astype(np.float32)
    expected = as_shipped.run(None, {"x": pixels})[0]
    np.testing.assert_allclose(reader.detection.run(None, {"x": pixels})[0], expected, atol=1e-6)


def test_the_part_tells_its_identity_without_its_packages() -> None:
    for name in ("rapidocr", "cv2"):
        sys.modules.pop(name, None)
    lite = load_profile("lite")
    spec = lite.reader_spec
    assert spec is not None
    assert spec.models["reader"].startswith("rapidocr:rapidocr==")
    assert "reader" not in lite.spec.models
    assert not {"rapidocr", "cv2"} & sys.modules.keys()


def test_damaged_weights_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    damaged = tmp_path / "detection.onnx"
    damaged.write_bytes(b"no model")
    monkeypatch.setattr(type(DETECTION), "locate", lambda _: damaged)
    with pytest.raises(ModelError, match="damaged"):
        RapidPart(PartDefinition("rapidocr", "test, reader")).load()


def test_a_profile_without_reader_says_so() -> None:
    fake = load_profile("fake")
    assert fake.reader_spec is None
    with pytest.raises(CannotWork, match="no reader of text"):
        fake.reader()
    assert RapidParameters().identity == {"detection_side": 448, "least_confidence": 0.6}
