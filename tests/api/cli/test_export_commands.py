"""`regard export` and `regard import`: photographs, home, export, new home, the same answers."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from made_library import Library, Outcome, command, regard
from made_processes import Forked

QUERIES = (
    ("red",),
    ("a blue picture", "--target", "region"),
    ("green", "--limit", "3"),
)


@pytest.fixture
def library(tmp_path: Path) -> Library:
    library = Library(tmp_path, count=6)
    library.photo("deep/twin.png", 1)
    (library.photos / "broken.jpg").write_bytes(b"nothing")
    library.index(code=1)
    return library


def answers(home: Path, photo: Path) -> list[Any]:
    found = []
    for query in (*QUERIES, ("--image", str(photo)), ("--like", "r3", "--target", "region")):
        outcome = regard("search", *query, "--json", "--home", home)
        assert outcome.code == 0, outcome
        document = outcome.document
        document.pop("took_ms")
        found.append(document)
    return found


def exported(library: Library, *more: str) -> tuple[Path, Outcome]:
    folder = library.home.parent / "export"
    return folder, library.run("export", str(folder), *more)


def test_a_new_home_gives_the_same_answers(library: Library) -> None:
    folder, outcome = exported(library, "--json")
    assert outcome.code == 0, outcome
    report = outcome.document
    assert (report["assets"], report["contents"]) == (8, 6)
    assert report["bytes"] == sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) - (
        (folder / "export.json").stat().st_size
    )
    before = answers(library.home, library.photos / "2.png")
    new = library.home.parent / "new"
    came = regard("import", folder, "--home", new, "--json")
    assert came.code == 0, came
    assert came.document["assets"] == 8
    assert came.document["embeddings"] == report["embeddings"]
    assert answers(new, library.photos / "2.png") == before
    assert regard("verify", "--home", new).code == 0
    # It goes on being indexed: nothing is new, and no model is needed for what has only moved.
    again = regard("index", library.photos, "--home", new, "--json")
    assert (again.document["indexed"], again.document["unchanged"]) == (0, 7)
    library.photo("later.png", 30)
    assert regard("index", library.photos, "--home", new, "--json").document["indexed"] == 1
    assert regard("verify", "--home", new).code == 0
    # And back again: what the old home has stays, what it lacks comes.
    shutil.rmtree(folder)
    assert regard("export", folder, "--home", new).code == 0
    back = library.run("import", str(folder), "--json")
    assert (back.document["assets"], back.document["unchanged"]) == (1, 8)
    library.verify()


def test_words_and_what_does_not_fit(library: Library) -> None:
    folder, outcome = exported(library, "--collection", "default")
    assert outcome.out.decode().startswith("8 assets, 6 contents, "), outcome
    _, again = exported(library)
    again.expect_sentence(3, "is there already", "new, or empty")
    library.run("export", str(folder / "x"), "--collection", "none").expect_sentence(3, "'none'")
    library.run("export", str(folder / "x"), "--collection", " ").expect_sentence(2, "is empty")
    photo = library.photos / "0.png"
    shutil.copy(library.photos / "5.png", photo)
    new = library.home.parent / "new"
    assert regard("index", photo, "--home", new, "--profile", "fake").code == 0
    came = regard("import", folder, "--home", new)
    assert came.code == 1, came
    assert f"left out: {photo}: the home has another photograph there" in came.err


def test_no_home_is_made_for_what_can_not_be_used(library: Library) -> None:
    folder, _ = exported(library)
    new = library.home.parent / "new"
    regard("import", library.photos, "--home", new).expect_sentence(3, "is not an export of regard")
    data = (folder / "regions.parquet").read_bytes()
    (folder / "regions.parquet").write_bytes(data[:100])
    regard("import", folder, "--home", new).expect_sentence(3, "regions.parquet", "damaged")
    assert not new.exists()
    regard("export", folder, "--home", new).expect_sentence(3, "nothing is indexed")
    assert not new.exists()


def test_a_killed_import_leaves_whole_contents_and_carries_on(
    tmp_path: Path, library: Library
) -> None:
    for number in range(10, 60):
        library.photo(f"many/{number}.png", number)
    library.index(code=1)
    folder, _ = exported(library)
    new = tmp_path / "new"
    process = Forked(command("import", folder, "--home", new), stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    other = Library(tmp_path)
    other.home = new

    def count() -> int:
        try:
            return int(other.sql("SELECT count(*) FROM content")[0][0])
        except Exception:  # noqa: BLE001 - there is no database yet, or no table
            return 0

    while not count() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    if count():
        assert regard("verify", "--home", new).code == 0
    came = regard("import", folder, "--home", new, "--json")
    assert came.code == 0, came
    assert other.everything() == library.everything()
    assert regard("verify", "--home", new).code == 0
    key = ("SELECT id, content_id FROM embedding ORDER BY id",)
    assert other.sql(*key) == library.sql(*key)


def test_coco_files_are_json(library: Library) -> None:
    folder, _ = exported(library)
    for name in ("instances", "captions"):
        document = json.loads((folder / "coco" / f"{name}.json").read_bytes())
        assert len(document["images"]) == 7
        assert document["annotations"]


def test_real_models_are_not_run_by_an_import(demo: Path, tmp_path: Path) -> None:
    home, new, folder = demo / "home", tmp_path / "new", tmp_path / "export"
    assert regard("export", folder, "--home", home).code == 0
    code = (
        "import sys; from regard.api.cli import main; "
        f"code = main(['import', {str(folder)!r}, '--home', {str(new)!r}]); "
        "print(code, [name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []", done
    for query in (("a cat",), ("a cup", "--target", "region"), ("--like", "r1")):
        found = [
            regard("search", *query, "--json", "--home", where).document for where in (home, new)
        ]
        for document in found:
            assert document["hits"]
            document.pop("took_ms")
        assert found[0] == found[1]
