"""The keyword index: what it finds, and that no writer leaves it behind."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Literal

import pytest
from alembic import command
from alembic.config import Config
from catalog_samples import Home, analysis, attach, header, open_home, save, stamp
from made_assets import Assets
from sqlalchemy import delete, insert, text, update

from regard.core.assets import AssetEdit
from regard.core.catalog import WORD_FIELDS, AnalysedFile, Occurrences, WordField, Words
from regard.core.facts import PhotoFacts
from regard.core.filters import EVERYTHING, AssetFilter
from regard.core.records import Caption
from regard.core.words import split_words
from regard.search.keywords import words_of
from regard.storage.database import migrations, schema
from regard.storage.database.connection import Database
from regard.storage.retrieval import keywords
from regard.storage.retrieval.keywords import SqlKeywordSearch
from regard.storage.retrieval.verification import rebuild_keywords, verify_keywords

Found = set[tuple[str, str]]


def words(asked: str) -> list[Words]:
    """Single words, and phrases between bars."""
    return [
        Words(tuple(part.split()), exact=True) if " " in part or part.startswith("=") else
        Words((part,))
        for part in asked.split("|")
    ]  # fmt: skip


def look_up(home: Home, asked: list[Words], chosen: AssetFilter = EVERYTHING) -> Occurrences:
    (found,) = SqlKeywordSearch(home.catalog, home.pipeline).find([asked], chosen)
    return found


def rows_of(found: Occurrences) -> list[tuple[int, ...]]:
    columns = (found.places, found.fields, found.contents, found.regions)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def find(home: Home, word: str, chosen: AssetFilter = EVERYTHING) -> Found:
    """(name of the content, field) of whatever has a word."""
    found = look_up(home, words(word), chosen)
    names = {row.id: row.sha256 for row in home.rows(schema.content)}
    known = {header(name).sha256: name for name in "abcdefgh"}
    return {
        (known[names[content]], WORD_FIELDS[field].value)
        for content, field in zip(found.contents.tolist(), found.fields.tolist(), strict=True)
    }


def called(home: Home) -> set[tuple[int, str, str]]:
    """What the index holds of each asset."""
    rows = home.rows(schema.asset_text)
    texts = [(row.asset_id, row.field, row.text) for row in rows]
    assert len(texts) == len(set(texts))
    return set(texts)


def derived(home: Home) -> set[tuple[int, str, str]]:
    """The same, told from the assets without SQL."""
    found: set[tuple[int, str, str]] = set()
    for asset in home.rows(schema.asset):
        title = asset.title if asset.edited_title is None else asset.edited_title
        stem, dot, _ = asset.file_name.rpartition(".")
        folders = asset.uri.split("/")[1:-1][-3:]
        found |= {
            (asset.id, "title", title),
            (asset.id, "description", asset.description),
            (asset.id, "file_name", stem if stem and dot else asset.file_name),
            (asset.id, "folder", "" if asset.managed else "/".join(folders)),
        }
    found |= {(row.asset_id, "tag", row.tag) for row in home.rows(schema.asset_tag)}
    return {entry for entry in found if entry[2]}


def save_called(home: Home, path: str, name: str, **facts: object) -> None:
    with home.writing() as writer:
        save(writer, path, name, facts=PhotoFacts(**facts))


def test_words_are_found_wherever_they_stand(home: Home, assets: Assets) -> None:
    save_called(
        home, "/home/anna/Italy 2023/lago_di_como/IMG_1234_red-bus.JPG", "a",
        title="A boat on the lake", description="Evening light", keywords=("ferry", "summer"),
    )  # fmt: skip
    for word, field in (
        ("boat", "title"),
        ("evening", "description"),
        ("ferry", "tag"),
        ("bus", "file_name"),
        ("1234", "file_name"),
        ("como", "folder"),
        ("italy", "folder"),
        ("anna", "folder"),
        ("picture", "caption"),
        ("piece", "region_caption"),
    ):
        assert find(home, word) == {("a", field)}, word
    # Neither what lies above three folders, nor a suffix, nor a part of a word.
    for word in ("home", "jpg", "oat", "red1234"):
        assert find(home, word) == set(), word
    (region,) = set(look_up(home, words("piece")).regions.tolist())
    assert region == min(row.id for row in home.rows(schema.region))


def test_other_forms_and_accents_are_one_word(home: Home) -> None:
    save_called(home, "/p/1.jpg", "a", title="Buses in São Paulo", description="Été, naïve Übung")
    for word in ("bus", "buses", "BUS".lower(), "sao", "são", "ete", "été", "naive", "ubung"):
        assert {name for name, _ in find(home, word)} == {"a"}, word


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ("Straße", ["strasse", "straße"]),
        ("Strasse", ["straße"]),
        ("Größe", ["groesse", "grosse", "größe"]),
        ("München", ["muenchen", "munchen", "münchen"]),
        ("Koeln", ["köln", "koeln"]),
        ("Łódź", ["lodz", "łódź"]),
        ("Diyarbakır", ["diyarbakir"]),
        ("Kobenhavn", ["københavn"]),
        ("ёлка", ["елка", "ёлка"]),
        ("ΑΘΗΝΑ", ["αθήνα", "αθηνα"]),
        ("Αθήνα", ["αθηνα"]),
    ],
)
def test_special_letters_may_be_written_without_them(
    home: Home, written: str, asked: list[str]
) -> None:
    save_called(home, "/p/1.jpg", "a", title=written)
    save_called(home, "/p/2.jpg", "b", title="shot of a gusty blustery lake")
    for word in asked:
        (whole,) = (item.words for item in words_of(word) if item.words.whole)
        for item in (Words((word,)), Words((word,), exact=True), whole):
            assert len(look_up(home, [item]).contents) == 1, item
    for word in ("guest", "bluest", "shoes"):
        assert find(home, word) == set(), word


def test_letters_of_other_scripts(home: Home) -> None:
    save_called(home, "/p/1.jpg", "a", title="Йошкар озеро 東京 m² €5 🚌7")
    for word in ("йошкар", "озеро", "東京", "5", "7"):
        assert find(home, word) == {("a", "title")}, word


def test_vowels_that_are_marks_belong_to_their_words(home: Home) -> None:
    save_called(home, "/p/1.jpg", "a", title="हिन्दी भाषा, தமிழ்")
    save_called(home, "/p/2.jpg", "b", title="ह न द 🚌\ufe0f x\u0304y")
    assert split_words("हिन्दी भाषा 🚌\ufe0f 7\ufe0f\u20e3") == ["हिन्दी", "भाषा", "7"]
    for word in ("हिन्दी", "भाषा", "தமிழ்", "हिन्दी भाषा"):
        assert find(home, word) == {("a", "title")}, word
    for word in ("हिन", "xy"):
        assert find(home, word) <= {("b", "title")}, word


def test_names_in_composed_and_decomposed_unicode_are_found(home: Home) -> None:
    forms: tuple[Literal["NFC", "NFD"], ...] = ("NFC", "NFD")
    written = ["서울", "がく", "Überé", "हिन्दी"]
    for name, (word, form) in zip("abcdefgh", product(written, forms), strict=True):
        save_called(home, f"/{form}/{unicodedata.normalize(form, word)} 7.jpg", name)
    for spelling, names in zip(written, ("ab", "cd", "ef", "gh"), strict=True):
        (word,) = split_words(spelling)
        expected = {(name, "file_name") for name in names}
        assert find(home, word) == find(home, f"{word} 7") == expected


def test_words_of_either_width_are_found(home: Home) -> None:
    save_called(home, "/p/1.jpg", "a", title="ＣＡＴ カメラ 7m²")
    save_called(home, "/p/2.jpg", "b", title="cat ｶﾒﾗ ７m2 ガ")
    for word in ("cat", "ｃａｔ", "カメラ", "ｶﾒﾗ", "cat カメラ", "ｃａｔ ｶﾒﾗ"):
        assert find(home, word) == {("a", "title"), ("b", "title")}, word
    assert ("a", "title") in find(home, "7m²")
    assert find(home, "ｶﾞ") == {("b", "title")}


@pytest.mark.parametrize(
    ("name", "asked", "others"),
    [
        ("IMG_0012.JPG", ["IMG_0012", "img 0012", "IMG0012", "IMG_0012.jpg", "ＩＭＧ_００１２"],
         ["IMG", "0012", "IMG_0012 (1)", "IMG_0012.png x", "a IMG_0012"]),
        ("DSC01234.ARW", ["DSC01234", "dsc 01234", "DSC_01234.arw"], ["01234", "DSC1234"]),
        ("20230512_143055.jpg", ["20230512_143055", "20230512 143055.JPG"], ["20230512"]),
        ("2023-05-12 14.30.55 (1).jpg", ["2023-05-12 14.30.55 (1)", "2023-05-12 14.30.55 (1).jpg"],
         ["2023-05-12 14.30.55"]),
        ("Über uns.final.png", ["über uns.final", "U\u0308ber uns final.png"], ["uns", "final"]),
        ("photo.jpg.png", ["photo.jpg.png", "photo.jpg", "photo jpg"], ["photo"]),
        ("the.jpg", ["the", "the.jpg"], []),
        ("cat.png", ["cat", "Cat.PNG"], ["a cat", "cats", "cat dog"]),
        ("東京タワー.jpg", ["東京タワー", "東京ﾀﾜｰ"], ["東京"]),
        (".hidden", ["hidden"], []),
    ],
)  # fmt: skip
def test_a_whole_name_is_found_as_people_write_it(
    home: Home, name: str, asked: list[str], others: list[str]
) -> None:
    save_called(home, f"/p/{name}", "a")
    save_called(home, "/p/other.jpg", "b", title=name)

    def is_whole(text: str) -> bool:
        names = [item.words for item in words_of(text) if item.words.whole]
        found = look_up(home, names)
        is_of_file = found.fields == WORD_FIELDS.index(WordField.FILE_NAME)
        return bool(is_of_file.any())

    assert [text for text in asked if not is_whole(text)] == []
    assert [text for text in others if is_whole(text)] == []


def test_a_name_with_a_suffix_is_that_of_one_file(home: Home) -> None:
    for path, name in (("/p/IMG_1.jpg", "a"), ("/p/IMG_1.CR2", "b"), ("/p/IMG_1.JPG.png", "c")):
        save_called(home, path, name)
    for suffix, of in (("jpg", "a"), ("CR2", "b")):
        (name,) = (item.words for item in words_of(f"img_1.{suffix}") if item.words.suffix)
        contents = look_up(home, [name]).contents.tolist()
        assert contents == [row.id for row in home.rows(schema.content)][ord(of) - 97 :][:1]


def test_the_number_alone_finds_what_cameras_make_of_it(home: Home) -> None:
    names = ["DSC01234", "P1010012", "IMG-20230512-WA0007", "_DSF1234", "img 5678"]
    for name, path in zip("abcde", names, strict=True):
        save_called(home, f"/p/{path}.jpg", name)
    for number, name in (("01234", "a"), ("1010012", "b"), ("0007", "c"), ("5678", "e")):
        assert find(home, number) == {(name, "file_name")}


def test_a_phrase_stands_as_it_is(home: Home) -> None:
    save_called(home, "/p/1.jpg", "a", title="Two red buses", keywords=("red", "bus"))
    save_called(home, "/p/2.jpg", "b", title="The RED-bus: again")
    save_called(home, "/p/3.jpg", "c", title="a bus, red")
    assert find(home, "red bus") == {("b", "title")}
    assert find(home, "the red bus again") == {("b", "title")}
    assert find(home, "bus red") == {("c", "title")}
    # One word that is asked for exactly is not found in its other forms.
    found = look_up(home, [Words(("bus",), exact=True)])
    assert sorted(found.fields.tolist()) == [WORD_FIELDS.index(WordField.TITLE)] * 2 + [
        WORD_FIELDS.index(WordField.TAG)
    ]
    with pytest.raises(ValueError, match="exact"):
        Words(("red", "bus"))


def test_several_queries_at_once(home: Home) -> None:
    save_called(home, "/p/1.jpg", "a", title="red bus")
    search = SqlKeywordSearch(home.catalog, home.pipeline)
    both, nothing, one = search.find([words("bus|red"), [], words("bus")], EVERYTHING)
    assert sorted(both.places.tolist()) == [0, 1]
    assert nothing.places.tolist() == []
    assert one.places.tolist() == [0]
    assert both.total == one.total == 1
    assert search.find([[], []], EVERYTHING)[1].contents.tolist() == []


def test_operators_of_the_databases_are_plain_words(home: Home) -> None:
    save_called(home, "/p/1.jpg", "a", title="near or and")
    for word in ("near", "or"):
        assert find(home, word) == {("a", "title")}


@pytest.mark.parametrize("word", ['"', 'a"b', "'", "\\", "*", "-", "(", "and:", "%"])
def test_marks_are_not_words(word: str) -> None:
    with pytest.raises(ValueError, match="letters and digits"):
        Words((word,))


def test_only_what_passes_the_filter_is_found(home: Home, assets: Assets) -> None:
    save_called(home, "/p/1.jpg", "a", title="bus")
    with home.writing("other") as writer:
        # A twin elsewhere, of another name: what it is called is not this collection's.
        attach(writer, "/q/secret.jpg", "a")
        save(writer, "/q/2.jpg", "b", facts=PhotoFacts(title="bus"))
    default, other = (AssetFilter(collections=(name,)) for name in ("default", "other"))
    assert find(home, "bus") == {("a", "title"), ("b", "title")}
    assert find(home, "bus", default) == {("a", "title")}
    assert find(home, "bus", other) == {("b", "title")}
    assert find(home, "secret", default) == set()
    assert find(home, "secret", other) == {("a", "file_name")}
    assert find(home, "picture", default) == {("a", "caption")}
    assert find(home, "picture", other) == {("a", "caption"), ("b", "caption")}
    assert find(home, "bus", AssetFilter(collections=("nowhere",))) == set()
    assert find(home, "bus", AssetFilter(min_width=1000)) == set()
    assert look_up(home, words("bus"), default).total == 1
    assert look_up(home, words("bus"), other).total == 2
    (trashed,) = (row.id for row in home.rows(schema.asset) if row.uri == "/p/1.jpg")
    assets.editing.trash([trashed])
    assert find(home, "bus") == {("b", "title")}
    assert find(home, "picture", default) == set()
    assert look_up(home, words("bus"), default).total == 0
    assets.editing.restore([trashed])
    assert find(home, "bus", default) == {("a", "title")}


def test_what_is_not_analysed_yet_is_not_found(home: Home, assets: Assets) -> None:
    assets.upload("a", title="bus")
    assert find(home, "bus") == set()
    assets.analyse()
    assert find(home, "bus") == {("a", "title")}
    assert find(home, "store") == set()  # the folder of the managed originals


def test_captions_of_another_pipeline_are_not_found(home: Home) -> None:
    home.save("/p/1.jpg", "a")
    home.execute(
        insert(schema.pipeline).values(id=77, profile="x", fingerprint="f", spec="{}", live=False)
    )
    home.execute(update(schema.caption).values(pipeline_id=77))
    assert find(home, "picture") == set()


def test_of_a_common_word_the_newest_texts_are_read(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keywords, "MOST_TEXTS", 2)
    keywords._statement.cache_clear()
    for name in "abcd":
        save_called(home, f"/p/{name}.jpg", name, title="common" if name != "a" else "rare")
    assert find(home, "common") == {("c", "title"), ("d", "title")}
    assert find(home, "rare") == {("a", "title")}
    # How common it is, is told all the same.
    assert look_up(home, words("rare|common")).more == {1: 3}
    assert look_up(home, words("picture")).more == {0: 4}
    assert find(home, "picture") == {("c", "caption"), ("d", "caption")}
    # Those that do not pass leave their places to others.
    chosen = AssetFilter(path_prefixes=(b"/p/b.jpg", b"/p/c.jpg"))
    assert find(home, "common", chosen) == {("b", "title"), ("c", "title")}
    keywords._statement.cache_clear()


def do_something(rng: random.Random, home: Home, assets: Assets) -> None:
    """One of all the things that change what assets are called."""
    name = rng.choice("abcdefgh")
    known = home.rows(schema.asset)
    ids = [row.id for row in known]
    some = rng.sample(ids, min(len(ids), 2))
    title = rng.choice([None, "red bus", "blue boat"])
    facts = PhotoFacts(
        title=title,
        description=rng.choice([None, "", "long ago"]),
        keywords=tuple(rng.sample(["sea", "snow", "sun"], rng.randrange(3))),
    )
    path = f"/photos/{rng.choice('xy')}/{rng.randrange(4)}{rng.choice(['.jpg', '', '.tar.gz'])}"
    imported = [row for row in known if not row.managed]
    match rng.randrange(9):
        case 0:
            with home.writing("one") as writer:
                if not writer.is_analysed(header(name).sha256):
                    writer.save([AnalysedFile(stamp(path), header(name), facts, analysis(name))])
                else:
                    writer.attach(stamp(path), header(name).sha256, facts)
        case 1:
            with home.writing("one") as writer:
                writer.fail(stamp(path), "it is cut off")
        case 2:
            with home.writing("one") as writer:
                there = list(writer.known_assets(b"/photos"))
                writer.remove(rng.sample(there, min(len(there), 2)))
        case 3 if any(row.content_id for row in imported):
            moved = rng.choice([row for row in imported if row.content_id])
            digests = {row.id: row.sha256 for row in home.rows(schema.content)}
            with home.writing("one") as writer:
                digest = digests[moved.content_id]
                if writer.is_analysed(digest):
                    writer.attach(stamp(path), digest, facts, moved_from=moved.id)
        case 4:
            assets.upload(name, title=title, facts=facts, tags=("mine",))
        case 5:
            assets.analyse(but=rng.sample("abcdefgh", 2))
        case 6 if some:
            fields = rng.sample(["title", "tags"], rng.randint(1, 2))
            edit = AssetEdit(title=title, tags=("given", "sea"), fields=frozenset(fields))
            assets.editing.edit(some[0], edit)
            assets.editing.tag(some, add=["many"], remove=["sea", "mine"])
        case 7 if some:
            trashed = [row.id for row in known if row.deleted_at is not None]
            assets.editing.trash([asset for asset in some if asset not in trashed])
            assets.editing.restore(trashed[:1])
        case 8:
            assets.editing.purge_some()


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.campaign)])
def test_no_writer_leaves_the_index_behind(home: Home, assets: Assets, seed: int) -> None:
    rng = random.Random(seed)
    asked = ["red", "boat", "sea", "many", "given", "ago", "1", "photos", "tar", "picture", "a"]
    every = words("|".join(asked))
    lasting = SqlKeywordSearch(home.catalog, home.pipeline)
    for _ in range(30):
        do_something(rng, home, assets)
        assert called(home) == derived(home)
        # What it keeps of the last look-up is given up with each change.
        for chosen in (EVERYTHING, AssetFilter(tags=("sea",))):
            (found,), now = lasting.find([every], chosen), look_up(home, every, chosen)
            assert rows_of(found) == rows_of(now)
    database = home.catalog.database
    assert verify_keywords(database) == []
    before = [find(home, word) for word in asked]
    assert any(before)
    assert rebuild_keywords(database) == len(derived(home))
    assert [find(home, word) for word in asked] == before
    assert verify_keywords(database) == []


def test_what_a_transaction_takes_back_was_never_indexed(home: Home) -> None:
    save_called(home, "/p/1.jpg", "a", title="bus")
    with home.catalog.database.engine.connect() as connection:
        connection.execute(update(schema.asset).values(title="boat"))
        connection.rollback()
    assert find(home, "bus") == {("a", "title")}
    assert find(home, "boat") == set()


def test_captions_follow_their_table(home: Home) -> None:
    with home.writing() as writer:
        made = analysis("a")
        captions = (Caption("A great egret.", "m"), *made.captions[1:])
        writer.save(
            [
                AnalysedFile(
                    stamp("/p/1.jpg"), header("a"), PhotoFacts(), replace(made, captions=captions)
                )
            ]
        )
    assert find(home, "egrets") == {("a", "caption")}
    home.execute(update(schema.caption).where(schema.caption.c.id == 1).values(text="A crane."))
    assert find(home, "egrets") == set()
    assert find(home, "cranes") == {("a", "caption")}
    home.execute(delete(schema.caption))
    assert find(home, "crane") == set()
    assert verify_keywords(home.catalog.database) == []


def test_a_text_of_any_length_can_be_written(home: Home) -> None:
    long = "word " * 400_000 + "x" * 100_000
    save_called(home, "/p/1.jpg", "a", description=long, title="bus " + "y" * 5000)
    assert find(home, "word") == {("a", "description")}
    assert find(home, "bus") == {("a", "title")}


def test_damage_is_found_and_mended(home: Home) -> None:
    save_called(home, "/p/1.jpg", "a", title="bus")
    database = home.catalog.database
    assert verify_keywords(database) == []
    for damage, said in (
        ("DELETE FROM asset_text WHERE field = 'title'", "1 texts of assets are not in the"),
        ("UPDATE asset_text SET text = 'else' WHERE field = 'title'", "are of no asset"),
        (
            "INSERT INTO asset_text (asset_id, field, text) SELECT id, 'tag', 'x' FROM asset",
            "1 texts of the keyword index are of no asset",
        ),
    ):
        home.execute(text(damage))
        findings = verify_keywords(database)
        assert any(said in finding.message for finding in findings)
        assert all(finding.in_index for finding in findings)
        rebuild_keywords(database)
        assert verify_keywords(database) == []
        assert find(home, "bus") == {("a", "title")}


@pytest.mark.parametrize("backend", ["sqlite"])
@pytest.mark.parametrize("table", ["asset_text", "caption"])
def test_words_that_are_not_those_of_their_texts(home: Home, table: str) -> None:
    save_called(home, "/p/1.jpg", "a", title="bus")
    database = home.catalog.database
    home.execute(text(f"INSERT INTO {table}_words ({table}_words) VALUES ('delete-all')"))
    (finding,) = verify_keywords(database)
    assert "words" in finding.message
    assert finding.in_index
    rebuild_keywords(database)
    assert verify_keywords(database) == []
    assert find(home, "bus") == {("a", "title")}
    assert find(home, "picture") == {("a", "caption")}


@pytest.fixture
def at_revision_two(make_url: Callable[[], str]) -> str:
    """A home of the schema before, with a photograph."""
    url = make_url()
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    database = Database(url)
    digits = b"/p/lake/b.jpg".hex()
    path = f"x'{digits}'" if database.is_sqlite else f"'\\x{digits}'"
    with database.writing() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
        for statement in (
            "INSERT INTO collection (id, name) VALUES (1, 'default')",
            "INSERT INTO content (id, sha256, format, width, height) "
            f"VALUES (1, '{header('a').sha256}', 'jpeg', 4, 3)",
            "INSERT INTO asset (id, collection_id, path, uri, content_id, size, mtime_ns, title, "
            "capture, file_name) "
            f"VALUES (1, 1, {path}, '/p/lake/b.jpg', 1, 1, 1, 'bus', '{{}}', 'b.jpg')",
            "INSERT INTO asset_tag (asset_id, tag) VALUES (1, 'ferry')",
        ):
            connection.exec_driver_sql(statement)
    database.close()
    return url


def test_a_home_from_before_is_filled(at_revision_two: str, tmp_path: Path) -> None:
    with open_home(at_revision_two, tmp_path) as home:
        expected = {(1, "title", "bus"), (1, "file_name", "b"), (1, "folder", "p/lake")}
        assert called(home) == expected | {(1, "tag", "ferry")}
        assert verify_keywords(home.catalog.database) == []
        home.execute(delete(schema.asset_tag))
        assert called(home) == expected
        home.execute(delete(schema.asset))
        assert called(home) == set()


def test_an_analysis_is_what_makes_a_name_found(home: Home) -> None:
    """Not even a caption makes up for it."""
    save_called(home, "/p/1.jpg", "a", title="bus")
    home.execute(delete(schema.analysis))
    assert find(home, "bus") == set()
