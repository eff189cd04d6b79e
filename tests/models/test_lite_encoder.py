"""The `lite` encoders on real weights: parity with the references, invariants, and what they
find."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import skimage.data

from regard.core.errors import UsageError
from regard.core.geometry import Box
from regard.core.records import Image
from regard.models.lite.classifier import NATIVE_SIDE, Classifier
from regard.models.lite.encoder import JOINT, VISUAL, JointEncoder, VisualEncoder
from regard.models.lite.network import load
from regard.models.lite.runtime import make_features, onnx_features, torch_features
from regard.models.lite.sentences import SentenceEncoder
from regard.models.lite.state_dict import read_state_dict
from regard.models.lite.views import look, softmax
from regard.models.lite.vocabulary import class_texts
from regard.models.lite.weights import EFFICIENTNET_LITE2, MINILM_WEIGHTS
from regard.photos.masks import encode_mask, mask_from_box


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier()


@pytest.fixture(scope="module")
def sentences() -> SentenceEncoder:
    return SentenceEncoder()


@pytest.fixture(scope="module")
def joint(classifier: Classifier, sentences: SentenceEncoder) -> JointEncoder:
    return JointEncoder(classifier, sentences)


@pytest.fixture(scope="module")
def visual(classifier: Classifier) -> VisualEncoder:
    return VisualEncoder(classifier)


@pytest.fixture(scope="module")
def samples() -> dict[str, Image]:
    loaders = {
        "cat": skimage.data.cat,
        "coffee": skimage.data.coffee,
        "rocket": skimage.data.rocket,
    }
    return {name: Image(np.ascontiguousarray(load())) for name, load in loaders.items()}


def assert_unit(rows: np.ndarray) -> None:
    assert rows.dtype == np.float32
    assert np.isfinite(rows).all()
    np.testing.assert_allclose(np.linalg.norm(rows, axis=-1), 1.0, atol=1e-5)


class TestSentences:
    def test_equals_transformers(self, sentences: SentenceEncoder) -> None:
        torch = pytest.importorskip("torch")
        transformers = pytest.importorskip("transformers")
        folder = MINILM_WEIGHTS.locate().parent
        tokenizer = transformers.PreTrainedTokenizerFast(
            tokenizer_file=str(folder / "tokenizer.json"), pad_token="[PAD]"
        )
        model = transformers.BertModel.from_pretrained(folder, attn_implementation="eager").eval()
        texts = ["A red bus.", "", "two penguins on the ice, seen from far away", "鯨", "x " * 400]
        batch = tokenizer(
            texts, padding="longest", truncation=True, max_length=256, return_tensors="pt"
        )
        with torch.inference_mode():
            hidden = model(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
            ).last_hidden_state
        mask = batch["attention_mask"][..., None].float()
        expected = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)
        np.testing.assert_allclose(sentences.encode(texts), expected.numpy(), atol=1e-5)

    def test_meanings(self, sentences: SentenceEncoder) -> None:
        car, automobile, banana = sentences.encode(["a car", "an automobile", "a banana"])
        assert car @ automobile > 0.8 > 0.5 > car @ banana

    def test_batch_is_one_by_one(self, sentences: SentenceEncoder) -> None:
        texts = [
            "dog",
            "a much longer sentence about a dog that runs on a beach",
            "",
            "ночь",
            "🦊",
        ] * 30
        whole = sentences.encode(texts)
        alone = np.concatenate([sentences.encode([text]) for text in texts[:5]] * 30)
        np.testing.assert_allclose(whole, alone, atol=1e-5)
        assert_unit(whole)

    def test_what_lies_beyond_the_limit_is_not_read(self, sentences: SentenceEncoder) -> None:
        long, longer = sentences.encode(["dog " * 254, "dog " * 254 + "airplane " * 1000])
        np.testing.assert_allclose(long, longer, atol=1e-5)


class TestClassifier:
    def test_equals_the_reference_definition(self, classifier: Classifier) -> None:
        torch = pytest.importorskip("torch")
        reference = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet.from_name(
            "efficientnet-lite2"
        )
        reference.load_state_dict(torch.load(EFFICIENTNET_LITE2.locate(), weights_only=True))
        reference.eval()
        image = Image(np.ascontiguousarray(skimage.data.astronaut()[:260, :260]))
        pixels = (image.pixels.astype(np.float32) - 127) / 128
        with torch.inference_mode():
            expected = reference(torch.from_numpy(pixels).permute(2, 0, 1)[None])[0].numpy()
        features = classifier.feature_map(image, NATIVE_SIDE, NATIVE_SIDE)
        assert features.shape == (1280, 9, 9)
        np.testing.assert_allclose(
            classifier.logits(features.mean(axis=(1, 2))), expected, atol=1e-4
        )

    @pytest.mark.parametrize(
        ("sample", "expected"),
        [
            ("cat", {"tabby cat", "tiger cat", "Egyptian Mau"}),
            ("coffee", {"espresso", "coffee mug"}),
        ],
    )
    def test_knows_what_samples_show(
        self, classifier: Classifier, samples: dict[str, Image], sample: str, expected: set[str]
    ) -> None:
        features = classifier.feature_map(samples[sample], NATIVE_SIDE, NATIVE_SIDE)
        best = int(classifier.logits(features.mean(axis=(1, 2))).argmax())
        assert class_texts().names[best] in expected

    def test_state_dict_is_read_as_torch_reads_it(self) -> None:
        torch = pytest.importorskip("torch")
        tensors = read_state_dict(EFFICIENTNET_LITE2.read())
        expected = torch.load(EFFICIENTNET_LITE2.locate(), weights_only=True)
        assert list(tensors) == list(expected)
        for name, tensor in expected.items():
            np.testing.assert_array_equal(tensors[name], tensor.numpy(), strict=True)

    @pytest.mark.parametrize("shape", [(260, 260), (352, 448), (33, 65), (1, 1)])
    def test_runtimes_agree(self, shape: tuple[int, int]) -> None:
        pytest.importorskip("torch")
        network = load()
        random = np.random.default_rng(0)
        pixels = random.uniform(-1, 1, (*shape, 3)).astype(np.float32)
        by_onnx, by_torch = (
            prepare(network)(pixels) for prepare in (onnx_features, torch_features)
        )
        assert by_onnx.shape == (1280, -(-shape[0] // 32), -(-shape[1] // 32))
        np.testing.assert_allclose(by_onnx, by_torch, atol=1e-4)

    @pytest.mark.parametrize("missing", ["onnx", "onnxruntime"])
    def test_torch_serves_where_onnxruntime_is_missing(
        self, monkeypatch: pytest.MonkeyPatch, missing: str
    ) -> None:
        pytest.importorskip("torch")
        monkeypatch.setitem(sys.modules, missing, None)
        features = make_features(load())(np.zeros((64, 64, 3), dtype=np.float32))
        assert features.shape == (1280, 2, 2)

    def test_softmax_of_large_logits(self) -> None:
        np.testing.assert_allclose(softmax(np.float32([1e4, 0, -1e4])), [1, 0, 0])


class TestRows:
    def test_batch_is_one_by_one(
        self, joint: JointEncoder, visual: VisualEncoder, samples: dict[str, Image]
    ) -> None:
        images = [samples["cat"], samples["coffee"]]
        for encoder in (joint, visual):
            rows = encoder.encode_images(images)
            assert rows.shape == (2, encoder.space.dimension)
            assert_unit(rows)
            for image, row in zip(images, rows, strict=True):
                assert np.array_equal(encoder.encode_images([image])[0], row)

    def test_regions_keep_their_order(
        self, joint: JointEncoder, visual: VisualEncoder, samples: dict[str, Image]
    ) -> None:
        image = samples["cat"]
        boxes = [Box(0, 0, 40, 30), Box(100, 50, 200, 200), Box(7, 9, 1, 1)]
        mask = mask_from_box(image.height, image.width, Box(120, 70, 100, 100))
        for encoder in (joint, visual):
            empty, rows = encoder.encode_regions(
                [samples["coffee"], image], [[], boxes], [[], [None, mask, None]]
            )
            assert empty.shape == (0, encoder.space.dimension)
            assert_unit(rows)
            for box, its_mask, row in zip(boxes, [None, mask, None], rows, strict=True):
                (alone,) = encoder.encode_regions([image], [[box]], [[its_mask]])
                np.testing.assert_allclose(alone[0], row, atol=1e-5)

    def test_a_region_is_its_own_place(
        self, joint: JointEncoder, samples: dict[str, Image]
    ) -> None:
        cat, cup = samples["cat"].pixels[:256, :256], samples["coffee"].pixels[60:316, 150:406]
        both = Image(np.ascontiguousarray(np.hstack([cat, cup])))
        boxes = [Box(0, 0, 256, 256), Box(256, 0, 256, 256)]
        (rows,) = joint.encode_regions([both], [boxes], [[None, None]])
        scores = joint.encode_texts(["a cat", "a cup of coffee"]) @ rows.T
        assert scores.argmax(axis=1).tolist() == [0, 1]

    def test_boxes_and_masks_that_hold_nothing(
        self, joint: JointEncoder, samples: dict[str, Image]
    ) -> None:
        image = samples["coffee"]
        empty = encode_mask(np.zeros((image.height, image.width), dtype=np.bool_))
        outside = Box(image.width + 5, 0, 10, 10)
        (rows,) = joint.encode_regions(
            [image], [[Box(10, 10, 50, 50), outside, Box(5, 5, 0, 0)]], [[empty, None, None]]
        )
        assert_unit(rows)

    @pytest.mark.parametrize("shape", [(1, 1), (1, 700), (700, 1), (31, 3)])
    def test_odd_shapes(
        self, joint: JointEncoder, visual: VisualEncoder, shape: tuple[int, int]
    ) -> None:
        image = Image(np.full((*shape, 3), 90, dtype=np.uint8))
        for encoder in (joint, visual):
            assert_unit(encoder.encode_images([image]))
            assert_unit(encoder.encode_regions([image], [[Box(0, 0, 1, 1)]], [[None]])[0])

    def test_nothing_in_nothing_out(self, joint: JointEncoder, visual: VisualEncoder) -> None:
        assert joint.encode_texts([]).shape == (0, JOINT.dimension)
        assert joint.encode_images([]).shape == (0, JOINT.dimension)
        assert visual.encode_images([]).shape == (0, VISUAL.dimension)
        assert visual.encode_regions([], [], []) == []

    def test_texts(self, joint: JointEncoder) -> None:
        texts = ["", "   ", "красный автобус", "🦊🦊", "word " * 5000, "a\nb\tc", "\x00"]
        rows = joint.encode_texts(texts)
        assert_unit(rows)
        np.testing.assert_allclose(rows[2], joint.encode_texts(texts[2:3])[0], atol=1e-5)

    def test_visual_space_takes_no_texts(self, visual: VisualEncoder) -> None:
        assert not visual.takes_texts
        with pytest.raises(UsageError, match="not texts"):
            visual.encode_texts(["a cat"])

    def test_many_threads_agree(self, joint: JointEncoder, samples: dict[str, Image]) -> None:
        images = [samples["cat"], samples["rocket"]] * 2
        with ThreadPoolExecutor(4) as pool:
            rows = list(pool.map(lambda image: joint.encode_images([image])[0], images))
        assert np.array_equal(rows[0], rows[2])
        assert np.array_equal(rows[1], rows[3])


class TestMeeting:
    def test_colours_named_in_a_query(self, joint: JointEncoder) -> None:
        pixels = np.full((120, 320, 3), 128, dtype=np.uint8)
        pixels[:, :160] = (200, 20, 30)
        pixels[:, 160:] = (30, 60, 200)
        boxes = [Box(0, 0, 160, 120), Box(160, 0, 160, 120)]
        (rows,) = joint.encode_regions([Image(pixels)], [boxes], [[None, None]])
        scores = joint.encode_texts(["something red", "a blue thing"]) @ rows.T
        assert scores.argmax(axis=1).tolist() == [0, 1]

    # `tests/api/test_lite_main_path.py` searches for a tenth of the photographs in quick tests.
    @pytest.mark.campaign
    def test_finds_plain_photographs(self, joint: JointEncoder, photos_dir: Path) -> None:
        captions = json.loads((photos_dir / "captions.json").read_text(encoding="utf-8"))
        files = {image["id"]: image["file_name"] for image in captions["images"]}
        wanted: dict[str, str] = {}
        for annotation in captions["annotations"]:
            if files[annotation["image_id"]].startswith("singles/"):
                wanted.setdefault(annotation["caption"], files[annotation["image_id"]])
        texts = sorted(wanted)[::13]
        images = []
        for text in texts:
            with PIL.Image.open(photos_dir / wanted[text]) as photo:
                images.append(Image(np.asarray(photo.convert("RGB"))))
        scores = joint.encode_texts(texts) @ joint.encode_images(images).T
        ranks = (scores > scores.diagonal()[:, None]).sum(axis=1) + 1
        # Chance is 6 % at 1 and 29 % at 5 of the 17; this holds the ranking clear of wreckage.
        assert np.mean(ranks == 1) > 0.3
        assert np.mean(ranks <= 5) > 0.6


def test_texts_load_no_runtime_and_photographs_load_no_torch() -> None:
    code = (
        "import sys\n"
        "import numpy as np\n"
        "from regard.core.records import Image\n"
        "from regard.models.profiles.registry import load_profile\n"
        "profile = load_profile('lite')\n"
        "profile.encoder('lite-joint').encode_texts(['a red bus'])\n"
        "heavy = {'onnx', 'onnxruntime', 'torch', 'transformers'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "profile.analyzer().analyze([Image(np.zeros((40, 60, 3), np.uint8))])\n"
        "loaded = heavy & set(sys.modules)\n"
        "assert loaded == {'onnx', 'onnxruntime'}, loaded\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_views_are_probabilities(classifier: Classifier, samples: dict[str, Image]) -> None:
    views = look(classifier, samples["cat"], [Box(0, 0, 50, 50)], [None])
    for shares in (
        views.probabilities,
        views.salient,
        views.colours,
        views.region_probabilities,
        views.region_colours,
    ):
        assert (shares >= 0).all()
        np.testing.assert_allclose(shares.sum(axis=-1), 1.0, atol=1e-4)


@pytest.fixture(scope="module")
def scene(samples: dict[str, Image]) -> tuple[Image, Box]:
    """A cup of coffee with a small cat in its corner, and the cat's box."""
    cat = PIL.Image.fromarray(samples["cat"].pixels[:, 60:360]).resize((96, 96))
    pixels = samples["coffee"].pixels.copy()
    pixels[:96, -96:] = np.asarray(cat)
    return Image(pixels), Box(pixels.shape[1] - 96, 0, 96, 96)


class Counting(Classifier):
    """A classifier that counts its passes."""

    def __init__(self) -> None:
        super().__init__()
        self.passes = 0

    def feature_map(self, image: Image, width: int, height: int) -> np.ndarray:
        self.passes += 1
        return super().feature_map(image, width, height)


class TestCloserLooks:
    def test_a_small_thing_is_seen(
        self, classifier: Classifier, joint: JointEncoder, scene: tuple[Image, Box]
    ) -> None:
        image, box = scene
        views = look(classifier, image, [box], [None], [0.9])
        cats = [class_texts().names.index(name) for name in ("tabby cat", "Egyptian Mau")]
        assert views.anywhere[cats].max() > 0.03 > 5 * views.probabilities[cats].max()
        from_afar = joint.image_row(look(classifier, image, [box], [None]))
        text = joint.encode_texts(["a cat"])[0]
        assert text @ joint.image_row(views) > text @ from_afar + 0.05

    def test_boxes_that_hold_nothing(
        self, classifier: Classifier, scene: tuple[Image, Box]
    ) -> None:
        image, box = scene
        outside = Box(image.width + 9, 0, 10, 10)
        boxes = [box, outside, Box(3, 3, 0, 0), Box(0, 0, image.width, 1)]
        views = look(classifier, image, boxes, [None] * 4, [0.9, 0.5, 1.5, -0.2])
        assert np.isfinite(views.anywhere).all()
        assert (views.anywhere >= 0).all()
        assert views.anywhere.max() <= 1

    def test_without_objectness_the_whole_is_all(
        self, classifier: Classifier, scene: tuple[Image, Box]
    ) -> None:
        image, box = scene
        views = look(classifier, image, [box], [None])
        assert np.array_equal(views.anywhere, views.probabilities)
        surer, less_sure = (
            look(classifier, image, [box], [None], [objectness]).anywhere
            for objectness in (0.9, 0.3)
        )
        assert (surer >= less_sure).all()
        assert surer.sum() > less_sure.sum() + 0.05

    def test_the_three_surest_are_looked_at(self, scene: tuple[Image, Box]) -> None:
        image, box = scene
        counting = Counting()
        look(counting, image, [box], [None])
        without = counting.passes
        others = [Box(10 * number, 200, 60, 60) for number in range(5)]
        objectness = [0.0, 0.0, 0.0, 0.4, 0.5, 0.9]
        views = look(counting, image, [*others, box], [None] * 6, objectness)
        assert counting.passes == 2 * without + 3
        surest = look(counting, image, [*others[3:], box], [None] * 3, objectness[3:])
        np.testing.assert_allclose(views.anywhere, surest.anywhere, atol=1e-7)

    def test_regions_count_without_a_closer_look(
        self, classifier: Classifier, scene: tuple[Image, Box]
    ) -> None:
        image, box = scene
        others = [Box(10 * number, 200, 60, 60) for number in range(3)]
        views = look(classifier, image, [*others, box], [None] * 4, [0.9, 0.9, 0.9, 0.8])
        cat = int(views.region_probabilities[-1].argmax())
        assert class_texts().names[cat] in {"tabby cat", "tiger cat", "Egyptian Mau"}
        without = look(classifier, image, others, [None] * 3, [0.9] * 3)
        assert views.anywhere[cat] > without.anywhere[cat] + 0.05
