"""`regard evaluate published` on small sets in the published forms, with models that see
colours."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_library import Outcome, painted, regard
from PIL import Image

from regard.evaluation.caption_pairs import evaluate_pairs
from regard.evaluation.published_sets import PUBLISHED_SETS

_COLOURS = ("red", "green", "blue")
_WIDTH, _HEIGHT = 24, 16


def measure(name: str, data: Path, *more: str) -> Outcome:
    return regard("evaluate", "published", name, "--data", data, "--profile", "fake", *more)


def paint(folder: Path, names: Sequence[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, (name, colour) in enumerate(zip(names, _COLOURS, strict=True)):
        painted([colour], number).save(folder / name, "PNG")


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def karpathy(path: Path, names: Sequence[str], **more: str) -> None:
    """Six captions each; those of the third photograph say what the first one shows."""
    said = ("red", "green", "red")
    images: list[dict[str, Any]] = [
        {
            "filename": name,
            "split": "test",
            "sentences": [{"raw": f"A {colour} thing, said {way}."} for way in range(6)],
            **more,
        }
        for name, colour in zip(names, said, strict=True)
    ]
    images.append({**images[0], "filename": "absent.jpg", "split": "train"})
    write(path, {"images": images, "dataset": "made"})


def coco(names: Sequence[str], key: str = "file_name") -> dict[str, Any]:
    """COCO's file of instances: each photograph's left upper quarter."""
    width, height = _WIDTH // 2, _HEIGHT // 2
    corners = [0, 0, width, 0, width, height, 0, height]
    of_images = enumerate(names, start=1)
    return {
        "images": [
            {"id": id, key: name, "width": _WIDTH, "height": _HEIGHT} for id, name in of_images
        ],
        "categories": [{"id": 1, "name": "quarter"}],
        "annotations": [
            {
                "id": id,
                "image_id": id,
                "category_id": 1,
                "bbox": [0, 0, width, height],
                "segmentation": [corners],
            }
            for id in range(1, len(names) + 1)
        ],
    }


def test_recall_both_ways_stands_beside_published_figures(tmp_path: Path) -> None:
    names = ["1.jpg", "2.jpg", "3.jpg"]
    paint(tmp_path / "flickr30k-images", names)
    karpathy(tmp_path / "dataset_flickr30k.json", names)

    outcome = measure("flickr30k", tmp_path, "--json")

    assert outcome.code == 0, outcome
    report = outcome.document
    assert (report["set"], report["profile"]) == ("flickr30k", "fake")
    recall = report["measured"]["retrieval"]
    # Of each photograph, five captions count.
    assert (recall["images"], recall["captions"]) == (3, 15)
    text = recall["text_to_image"]
    assert (text["recall_at_1"]["hits"], text["recall_at_5"]["hits"]) == (10, 15)
    # Captions of "red" are the nearest of the first photograph, whichever they belong to.
    assert recall["image_to_text"]["recall_at_10"]["hits"] == 3
    assert recall["image_to_text"]["recall_at_1"]["hits"] in {1, 2}
    figures = {figure["model"]: figure["value"] for figure in report["published"]}
    assert figures["SigLIP so400m/14-384 (blip3)"] == 0.83
    text = measure("flickr30k", tmp_path).out.decode()
    assert "SigLIP so400m/14-384 (blip3)" in text
    assert "83.0 %" in text


def test_coco_is_read_from_karpathys_split_and_its_own_instances(tmp_path: Path) -> None:
    names = ["COCO_val2014_1.jpg", "COCO_val2014_2.jpg", "COCO_val2014_3.jpg"]
    paint(tmp_path / "val2014", names)
    karpathy(tmp_path / "dataset_coco.json", names, filepath="val2014")
    # The file lists photographs of other splits, too, which need not be there.
    write(tmp_path / "annotations" / "instances_val2014.json", coco([*names, "other.jpg"]))

    outcome = measure("coco5k", tmp_path, "--json")

    assert outcome.code == 0, outcome
    measured = outcome.document["measured"]
    assert measured["retrieval"]["text_to_image"]["recall_at_1"]["hits"] == 10
    assert measured["regions"]["objects"] == 3
    assert measured["regions"]["coverage_all"]["value"] == 1
    assert measured["regions"]["mask_iou_all"]["value"] == 1


@pytest.mark.skipif(shutil.which("java") is None, reason="the tokenizer of CIDEr needs Java")
def test_captions_are_scored_by_cider(tmp_path: Path) -> None:
    names = ["1.jpg", "2.jpg", "3.jpg"]
    paint(tmp_path / "val2014", names)
    karpathy(tmp_path / "dataset_coco.json", names, filepath="val2014")
    captions = coco(names)
    captions["annotations"] = [
        {"id": id, "image_id": id, "caption": f"A mostly {colour} photograph."}
        for id, colour in enumerate(_COLOURS, start=1)
    ]
    write(tmp_path / "annotations" / "captions_val2014.json", captions)

    outcome = measure("coco-captions", tmp_path, "--json")

    assert outcome.code == 0, outcome
    assert outcome.document["measured"]["captions"]["bleu4"] == pytest.approx(1)
    assert outcome.document["measured"]["captions"]["cider"]["total"] == 3
    assert {figure["measure"] for figure in outcome.document["published"]} == {"CIDEr"}
    assert "1.330" in measure("coco-captions", tmp_path).out.decode()


def test_lvis_and_ade20k_are_measured_by_regions(tmp_path: Path) -> None:
    names = ["val2017/1.jpg", "train2017/2.jpg", "train2017/3.jpg"]
    (tmp_path / "val2017").mkdir()
    (tmp_path / "train2017").mkdir()
    paint(tmp_path, names)
    urls = [f"http://images.cocodataset.org/{name}" for name in names]
    write(tmp_path / "lvis_v1_val.json", coco(urls, "coco_url"))
    outcome = measure("lvis", tmp_path, "--json")
    assert outcome.code == 0, outcome
    assert outcome.document["measured"]["regions"]["coverage_all"]["value"] == 1
    assert outcome.document["published"] == []
    assert "no figure is known" in measure("lvis", tmp_path).out.decode()

    photographs = tmp_path / "images" / "validation"
    paint(photographs, ["ADE_val_1.jpg", "ADE_val_2.jpg", "ADE_val_3.jpg"])
    masks = tmp_path / "annotations" / "validation"
    masks.mkdir(parents=True)
    for value in (1, 2, 3):
        mask = Image.fromarray(np.full((_HEIGHT, _WIDTH), value, np.uint8))
        mask.save(masks / f"ADE_val_{value}.png")
    rows = "".join(f"{number}\t0.1\t1\t1\t{name}\n" for number, name in enumerate(_COLOURS, 1))
    (tmp_path / "objectInfo150.txt").write_text("Idx\tRatio\tTrain\tVal\tName\n" + rows)
    outcome = measure("ade20k", tmp_path, "--json")
    assert outcome.code == 0, outcome
    assert outcome.document["measured"]["segmentation"]["miou"]["value"] == 1
    assert "29.6 %" in measure("ade20k", tmp_path).out.decode()


@pytest.mark.parametrize("name", PUBLISHED_SETS)
def test_what_is_missing_is_named_with_its_source(name: str, tmp_path: Path) -> None:
    parts = PUBLISHED_SETS[name].parts
    measure(name, tmp_path).expect_sentence(3, *parts, *parts.values())


def test_damaged_sets_are_refused_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "flickr30k-images").mkdir()
    split = tmp_path / "dataset_flickr30k.json"
    for content in ("[", "[]", '{"images": [{}]}', '{"images": [{"split": "train"}]}', "null"):
        split.write_text(content)
        measure("flickr30k", tmp_path).expect_sentence(3, "dataset_flickr30k.json")
    karpathy(split, ["1.jpg", "2.jpg", "3.jpg"])
    measure("flickr30k", tmp_path).expect_sentence(3, "3 of 3", "flickr30k-images/1.jpg")
    measure("imagenet", tmp_path).expect_sentence(2, "imagenet")


def test_equal_scores_rank_before_the_right_answer() -> None:
    images = np.eye(3, dtype=np.float32)
    captions = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0]], np.float32)
    report = evaluate_pairs(images, captions, [0, 1, 2])
    assert report.image_ranks.tolist() == [1, 2, 3]
    assert report.caption_ranks.tolist() == [2, 1, 3]


def test_ranks_agree_with_sorting() -> None:
    random = np.random.default_rng(5)
    images = random.standard_normal((40, 8)).astype(np.float32)
    owners = np.repeat(np.arange(40), 60)
    captions = random.standard_normal((2400, 8)).astype(np.float32)
    report = evaluate_pairs(images, captions, owners.tolist())
    scores = captions @ images.T
    order = np.argsort(-scores, axis=1)
    assert (report.image_ranks == (order == owners[:, np.newaxis]).argmax(axis=1) + 1).all()
    order = np.argsort(-scores.T, axis=1)
    assert (report.caption_ranks == (owners[order] == np.arange(40)[:, None]).argmax(1) + 1).all()
