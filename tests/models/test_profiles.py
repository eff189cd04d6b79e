"""Profiles as files: what ships, what a user writes, what is wrong in one, what a pipeline is
called."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub.utils import validate_repo_id

from regard.core.errors import ModelError, UnanswerableQuery, UsageError
from regard.core.records import Image, Kind, QueryKind, Target
from regard.models.profiles.composed import ComposedProfile
from regard.models.profiles.definition import read_definition
from regard.models.profiles.registry import load_profile, profile_files

FAKE = """
description = "mine"
[encoder]
kind = "fake"
[captioner]
kind = "fake"
[segmenter]
kind = "fake"
"""


@pytest.fixture(autouse=True)
def own_profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of the user's own profiles, and a hub's cache without any model."""
    folder = tmp_path / "profiles"
    folder.mkdir()
    monkeypatch.setenv("REGARD_PROFILES", str(folder))
    return folder


def written(folder: Path, text: str, name: str = "mine.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_what_ships() -> None:
    assert list(profile_files()) == ["lite", "blip3", "blip3-small", "fake", "florence", "siglip"]
    for name, path in profile_files().items():
        definition = read_definition(path)
        assert definition.description
        assert ComposedProfile(name, definition, path.parent).batch_size >= 1


def test_the_pipeline_of_lite_changes_only_on_purpose() -> None:
    # Changing this makes users index their homes again, so change it deliberately.
    assert load_profile("lite").spec.fingerprint.startswith("eff751283ad4d9b7")


def test_a_profile_of_ones_own_is_found_by_name_and_by_path(own_profiles: Path) -> None:
    path = written(own_profiles, FAKE)
    by_name, by_path = load_profile("mine"), load_profile(str(path))
    assert by_name.name == "mine"
    assert by_name.spec.models == by_path.spec.models
    assert by_name.problems() == []
    written(own_profiles, FAKE.replace("mine", "another lite"), "lite.toml")
    assert load_profile("lite").definition.description == "another lite"


def test_parts_may_be_left_out(own_profiles: Path) -> None:
    bare = load_profile(
        str(written(own_profiles, 'description = "bare"\n[encoder]\nkind = "fake"\n'))
    )
    assert set(bare.routes) == {
        (QueryKind.TEXT, Target.IMAGE),
        (QueryKind.IMAGE, Target.IMAGE),
    }
    # Words are found without any model.
    kinds = [item.channel.kind for item in bare.routes[QueryKind.TEXT, Target.IMAGE]]
    assert kinds == [Kind.IMAGE, Kind.KEYWORD]
    assert not bare.names_thing("A bus.")
    captionless = FAKE.replace('[captioner]\nkind = "fake"\n', "[weights]\nregion = 0\n")
    without = load_profile(str(written(own_profiles, captionless)))
    assert [item.channel.kind for item in without.routes[QueryKind.TEXT, Target.IMAGE]] == kinds
    assert (QueryKind.REGION, Target.REGION) in without.routes


def test_a_grounder_is_not_part_of_the_pipeline(own_profiles: Path) -> None:
    bare = load_profile(str(written(own_profiles, FAKE)))
    with pytest.raises(UnanswerableQuery, match="no grounder"):
        bare.grounder()
    grounding = FAKE + '[grounder]\nkind = "fake"\n'
    profile = load_profile(str(written(own_profiles, grounding)))
    assert profile.spec.fingerprint == bare.spec.fingerprint
    assert profile.grounding_problem() is None
    red = np.zeros((40, 60, 3), np.uint8)
    red[10:30, 20:50] = (220, 30, 30)
    (region,) = profile.grounder().ground([Image(red)], ["a red bus"])
    assert region is not None
    assert region.box.to_list() == [20, 10, 30, 20]
    assert profile.grounder().ground([Image(red)], ["a blue bus"]) == [None]


def test_weights_of_a_grounder_are_needed_to_refine_only(own_profiles: Path) -> None:
    text = FAKE + '[grounder]\nkind = "zero-shot-detection"\nmodel = "made/detector"\n'
    profile = load_profile(str(written(own_profiles, text)))
    assert profile.problems() == []
    assert profile.sources == ()
    assert [source.model for source in profile.refining_sources] == ["made/detector"]
    with pytest.raises(ModelError, match="made/detector") as caught:
        profile.grounder()
    assert caught.value.remedy is not None
    assert caught.value.remedy.startswith("run: regard models fetch")
    assert caught.value.remedy.endswith("mine.toml --refine")
    # Florence-2 captions and grounds with the same files.
    assert load_profile("florence").refining_sources == ()


def test_a_segmenter_without_weights_goes_with_any_encoder(own_profiles: Path) -> None:
    text = FAKE.replace('[segmenter]\nkind = "fake"', '[segmenter]\nkind = "superpixels"')
    few = text + "parameters = { max_regions = 3 }\n"
    twelve, three = (load_profile(str(written(own_profiles, t))) for t in (text, few))
    assert twelve.spec.parameters["segmenter"]["max_regions"] == 12
    assert three.spec.parameters["segmenter"]["max_regions"] == 3
    assert twelve.spec.fingerprint != three.spec.fingerprint


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("description = ", "not valid TOML"),
        ('description = "no encoder"', "encoder"),
        (FAKE + "colour = 1\n", "colour"),
        (FAKE.replace("mine", 'mine"\nbatch_size = 0\nx = "'), "batch_size"),
        (FAKE + "device = 7\n", "segmenter.device"),
        (FAKE + "parameters = { points = 3 }\n", "points"),
        (FAKE + 'revision = "main"\n', "a revision needs a model"),
        (FAKE + 'model = "not a valid/id/x"\n', r"segmenter\.model: .*'not a valid/id/x'"),
        (FAKE + 'model = ""\n', r"segmenter\.model: .*''"),
        (FAKE + 'model = "a--b"\n', r"segmenter\.model: .*'a--b'"),
        (FAKE + 'model = "a/b.git"\n', r"segmenter\.model: .*'a/b.git'"),
        (FAKE + 'model = "a/-b"\n', r"segmenter\.model: .*'a/-b'"),
        (FAKE + f'model = "a/{"b" * 96}"\n', r"segmenter\.model"),
        (FAKE + 'model = "a/b"\nrevision = "../x"\n', r"segmenter\.revision: .*'\.\./x'"),
        (FAKE + 'model = "a/b"\nrevision = ""\n', r"segmenter\.revision"),
        (FAKE + 'folder = ""\n', r"segmenter\.folder: .*'' is not a path"),
        (FAKE + 'folder = "~nouser/x"\n', r"segmenter\.folder: .*'~nouser/x' begins with the fol"),
        (FAKE.replace('[encoder]\nkind = "fake"', '[encoder]\nkind = "clip9"'), "clip9"),
        (FAKE.replace('[captioner]\nkind = "fake"', '[captioner]\nkind = "xgenmm"'), "model"),
        (
            FAKE.replace(
                '[segmenter]\nkind = "fake"',
                '[segmenter]\nkind = "superpixels"\nparameters = { max_regions = "many" }',
            ),
            "max_regions",
        ),
        (
            FAKE.replace(
                '[segmenter]\nkind = "fake"',
                '[segmenter]\nkind = "superpixels"\ndtype = "bfloat16"',
            ),
            "dtype",
        ),
    ],
)
def test_what_is_wrong_in_a_file_is_named(own_profiles: Path, text: str, words: str) -> None:
    path = written(own_profiles, text)
    with pytest.raises(UsageError, match=words) as caught:
        load_profile(str(path))
    assert "mine" in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("model", "revision"),
    [
        ("google/siglip-so400m-patch14-384", "main"),
        ("Salesforce/xgen-mm-phi3-mini-base-r-v1.5", "v1.0"),
        ("gpt2", "refs/pr/7"),
        ("a_b/c.d", "9a2f0cbd0f8d7b1a4a9f2c5d9d0b6f3f7e1e2a3c"),
    ],
)
def test_names_of_the_hub_are_taken(own_profiles: Path, model: str, revision: str) -> None:
    text = FAKE.replace(
        '[encoder]\nkind = "fake"',
        f'[encoder]\nkind = "contrastive"\nmodel = "{model}"\nrevision = "{revision}"',
    )
    (source,) = load_profile(str(written(own_profiles, text))).sources
    assert (source.model, source.revision) == (model, revision)
    validate_repo_id(model)


def test_a_profile_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="blip9") as caught:
        load_profile("blip9")
    assert "lite" in str(caught.value.remedy)
    with pytest.raises(UsageError, match=r"none\.toml"):
        load_profile(str(tmp_path / "none.toml"))
    with pytest.raises(UsageError, match=r"no profile at .*~nouser/x\.toml"):
        load_profile("~nouser/x.toml")


def test_missing_weights_say_how_to_get_them(tmp_path: Path) -> None:
    code = (
        "from regard.models.profiles.registry import load_profile\n"
        "for problem in load_profile('blip3').problems(): print(problem)\n"
    )
    environment = {"HF_HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
        cwd=tmp_path,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    for line, size in zip(lines, ("3.52 GB", "17.4 GB", "898 MB"), strict=True):
        assert size in line
        assert line.endswith("run: regard models fetch blip3")


def test_a_folder_that_is_not_there(own_profiles: Path) -> None:
    text = FAKE.replace(
        '[encoder]\nkind = "fake"', '[encoder]\nkind = "contrastive"\nfolder = "weights"'
    )
    profile = load_profile(str(written(own_profiles, text)))
    (problem,) = profile.problems()
    assert isinstance(problem, ModelError)
    # A relative path starts at the profile's file.
    assert str(own_profiles / "weights") in problem.message
    with pytest.raises(ModelError):
        _ = profile.spaces


def test_too_little_memory_is_one_sentence(
    own_profiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regard.models.profiles.composed.available_memory", lambda: 1_000_000)
    (problem,) = load_profile("lite").problems()
    assert "lite needs 600 MB of memory on cpu, but only 1 MB is free" in problem.message
    assert load_profile("fake").problems() == []


def test_profiles_load_no_models_before_they_are_asked() -> None:
    code = (
        "import sys\n"
        "from regard.models.profiles.registry import load_profile, profile_files\n"
        "for name in profile_files(): load_profile(name)\n"
        "load_profile('fake').analyzer()\n"
        "assert not load_profile('lite').problems()\n"
        "heavy = {'torch', 'transformers'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
