"""The shapes of `siglip` and `florence` with tiny random checkpoints, through the command line:
fetch, index, search, refine, calibrate, and change from `lite`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from made_checkpoints.contrastive import make_siglip
from made_checkpoints.detectors import make_grounding_dino
from made_checkpoints.florence2 import make_florence2
from made_checkpoints.sam2 import make_sam2
from made_hub import made_hub
from made_library import regard

import regard as api
from regard.api.cli.sample_photos import gather_sample_photos
from regard.api.library import relevance
from regard.api.library.home import open_home
from regard.api.library.settings import Settings
from regard.core.filters import EVERYTHING
from regard.core.records import Target
from regard.core.relevance import Form
from regard.models.profiles.registry import load_profile
from regard.photos.masks import mask_area

pytestmark = pytest.mark.slow

NAMES = ("cat.png", "coffee.png", "motorcycle-left.png")
SAM2 = "{ points_per_side = 4, predicted_iou = 0.0, stability = 0.0, limit = 3 }"
SHAPES = {
    "siglip": """
[encoder]
kind = "contrastive"
folder = "siglip2"
[segmenter]
kind = "superpixels"
parameters = { max_regions = 3 }
[grounder]
kind = "zero-shot-detection"
folder = "grounding-dino"
parameters = { threshold = 0.0 }
[box_segmenter]
kind = "sam2"
folder = "sam2"
""",
    "florence": f"""
[encoder]
kind = "contrastive"
folder = "siglip2"
[captioner]
kind = "florence2"
folder = "florence2"
parameters = {{ max_new_tokens = 8 }}
[segmenter]
kind = "sam2"
folder = "sam2"
parameters = {SAM2}
[grounder]
kind = "florence2"
folder = "florence2-locating"
parameters = {{ threshold = 0.0 }}
""",
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    make_siglip(folder / "siglip2", second=True)
    make_grounding_dino(folder / "grounding-dino")
    # Random weights write either words or places.
    make_florence2(folder / "florence2", 12)
    make_florence2(folder / "florence2-locating", 8, locates=True)
    make_sam2(folder / "sam2")
    for name, shape in SHAPES.items():
        text = f'description = "{name}"\nbatch_size = 4\n{shape}'
        (folder / f"{name}.toml").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    demo = tmp_path_factory.mktemp("demo")
    gather_sample_photos(demo)
    folder = tmp_path_factory.mktemp("photos")
    for name in NAMES:
        shutil.copy(demo / name, folder)
    return folder


def test_the_shipped_profiles_have_these_shapes() -> None:
    for name, shape in SHAPES.items():
        tables = load_profile(name).definition.tables()
        kinds = {role: table.kind for role, table in tables.items()}
        for role, kind in kinds.items():
            assert f'[{role}]\nkind = "{kind}"' in shape
        assert len(kinds) == shape.count("kind =")


@pytest.mark.parametrize("name", SHAPES)
def test_a_library_is_indexed_searched_and_refined(
    weights: Path, photos: Path, tmp_path: Path, name: str
) -> None:
    home, profile = tmp_path / "home", weights / f"{name}.toml"
    report = regard("index", photos, "--home", home, "--profile", profile, "--json")
    assert report.code == 0, report
    assert report.err == ""
    assert report.document["indexed"] == len(NAMES)
    assert report.document["regions"] >= len(NAMES)
    has_captions = name == "florence"
    assert (report.document["captions"] > 0) == has_captions

    for target in ("image", "region"):
        found = regard("search", "a red car", "--target", target, "--home", home, "--json")
        assert found.code == 0, found
        kinds = {match["kind"] for hit in found.document["hits"] for match in hit["channels"]}
        assert kinds <= {"image", "region", "caption"}
        assert "region" in kinds
        if not has_captions:
            assert "caption" not in kinds
    alike = regard("search", "--image", photos / "cat.png", "--home", home, "--json").document
    assert alike["hits"][0]["asset"]["uri"].endswith("cat.png")

    with api.open(home) as library:
        plain = library.search("a red car")
        refined = library.search("a red car", refine=True)
        assert [hit.asset.id for hit in refined.hits] == [hit.asset.id for hit in plain.hits]
        places = [hit.refined for hit in refined.hits if hit.refined is not None]
        assert places
        for place in places:
            assert 0 < mask_area(place.mask) == place.area <= place.bbox[2] * place.bbox[3]
        # The mask is SAM 2's, not the box.
        assert any(place.area < place.bbox[2] * place.bbox[3] for place in places)
        again = library.search("a red car", refine=True)
        assert [hit.refined for hit in again.hits] == [hit.refined for hit in refined.hits]
    assert regard("verify", "--home", home).code == 0


def test_a_trained_scale_gives_the_slopes_of_relevance(
    weights: Path, photos: Path, tmp_path: Path
) -> None:
    profile = weights / "siglip.toml"
    assert regard("index", photos, "--home", tmp_path, "--profile", profile).code == 0
    with open_home(Settings(tmp_path)) as home:
        found = relevance.calibrate(home, EVERYTHING)
    assert found is not None
    assert set(found) == {(Form.TEXT, target) for target in Target}
    for calibration in found.values():
        for model, ending in ((calibration.hit, ".cosine"), (calibration.presence, ".best")):
            slopes = [slope for name, slope in model.weights.items() if name.endswith(ending)]
            assert sum(slopes) == pytest.approx(20)  # exp(logit_scale) of the checkpoint


def test_lite_is_changed_to_a_profile_without_captions(
    weights: Path, photos: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    assert regard("index", photos, "--home", home, "--json").document["captions"] > 0
    changed = regard("reindex", "--profile", weights / "siglip.toml", "--home", home, "--json")
    assert changed.code == 0, changed
    assert changed.document["live"] is True
    status = regard("status", "--home", home, "--json").document
    assert status["captions"] == 0
    assert status["regions"] == 3 * len(NAMES)
    hits = regard("search", "a cat", "--refine", "--home", home, "--json").document["hits"]
    assert len(hits) == len(NAMES)
    assert all(hit["asset"]["caption"] is None for hit in hits)
    assert any("refined" in hit for hit in hits)
    assert regard("rollback", "--home", home).code == 0
    back = regard("search", "a cat", "--home", home, "--json").document["hits"]
    assert any(hit["asset"]["caption"] for hit in back)


def test_what_refines_is_fetched_when_it_is_asked_for(
    weights: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (weights / "siglip.toml").read_text()
    models = {f"made/{name}": weights / name for name in ("siglip2", "grounding-dino", "sam2")}
    for model in models:
        text = text.replace(f'folder = "{model.removeprefix("made/")}"', f'model = "{model}"')
    profile = tmp_path / "published.toml"
    profile.write_text(text)
    home = tmp_path / "home"
    with made_hub(models) as hub:
        hub.use_here(monkeypatch, tmp_path / "cache")
        assert regard("models", "fetch", profile).code == 0
        assert not any("grounding-dino" in path for path in hub.requests)
        assert regard("index", photos / "cat.png", "--home", home, "--profile", profile).code == 0
        refused = regard("search", "a cat", "--refine", "--home", home)
        refused.expect_sentence(3, "grounding-dino", "published.toml --refine")
        fetched = regard("models", "fetch", profile, "--refine")
        assert fetched.code == 0, fetched
        hub.requests.clear()
        found = regard("search", "a cat", "--refine", "--home", home, "--json")
        assert found.code == 0, found
        assert "refined" in found.document["hits"][0]
        assert hub.requests == []
