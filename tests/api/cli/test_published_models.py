"""Tiny random checkpoints in the published layouts, through the command line: fetch, index,
search."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL

import pytest
import torch
from made_checkpoints.contrastive import make_clip, make_siglip
from made_checkpoints.image_text import make_idefics3
from made_checkpoints.sam2 import make_sam2
from made_checkpoints.sam2unet import make_sam2unet
from made_checkpoints.xgenmm import make_xgenmm
from made_hub import COMMIT, made_hub
from made_library import command, regard, regard_process
from made_processes import Forked
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from regard.api.cli.sample_photos import gather_sample_photos
from regard.core.records import Analysis, Image, Kind
from regard.models.profiles.composed import ComposedProfile
from regard.models.profiles.registry import load_profile
from regard.models.profiles.shared_tower import SharedTowerAnalyzer
from regard.photos.photo_file import decode_file

pytestmark = pytest.mark.slow

SIDE = 32
MEASUREMENTS = ("retrieval", "regions", "captions")
# Random masks would not pass the filters of trained ones.
SAM2 = "{ points_per_side = 6, predicted_iou = 0.0, stability = 0.0, limit = 5 }"


@dataclass(frozen=True)
class Weights:
    """Folders of tiny models in the published layouts, and a folder for profiles."""

    folder: Path

    def profile(self, name: str, text: str) -> Path:
        path = self.folder / f"{name}.toml"
        path.write_text(f'description = "{name}"\nbatch_size = 4\n{text}', encoding="utf-8")
        return path

    @property
    def blip3(self) -> Path:
        return self.profile("tiny-blip3", BLIP3)

    @property
    def mixed(self) -> Path:
        return self.profile("tiny-mixed", MIXED)


BLIP3 = f"""
[encoder]
kind = "contrastive"
folder = "siglip"
[captioner]
kind = "xgenmm"
folder = "xgenmm"
parameters = {{ max_new_tokens = 8 }}
[segmenter]
kind = "sam2"
folder = "sam2"
parameters = {SAM2}
"""
MIXED = """
[encoder]
kind = "contrastive"
folder = "clip"
parameters = { region_view = "masked" }
[captioner]
kind = "image-text"
folder = "idefics3"
[captioner.parameters]
prompt = "What is this?"
max_new_tokens = 6
regions = true
image_processor = { do_image_splitting = false }
[segmenter]
kind = "sam2unet"
folder = "sam2unet.pth"
parameters = { certainty = 0.0, limit = 3 }
"""


def tower_of(siglip: Path) -> tuple[dict[str, Tensor], dict[str, object]]:
    """The vision tower's tensors and sizes of a SigLIP checkpoint."""
    with safe_open(siglip / "model.safetensors", framework="pt") as file:
        prefix = "vision_model."
        tensors = {
            key.removeprefix(prefix): file.get_tensor(key)
            for key in file.keys()  # noqa: SIM118 - no mapping
            if key.startswith(prefix)
        }
    vision = json.loads((siglip / "config.json").read_text())["vision_config"]
    names = (
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "image_size",
        "patch_size",
    )
    return tensors, {name: vision[name] for name in names}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    """All tiny models, SigLIP and xGen-MM with the same vision tower."""
    folder = tmp_path_factory.mktemp("weights")
    siglip = make_siglip(folder / "siglip", side=SIDE)
    tower, sizes = tower_of(siglip)
    make_xgenmm(folder / "xgenmm", tower_state=tower, siglip_vision_config=sizes)
    make_sam2(folder / "sam2")
    make_sam2unet(folder / "sam2unet.pth")
    make_clip(folder / "clip", side=SIDE)
    make_idefics3(folder / "idefics3", side=SIDE)
    return Weights(folder)


@pytest.fixture
def broken(weights: Weights, tmp_path: Path) -> Weights:
    """A copy of the weights, to be damaged."""
    return Weights(Path(shutil.copytree(weights.folder, tmp_path / "weights")))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few photographs of the demo."""
    demo = tmp_path_factory.mktemp("demo")
    assert gather_sample_photos(demo) >= 8
    folder = tmp_path_factory.mktemp("photos")
    for name in ("cat.png", "coffee.png", "motorcycle-left.png", "motorcycle-right.png"):
        shutil.copy(demo / name, folder)
    return folder


@pytest.fixture(scope="module")
def images(photos: Path) -> list[Image]:
    """Two photographs, decoded; any-resolution cuts each into two by two tiles."""
    return [decode_file(photos / name) for name in ("cat.png", "coffee.png")]


@dataclass(frozen=True)
class SharedPass:
    """What the analyzer with a shared tower made of `images`, and how many views the tower
    read."""

    analyses: list[Analysis]
    views: int


@pytest.fixture(scope="module")
def shared_pass(weights: Weights, images: list[Image]) -> SharedPass:
    profile = load_profile(str(weights.blip3))
    analyzer = profile.analyzer()
    assert isinstance(analyzer, SharedTowerAnalyzer)
    tower: nn.Module = profile.encoder(profile.spaces[0].name).tower  # type: ignore[attr-defined]
    views: list[int] = []
    hook = tower.register_forward_hook(
        lambda _m, _in, out: views.append(len(out.last_hidden_state))
    )
    analyses = analyzer.analyze(images)
    hook.remove()
    return SharedPass(analyses, sum(views))


def sql(home: Path, statement: str) -> list[tuple[object, ...]]:
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(home / "catalog.sqlite3")) as connection:
        return connection.execute(statement).fetchall()


@pytest.mark.parametrize("name", ["blip3", "mixed"])
def test_published_layouts_index_and_search_end_to_end(
    weights: Weights, photos: Path, tmp_path: Path, name: str
) -> None:
    home = tmp_path / "home"
    profile = getattr(weights, name)
    count = len(list(photos.iterdir()))
    indexed = regard("index", photos, "--home", home, "--profile", profile, "--json")
    assert indexed.code == 0, indexed
    report = indexed.document
    assert report["indexed"] == count
    assert report["failed"] == 0
    assert report["regions"] >= count / 2
    assert report["captions"] >= count / 2

    for target in ("image", "region"):
        for query in (["a red bus"], ["--image", photos / "cat.png"]):
            found = regard("search", *query, "--target", target, "--home", home, "--json")
            assert found.code == 0, found
            assert found.document["hits"], query
    # A photograph finds itself, whatever the weights.
    alike = regard("search", "--image", photos / "cat.png", "--home", home, "--json").document
    first = alike["hits"][0]
    assert Path(first["asset"]["uri"]).name == "cat.png"
    assert first["channels"][0]["score"] > 0.999
    part = regard("search", "--image", photos / "cat.png", "--box", "40,30,200,150", "--home", home)
    assert part.code == 0, part
    first = regard("search", "red", "--target", "region", "--home", home, "--json").document[
        "hits"
    ][0]
    like = regard("search", "--like", first["region"]["id"], "--home", home, "--json")
    assert like.code == 0, like
    assert regard("verify", "--home", home).code == 0

    again = regard("index", photos, "--home", home, "--json")
    assert again.code == 0, again
    assert again.document["unchanged"] == count


def test_regions_are_captioned_when_the_profile_says_so(
    weights: Weights, photos: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    assert regard("index", photos / "cat.png", photos / "coffee.png", "--home", home,
                  "--profile", weights.mixed).code == 0  # fmt: skip
    described = sql(home, "SELECT count(*) FROM caption WHERE region_id IS NOT NULL")[0][0]
    assert described == sql(home, "SELECT count(*) FROM region")[0][0] > 0
    hits = regard("search", "red", "--target", "region", "--home", home, "--json").document["hits"]
    assert all(hit["region"]["caption"] for hit in hits)
    kinds = {channel["kind"] for hit in hits for channel in hit["channels"]}
    assert kinds == {"region", "caption"}


def assert_same_output(analyses: Sequence[Analysis], expected: Sequence[Analysis]) -> None:
    """Equal captions, and vectors equal within 1e-5."""
    for one, other in zip(analyses, expected, strict=True):
        assert [caption.text for caption in one.captions] == [c.text for c in other.captions]
        for mine, theirs in zip(one.embeddings, other.embeddings, strict=True):
            assert abs(mine.vector - theirs.vector).max() < 1e-5


def test_one_pass_of_the_tower_serves_embedding_and_caption(
    weights: Weights, images: list[Image], shared_pass: SharedPass
) -> None:
    regions = sum(len(item.regions) for item in shared_pass.analyses)
    assert shared_pass.views == regions + len(images) * (1 + 4)

    # The same models with a tower each give the same output.
    separate = load_profile(str(make_separate_towers(weights))).analyzer()
    assert not isinstance(separate, SharedTowerAnalyzer)
    assert_same_output(shared_pass.analyses, separate.analyze(images))


def test_regions_are_captioned_beside_a_shared_tower(
    weights: Weights, images: list[Image], shared_pass: SharedPass
) -> None:
    text = BLIP3.replace("max_new_tokens = 8", "max_new_tokens = 8, regions = true")
    profile = load_profile(str(weights.profile("regions", text.replace("limit = 5", "limit = 2"))))
    analyzer = profile.analyzer()
    assert isinstance(analyzer, SharedTowerAnalyzer)
    for image, analysis in zip(images, analyzer.analyze(images), strict=True):
        captioned = {caption.region for caption in analysis.captions}
        assert captioned == {None, *range(len(analysis.regions))}
        for caption in analysis.captions:
            if caption.region is not None:
                box = analysis.regions[caption.region].box
                crop = Image(image.pixels[box.y : box.bottom, box.x : box.right])
                assert analyzer._reader.caption([crop]) == [caption.text]
        vectors = [item for item in analysis.embeddings if item.kind is Kind.CAPTION]
        assert {item.region for item in vectors} == captioned
    # Without the setting, the same models caption whole images only.
    for analysis in shared_pass.analyses:
        assert [caption.region for caption in analysis.captions] == [None]


def test_shared_tower_reads_smaller_batches_when_gpu_memory_is_full(
    weights: Weights, images: list[Image], shared_pass: SharedPass
) -> None:
    analyzer = load_profile(str(weights.blip3)).analyzer()
    assert isinstance(analyzer, SharedTowerAnalyzer)
    sizes: list[int] = []

    def full(_module: nn.Module, inputs: tuple[Tensor, ...], options: dict[str, Tensor]) -> None:
        given = [*inputs, *options.values()]
        sizes.append(len(given[0]))
        if len(given[0]) > 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    tower: nn.Module = analyzer._reader.tower
    for module in (tower.get_submodule("embeddings"), tower.get_submodule("head")):
        module.register_forward_pre_hook(full, with_kwargs=True)
    assert_same_output(analyzer.analyze(images), shared_pass.analyses)
    assert max(sizes) > 1


def make_separate_towers(weights: Weights) -> Path:
    """A profile whose encoder and captioner have different but equivalent towers."""
    folder = weights.folder / "siglip-apart"
    if not folder.exists():
        shutil.copytree(weights.folder / "siglip", folder)
        tensors = load_file(folder / "model.safetensors")
        # Attention ignores a constant added to every key: other weights, the same features.
        name = "vision_model.encoder.layers.0.self_attn.k_proj.bias"
        tensors[name] = tensors[name] + 0.5
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return weights.profile("apart", BLIP3.replace('"siglip"', '"siglip-apart"'))


def _no_shard(folder: Path) -> None:
    next((folder / "xgenmm").glob("*.safetensors")).unlink()


def _other_keys(folder: Path) -> None:
    shutil.copy(folder / "siglip" / "model.safetensors", folder / "sam2" / "model.safetensors")


def _no_folder(folder: Path) -> None:
    shutil.rmtree(folder / "siglip")


@pytest.fixture
def untouched(photos: Path) -> Iterator[None]:
    """Assert that no photograph is written during the test."""

    def seen() -> list[tuple[str, int, int, bytes]]:
        found = ((path, path.stat()) for path in sorted(photos.iterdir()))
        return [(path.name, s.st_mtime_ns, s.st_ctime_ns, path.read_bytes()) for path, s in found]

    before = seen()
    yield
    assert seen() == before


def refused(
    profile: Path, photos: Path, home: Path, code: int, words: Sequence[str], told: str
) -> None:
    """Assert one sentence and no home, and the same problem in `regard profiles`."""
    regard("index", photos, "--home", home, "--profile", profile).expect_sentence(code, *words)
    assert not home.exists()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REGARD_PROFILES", str(profile.parent))
        listed = regard("profiles", "--json")
    assert listed.code == 0, listed
    assert listed.document["fake"]["ready"]
    assert listed.document[profile.stem]["ready"] is False
    assert told in str(listed.document[profile.stem]["problems"])


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_no_shard, ["xgenmm", "lacks"]),
        (_other_keys, ["sam2", "other keys"]),
        (_no_folder, ["siglip", "does not exist"]),
    ],
)
def test_damaged_checkpoint_is_refused_before_photographs_are_read(
    broken: Weights, photos: Path, tmp_path: Path, damage: Callable[[Path], None], words: list[str]
) -> None:
    profile = broken.blip3
    damage(broken.folder)
    refused(profile, photos, tmp_path / "home", 3, words, words[-1])


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    ("old", "new", "code", "words"),
    [
        ("max_new_tokens = 8", "max_new_tokens = 8, zoom = 3", 2, ["captioner", "zoom"]),
        ('folder = "sam2"', 'folder = "sam2"\ndevice = "cuda:99"', 3, ["cuda:99", "machine"]),
        ('folder = "sam2"', 'model = "not a valid/id/x"', 2, ["segmenter.model", "valid/id/x"]),
        ("max_new_tokens = 8", "batch_size = 100000000", 3, ["of memory on cpu, but only"]),
    ],
)
def test_invalid_profile_is_refused_before_photographs_are_read(
    weights: Weights,
    photos: Path,
    tmp_path: Path,
    old: str,
    new: str,
    code: int,
    words: list[str],
) -> None:
    folder = tmp_path / "profiles"
    folder.mkdir()
    path = folder / "wrong.toml"
    text = BLIP3.replace(old, new).replace('folder = "', f'folder = "{weights.folder}/')
    path.write_text(f'description = "wrong"\n{text}')
    refused(path, photos, tmp_path / "home", code, words, words[-1])


def test_unexpected_error_in_one_profile_does_not_hide_the_others(
    weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(name: str) -> ComposedProfile:
        if name == "tiny-blip3":
            raise ZeroDivisionError("of something")
        return load_profile(name)

    assert weights.blip3.exists()
    monkeypatch.setenv("REGARD_PROFILES", str(weights.folder))
    monkeypatch.setattr("regard.api.cli.commands.profiles.load_profile", load)
    listed = regard("profiles", "--json").document
    assert listed["fake"]["ready"]
    (problem,) = listed["tiny-blip3"]["problems"]
    assert "ZeroDivisionError: of something" in problem["message"]


def test_failed_load_leaves_the_home_usable_by_other_profiles(
    broken: Weights, photos: Path, tmp_path: Path
) -> None:
    path = broken.folder / "sam2unet.pth"
    tensors = torch.load(path, weights_only=True)
    # The shapes are right, so only reading the weights shows the error.
    torch.save({name: tensor.to(torch.int64) for name, tensor in tensors.items()}, path)
    home = tmp_path / "home"
    first = regard("index", photos, "--home", home, "--profile", broken.mixed)
    first.expect_sentence(3, "whole numbers")
    again = regard("index", photos / "cat.png", "--home", home, "--profile", "fake", "--json")
    assert again.code == 0, again
    assert again.document["indexed"] == 1
    assert sql(home, "SELECT profile FROM pipeline WHERE live") == [("fake",)]
    assert regard("search", "red", "--home", home).code == 0
    assert regard("verify", "--home", home).code == 0
    # The home has a pipeline now, so other profiles are refused.
    other = regard("index", photos, "--home", home, "--profile", broken.blip3)
    other.expect_sentence(3, "indexed with the profile fake")


def test_search_needs_only_the_encoder(broken: Weights, photos: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert regard("index", photos / "cat.png", "--home", home, "--profile", broken.blip3).code == 0
    shutil.rmtree(broken.folder / "xgenmm")
    shutil.rmtree(broken.folder / "sam2")
    found = regard("search", "a cat", "--home", home, "--json")
    assert found.code == 0, found
    assert len(found.document["hits"]) == 1
    regard("index", photos, "--home", home).expect_sentence(3, "does not exist")
    shutil.rmtree(broken.folder / "siglip")
    regard("search", "a cat", "--home", home, "--json").expect_sentence(3, "does not exist")
    # Status and repairs need no model.
    for name in ("status", "verify", "rebuild"):
        assert regard(name, "--home", home).code == 0


def test_other_weights_of_the_same_shape_are_another_space(
    broken: Weights, photos: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    assert regard("index", photos / "cat.png", "--home", home, "--profile", broken.blip3).code == 0
    shutil.rmtree(broken.folder / "siglip")
    make_siglip(broken.folder / "siglip", seed=1, side=SIDE)
    regard("search", "a cat", "--home", home).expect_sentence(3, "another encoder")
    regard("index", photos, "--home", home).expect_sentence(3, "other revisions")


def test_fetching_then_working_without_the_network(
    weights: Weights, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = tmp_path / "served"
    shutil.copytree(weights.folder / "siglip", served)
    (served / "remote_code.py").write_text("raise SystemExit('never run')")
    (served / "pytorch_model.bin").write_bytes(b"a pickle")
    profile = tmp_path / "fetched.toml"
    profile.write_text(
        'description = "fetched"\n[encoder]\nkind = "contrastive"\nmodel = "made/siglip"\n'
        '[segmenter]\nkind = "superpixels"\n'
    )
    home, cache = tmp_path / "home", tmp_path / "cache"
    with made_hub({"made/siglip": served}) as hub:
        hub.use_here(monkeypatch, cache)
        environ = hub.environ(cache)
        words = ("made/siglip", "not on this machine", "regard models fetch")
        regard("index", photos, "--home", home, "--profile", profile).expect_sentence(3, *words)
        assert not home.exists()
        regard("models", "fetch", profile, "--offline").expect_sentence(3, *words)
        assert hub.requests == []

        hub.slow.add("model.safetensors")
        with Forked(
            command("models", "fetch", profile),
            env=os.environ | environ,
            stdout=DEVNULL,
            stderr=DEVNULL,
        ) as process:
            assert hub.stopped.wait(200)
            process.kill()
        hub.go_on.set()
        hub.slow.clear()
        regard("index", photos, "--home", home, "--profile", profile).expect_sentence(3, *words)
        hub.requests.clear()
        fetched = regard_process("models", "fetch", profile, environ=environ)
        assert fetched.code == 0, fetched
        assert b"is ready" in fetched.out
        assert "to download" in fetched.err
        assert "100%" in fetched.err, "no progress bar"
        assert "Traceback" not in fetched.err
        assert COMMIT in fetched.out.decode()
        assert "model.safetensors" in hub.downloads()
        assert not {"remote_code.py", "pytorch_model.bin"} & set(hub.downloads())

        hub.requests.clear()
        indexed = regard(
            "index", photos / "cat.png", "--home", home, "--profile", profile, "--offline"
        )
        assert indexed.code == 0, indexed
        assert hub.requests == []


@pytest.mark.parametrize(
    "name",
    ["index", "search", "models fetch", *(f"evaluate {what}" for what in MEASUREMENTS)],
)
def test_commands_that_load_models_have_an_offline_option(name: str) -> None:
    assert b"--offline" in regard(*name.split(), "--help").out


def test_copy_of_a_published_model_takes_its_name(weights: Weights) -> None:
    copy = BLIP3.replace(
        'folder = "siglip"', f'folder = "siglip"\nmodel = "made/siglip"\nrevision = "{COMMIT}"'
    )
    named = load_profile(str(weights.profile("copy", copy)))
    assert named.spec.models["encoder"] == f"contrastive:made/siglip@{COMMIT}"
    unnamed = load_profile(str(weights.blip3))
    assert unnamed.spaces != named.spaces
    assert unnamed.spec.models["encoder"].startswith("contrastive:siglip#")


def test_images_without_regions_are_analysed(weights: Weights) -> None:
    import numpy as np

    flat = [Image(np.full(shape, 127, np.uint8)) for shape in ((1, 1, 3), (3, 400, 3), (400, 3, 3))]
    for profile in (weights.blip3, weights.mixed):
        analyses = load_profile(str(profile)).analyzer().analyze(flat)
        assert len(analyses) == 3
        assert all(analysis.embeddings for analysis in analyses)
