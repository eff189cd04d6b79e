"""Wrong use gives one sentence with what mends it, and the documented exit code; never a
traceback."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from made_library import Argument, Library, regard

from regard.core.records import Space
from regard.models.fake import FakeCaptionerPart, FakeEncoderPart


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    made = Library(tmp_path_factory.mktemp("wrong"), count=3)
    (made.photos / "text.txt").write_text("no picture")
    made.index()
    return made


def _photo(library: Library) -> Path:
    return library.photos / "0.png"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["no command", "--help"]),
        (["serch", "red"], ["No such command", "--help"]),
        (["search", "red", "--colour"], ["No such option", "search --help"]),
        (["search", "-night"], ["No such option", "-- before", "search --help"]),
        (["search"], ["no query", "TEXT"]),
        (["search", ""], ["empty", "regard search"]),
        (["search", "red", "green"], ["unexpected extra argument"]),
        (["search", "red", "--limit", "0"], ["limit", "--limit"]),
        (["search", "red", "--limit", "ten"], ["'--limit': 'ten' is not an integer;"]),
        (["search", "red", "--min-relevance", "x"], ["'--min-relevance': 'x' is not a number;"]),
        (["search", "red", "--target", "face"], ["--target"]),
        (
            ["search", "red", "--image", "{photo}", "--queries", "-"],
            ["TEXT and --image and --queries"],
        ),
        (["search", "tag:x", "--target", "region"], ["list photographs"]),
        (["search", "--like", "a1", "--queries", "-"], ["--like and --queries exclude"]),
        (["search", "red", "--box", "1,2,3,4"], ["--box needs a picture", "--image"]),
        (["search", "--image", "{photo}", "--box", "1,2,3"], ["not a box", "X,Y,W,H"]),
        (["search", "--image", "{photo}", "--box", "1.5,2,3,4"], ["not a box"]),
        (["search", "--image", "{photo}", "--box", "500,0,9,9"], ["outside", "24×16"]),
        (["search", "--image", ""], ["--image"]),
        (["search", "--like", "tree"], ["not the id", "regard search --json"]),
        (["search", "--like", "a99999999999999999999"], ["not the id"]),
        (["search", "red", "--json", "--paths"], ["exclude each other"]),
        (["search", "--queries", "-", "--paths0"], ["JSON"]),
        (["search", "red", "--collection", ""], ["name is empty"]),
        (["search", b"\xff\xfe"], ["not text", "UTF-8"]),
        (["search", "red", "--collection", b"\xff"], ["not text"]),
        (["index"], ["Missing argument"]),
        (["index", ""], ["empty"]),
        (["index", "{photo}", "--profile", "gpt"], ["'gpt'", "regard profiles"]),
        (["index", "{photo}", "--collection", " "], ["name is empty"]),
        (["search", "red", "--home", "{photo}"], ["is a file"]),
        (["search", "red", "--vectors", "qdrant"], ["no vector engine", "milvus://"]),
        (["status", "--vectors", "pgvector"], ["not in PostgreSQL", "REGARD_DATABASE_URL"]),
        (["index", "{photo}", "--home", "{photo}"], ["is a file"]),
    ],
)
def test_wrong_from_the_arguments_alone(
    library: Library, arguments: list[str | bytes], words: list[str]
) -> None:
    given: list[Argument] = [
        argument.replace("{photo}", str(_photo(library))) if isinstance(argument, str) else argument
        for argument in arguments
    ]
    if "--home" not in given and given:
        given += ["--home", library.home]
    regard(*given).expect_sentence(2, *words)
    if given and "--paths" not in given and "--paths0" not in given:
        regard(*given, "--json").expect_sentence(2, *words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "70000"], "'--port': 70000 is not between 0 and 65535;"),
        (["--port", "http"], "'--port': 'http' is not an integer;"),
        (["--max-upload-bytes", "0"], "'--max-upload-bytes': 0 is less than 1;"),
    ],
)
def test_a_wrong_number_is_told_in_plain_words(arguments: list[str], words: str) -> None:
    regard("serve", *arguments).expect_sentence(2, words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["search", "--like", "a999"], ["a999", "regard search --json"]),
        (["search", "red", "--collection", "none"], ["no collection is named none", "default"]),
        (["search", "--image", "/no/such.jpg"], ["/no/such.jpg", "--image"]),
        (["search", "red image:/no/such.jpg"], ["/no/such.jpg", "image:"]),
        (["search", "red collection:nowhere"], ["no collection is named nowhere"]),
        (["search", "--image", "{photos}/text.txt"], ["text.txt", "not a photograph"]),
        (["search", "--image", "{photos}"], ["photos", "not a regular file"]),
        (["search", "--queries", "/no/such.txt"], ["/no/such.txt", "--queries"]),
        (["search", "--queries", "{photos}"], ["photos"]),
        (["index", "/no/such/folder"], ["/no/such/folder", "regard remove"]),
        (["index", "{photos}", "--profile", "lite"], ["profile fake", "--profile fake"]),
        (["remove", "/no/such/folder"], ["holds nothing", "regard status"]),
        (["remove", "{photos}", "--collection", "none"], ["holds nothing"]),
        (["search", "album:none"], ["no album is named none", "regard albums list"]),
        (["import", "{photos}"], ["it has no export.json"]),
    ],
)
def test_what_can_not_work(library: Library, arguments: list[str], words: list[str]) -> None:
    given = [argument.replace("{photos}", str(library.photos)) for argument in arguments]
    library.run(*given, "--json").expect_sentence(3, *words)
    assert len(library.shown()) == 3


@pytest.mark.parametrize("name", ["search", "status", "verify", "rebuild", "remove"])
def test_a_home_without_anything(tmp_path: Path, name: str) -> None:
    arguments = [name, "red"] if name in {"search", "remove"} else [name]
    for home in (tmp_path / "none", tmp_path):
        outcome = regard(*arguments, "--home", home)
        outcome.expect_sentence(3, "nothing is indexed", "regard index")
    assert list(tmp_path.iterdir()) == []


def test_a_home_whose_first_run_found_no_photograph(tmp_path: Path) -> None:
    library = Library(tmp_path)
    assert library.index()["indexed"] == 0
    assert library.search("red") == []
    assert library.run("search", "red").code == 0
    library.verify()


def _alter(library: Library, statement: str) -> None:
    with sqlite3.connect(library.home / "catalog.sqlite3") as connection:
        connection.execute(statement)
    connection.close()


def _of_another_version(library: Library) -> None:
    _alter(library, "UPDATE alembic_version SET version_num = '9999'")


def _of_another_program(library: Library) -> None:
    _alter(library, "DROP TABLE alembic_version")


def _not_a_database(library: Library) -> None:
    (library.home / "catalog.sqlite3").write_bytes(b"This is not a database.\n" * 100)


def _a_damaged_index(library: Library) -> None:
    for path in library.home.rglob("*.rows"):
        path.write_bytes(path.read_bytes()[:-1])


def _an_index_of_another_catalog(library: Library) -> None:
    _alter(library, "UPDATE catalog_info SET value = 'another'")


def _another_fingerprint(library: Library) -> None:
    _alter(library, "UPDATE pipeline SET fingerprint = 'another'")


def _an_unknown_profile(library: Library) -> None:
    _alter(library, "UPDATE pipeline SET profile = 'blip9'")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_of_another_version, ["another version of regard", "pip install --upgrade regard"]),
        (_of_another_program, ["not regard's", "another --home"]),
        (_not_a_database, ["can't be used", "home"]),
        (_a_damaged_index, ["damaged", "run: regard rebuild"]),
        (_an_index_of_another_catalog, ["another", "run: regard rebuild"]),
    ],
)
def test_a_home_that_does_not_fit(
    tmp_path: Path, change: Callable[[Library], None], words: list[str]
) -> None:
    library = Library(tmp_path)
    library.photo("0.png", 0)
    library.index()
    change(library)
    library.run("search", "red", "--json").expect_sentence(3, *words)
    library.photo("1.png", 1)
    library.run("index", library.photos).expect_sentence(3, *words)
    if "run: regard rebuild" not in words:
        # It doesn't open the indexes.
        library.run("status").expect_sentence(3, *words)
    if "run: regard rebuild" in words:
        # The mending command mends it, and nothing was done before.
        assert library.run("verify").code == 3
        assert library.run("rebuild").code == 0
        assert library.shown() == {"0.png"}
        library.index()
        library.verify()


@pytest.mark.parametrize(
    ("change", "words", "able"),
    [
        # Queries meet the encoder alone, and counts meet no model at all.
        (_another_fingerprint, ["other revisions", "regard reindex"], {"search", "status"}),
        (_an_unknown_profile, ["blip9", "another --home"], {"status"}),
    ],
)
def test_a_home_whose_models_are_others_does_what_it_still_can(
    tmp_path: Path, change: Callable[[Library], None], words: list[str], able: set[str]
) -> None:
    library = Library(tmp_path)
    library.photo("0.png", 0)
    library.index()
    change(library)
    commands = {"search": "red", "index": library.photos, "status": None}
    for name, argument in commands.items():
        outcome = library.run(name, *([argument] if argument else []), "--json")
        if name in able:
            assert outcome.code == 0, outcome
        else:
            outcome.expect_sentence(3, *words)


def test_another_version_of_the_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library(tmp_path)
    library.photo("0.png", 0)
    library.index()
    monkeypatch.setattr(FakeCaptionerPart, "names", lambda _: {"captioner": "fake-colour-2"})
    library.run("index", library.photos, "--json").expect_sentence(3, "other revisions")
    # What was found is still searched, for queries meet the encoder alone.
    assert library.shown() == {"0.png"}
    monkeypatch.setattr(FakeEncoderPart, "space", lambda _: Space("fake-colour-2", 32))
    library.run("search", "red", "--json").expect_sentence(3, "another encoder")


def test_names_of_homes_that_look_like_urls(tmp_path: Path) -> None:
    photos = Library(tmp_path)
    photos.photo("0.png", 0)
    for name in ("a?b", "a%20b", "a b", "a#b", "ü", os.fsdecode(b"x\xff")):
        library = Library(tmp_path)
        library.home = tmp_path / "homes" / name
        assert library.index(code=0)["indexed"] == 1
        assert (library.home / "catalog.sqlite3").is_file()
        assert library.run("status", "--json").code == 0
        assert library.run("status").code == 0
        library.verify()
    assert len(list((tmp_path / "homes").iterdir())) == 6


def test_another_database_than_the_home_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library(tmp_path)
    library.photo("0.png", 0)
    monkeypatch.setenv("REGARD_DATABASE_URL", f"sqlite:///{tmp_path}/elsewhere.sqlite3")
    library.index()
    assert not (library.home / "catalog.sqlite3").exists()
    assert len(library.search("red")) == 1
    for url, code in (("nonsense", 2), ("mysql://x/y", 2), ("sqlite:////no/such/dir/x", 3)):
        monkeypatch.setenv("REGARD_DATABASE_URL", url)
        library.run("search", "red").expect_sentence(code, "")


def test_the_home_comes_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = Library(tmp_path)
    library.photo("0.png", 0)
    monkeypatch.setenv("REGARD_HOME", str(library.home))
    assert regard("index", library.photos, "--profile", "fake").code == 0
    assert regard("search", "red", "--json").document["matched"] is True


def test_help_of_every_command_has_an_example() -> None:
    for name in ("index", "search", "status", "verify", "rebuild", "remove", "profiles"):
        outcome = regard(name, "--help")
        assert outcome.code == 0
        assert f"regard {name}".encode() in outcome.out
        assert b"Example" in outcome.out
    assert b"fake" in regard("profiles").out
    assert set(regard("profiles", "--json").document) >= {"lite", "fake"}


def test_what_should_not_happen_is_still_a_sentence(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a fault of\nregard")

    monkeypatch.setattr("regard.search.engine.SearchEngine.search", broken)
    library.run("search", "red", "--json").expect_sentence(3, "ZeroDivisionError", "-X dev")
    script = "import sys; from regard.api.cli import main; main(['search', '--home'])"
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", script], capture_output=True, check=False
    )
    assert b"Traceback" in done.stderr


def test_a_server_says_which_part_of_its_address_is_wrong(library: Library) -> None:
    for host in ("192.0.2.1", "no.such.host.invalid"):
        arguments = ("serve", "--host", host, "--without-keys", "--profile", "fake")
        regard(*arguments, "--home", library.home).expect_sentence(3, host, "give --host")


def test_a_demo_without_photographs_says_so(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    arguments = ("--photos", tmp_path / "none", "--output", tmp_path / "out", "--profile", "fake")
    done = regard("demo", *arguments)
    assert done.code == 3
    assert "no photograph could be indexed; give --photos" in done.err


def test_an_interrupt_while_regard_is_imported_is_no_traceback() -> None:
    script = """
import sys
from importlib.abc import MetaPathFinder

class Interrupting(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "click":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupting())
from regard.api.cli import main
sys.exit(main(["status"]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (130, b"regard: interrupted\n")
