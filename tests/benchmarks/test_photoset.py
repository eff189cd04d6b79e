"""`make photoset`, over packages made for the test: the real ones are 300 MB to download."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import skimage.data
from PIL import Image, ImageDraw

from regard.evaluation.labels import read_labels

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "photoset" / "make_photoset.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_photoset", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_photoset"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def packages(script: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five listed objects, one that is not listed, one that is not cut out, and all
    backgrounds."""
    folder = tmp_path_factory.mktemp("packages")
    stamps = folder / "usr/share/tuxpaint/stamps"
    listed = SCRIPT.with_name("objects.txt").read_text().splitlines()
    for number, name in enumerate([*listed[:6], "not/listed.png"]):
        file = stamps / name
        file.parent.mkdir(parents=True, exist_ok=True)
        cutout = Image.new("RGBA", (120, 90), (0, 0, 0, 0))
        is_cut_out = number != 5
        box = (20, 10, 90, 70) if is_cut_out else (0, 0, 120, 90)
        ImageDraw.Draw(cutout).rectangle(box, fill=(30 * number, 90, 200, 255))
        cutout.save(file)
        file.with_suffix(".txt").write_text(f"Object number {number}.\nmore\n")
    photograph = Image.fromarray(skimage.data.coffee())
    for place in script._BACKGROUNDS:
        file = folder / "usr/share" / (place if place.endswith(".jpg") else f"{place}1920x1080.png")
        file.parent.mkdir(parents=True, exist_ok=True)
        photograph.save(file)
    return folder


def test_labels_describe_what_was_pasted(
    script: ModuleType, packages: Path, tmp_path: Path
) -> None:
    made = script.compose(packages, tmp_path / "set", scenes=3)
    assert [image["file_name"] for image in made.images] == [
        *(f"singles/{number:04d}.jpg" for number in range(5)),
        *(f"scenes/{number:04d}.jpg" for number in range(3)),
    ]
    read = read_labels(tmp_path / "set", instances=tmp_path / "set/instances.json")
    assert len(read.images) == len(made.images)
    labels = json.loads((tmp_path / "set/instances.json").read_text())
    captions = json.loads((tmp_path / "set/captions.json").read_text())["annotations"]
    assert [one["caption"] for one in captions[:5]] == [f"Object number {n}." for n in range(5)]
    for annotation in labels["annotations"][:5]:
        with Image.open(
            tmp_path / "set" / labels["images"][annotation["image_id"] - 1]["file_name"]
        ) as im:
            pixels = np.asarray(im)
        x, y, width, height = annotation["bbox"]
        assert 0.9 * width * height < annotation["area"] <= width * height
        inside = pixels[y + 4 : y + height - 4, x + 4 : x + width - 4].astype(int)
        number = int(annotation["description"].split()[2].rstrip("."))
        assert np.abs(inside - (30 * number, 90, 200)).mean() < 8


def test_same_packages_give_the_same_bytes(
    script: ModuleType, packages: Path, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        script.compose(packages, tmp_path / name, scenes=2)
    assert script.digest(tmp_path / "one") == script.digest(tmp_path / "two")


def test_existing_folder_is_left_alone(script: ModuleType, packages: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(SystemExit, match="delete it"):
        script.main([str(tmp_path / "mine"), "--packages", str(packages)])
    assert list(tmp_path.iterdir()) == [tmp_path / "mine"]


def test_texts_are_painted_where_their_labels_say(tmp_path: Path) -> None:
    fonts = ("truetype/dejavu/DejaVuSans.ttf", "truetype/dejavu/DejaVuSerif.ttf")
    spec = importlib.util.spec_from_file_location(
        "text_photos", SCRIPT.with_name("make_text_photos.py")
    )
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    files = [Path("/usr/share/fonts") / name for name in fonts]
    if not all(file.is_file() for file in files):
        pytest.skip("the fonts of Debian's fonts-dejavu are not there")
    plain = Image.new("RGB", script.SIZE, (128, 120, 110))
    script.make(tmp_path, [plain], files)
    labels = json.loads((tmp_path / "texts.json").read_text())
    assert sum(map(len, labels.values())) == 232
    for name in list(labels)[:5]:
        pixels = np.asarray(Image.open(tmp_path / name).convert("RGB"), np.int16)
        changed = np.abs(pixels - np.asarray(plain)).max(axis=2) > 40
        for text in labels[name]:
            x, y, width, height = text["bbox"]
            assert changed[y : y + height, x : x + width].any()
            changed[y : y + height, x : x + width] = False
        assert changed.mean() < 0.01
    assert labels["plain/text000.jpg"] == []
