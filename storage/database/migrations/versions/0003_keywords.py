"""The keyword index: the words of captions, titles, tags, file and folder names, kept by triggers.

`asset_text` holds what an asset is called, a row a text, as the view `asset_text_source` derives
it from the asset and its tags. Triggers keep it in the writer's transaction, so that no writer can
forget it. SQLite finds words in it and in `caption` by FTS5 tables, PostgreSQL by generated
columns and GIN indexes.
"""

# Statements are put together of this file's own words alone.
# ruff: noqa: S608

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# SQLite makes an autoincrementing key of INTEGER alone.
_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

_CALLED = "uri, file_name, title, edited_title, description, managed"
_CHANGED = " OR ".join(f"OLD.{name} IS {{not_the_same}} NEW.{name}" for name in _CALLED.split(", "))

# The text before the last dot, and the three folders above the file: what lies above those is the
# machine's. Uploads lie in a store of digests, whose folders say nothing.
_SQLITE_STEM = (
    "CASE WHEN instr(ltrim({0}, '.'), '.') > 0 "
    "THEN rtrim(rtrim({0}, replace({0}, '.', '')), '.') ELSE {0} END"
)
_SQLITE_ABOVE = "rtrim(rtrim({0}, '/'), replace({0}, '/', ''))"
_SQLITE_FOLDERS = (
    "SELECT id, 'folder', trim(substr(first, length({third_above}) + 1), '/') FROM "
    "(SELECT id, first, {second_above} AS third FROM "
    "(SELECT id, first, {first_above} AS second FROM "
    "(SELECT id, rtrim(uri, replace(uri, '/', '')) AS first FROM asset WHERE managed IS NOT TRUE)))"
).format(**{f"{name}_above": _SQLITE_ABOVE.format(name) for name in ("first", "second", "third")})
_POSTGRES_STEM = "regexp_replace({0}, '(.)\\.[^.]*$', '\\1')"
_POSTGRES_FOLDERS = (
    "SELECT id, 'folder', trim(both '/' from substring(uri from '((?:[^/]+/){1,3})[^/]*$')) "
    "FROM asset WHERE managed IS NOT TRUE"
)
_SOURCE = """
CREATE VIEW asset_text_source (asset_id, field, text) AS
SELECT id, 'title', coalesce(edited_title, title) FROM asset
WHERE coalesce(edited_title, title, '') <> ''
UNION ALL SELECT id, 'description', description FROM asset WHERE coalesce(description, '') <> ''
UNION ALL SELECT id, 'file_name', {stem} FROM asset WHERE coalesce(file_name, '') <> ''
UNION ALL SELECT id, field, text FROM ({folders}) AS folders WHERE coalesce(text, '') <> ''
UNION ALL SELECT asset_id, 'tag', tag FROM asset_tag WHERE tag <> ''
"""

_FILL = "INSERT INTO asset_text (asset_id, field, text) SELECT asset_id, field, text FROM asset_text_source"
_FORGET = "DELETE FROM asset_text WHERE asset_id = {row}.{key}"
_CALL_ANEW = f"{_FILL} WHERE asset_id = NEW.id AND field <> 'tag';"
_UNCALL = f"{_FORGET.format(row='OLD', key='id')} AND field <> 'tag';"
_TAG = (
    "INSERT INTO asset_text (asset_id, field, text) "
    "SELECT NEW.asset_id, 'tag', NEW.tag WHERE NEW.tag <> '';"
)
_UNTAG = f"{_FORGET.format(row='OLD', key='asset_id')} AND field = 'tag' AND text = OLD.tag;"

# Words as both databases see them: accents off, whatever is not a letter or digit between them.
# Enough of a text is read to stay far below the megabyte that a tsvector may have.
_POSTGRES_FOLDED = r"""
CREATE FUNCTION regard_folded(words text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
SELECT regexp_replace(
    regexp_replace(normalize(lower(left(words, 20000) {collate}), NFD), '[\u0300-\u036f]', '', 'g'),
    '[\u0001-\u002f\u003a-\u0040\u005b-\u0060\u007b-\u00a9\u00ab-\u00b1\u00b4\u00b6-\u00b8\u00bb\u00bf\u00d7\u00f7'
    '\u2000-\u206f\u20a0-\u20cf\u2190-\u245f\u2500-\u2775\u2794-\u2bff\u3000-\u3003\u3008-\u3020'
    '\uff01-\uff0f\uff1a-\uff20\U0001f000-\U0001faff]+', ' ', 'g')
$$
"""
_POSTGRES_WORDS = """
CREATE FUNCTION regard_words(words text) RETURNS tsvector
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path FROM CURRENT AS $$
SELECT to_tsvector('regard'::regconfig, regard_folded(words))
$$
"""


def upgrade() -> None:
    """Make them, and fill them for the assets that are there."""
    op.create_table(
        "asset_text",
        sa.Column("id", _ID, nullable=False),
        sa.Column("asset_id", _ID, nullable=False),
        sa.Column("field", sa.String(length=16), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["asset_id"],
            ["asset.id"],
            name=op.f("fk_asset_text_asset_id_asset"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_asset_text")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_asset_text_asset_id"), "asset_text", ["asset_id"])
    if op.get_bind().dialect.name == "sqlite":
        _upgrade_sqlite()
    else:
        _upgrade_postgresql()
    _run(_FILL)


def downgrade() -> None:
    """Remove them."""
    if op.get_bind().dialect.name == "sqlite":
        for name in ("asset_called", "asset_called_anew", "asset_tagged", "asset_untagged",
                     "asset_retagged"):  # fmt: skip
            _run(f"DROP TRIGGER {name}")
        for table in ("asset_text", "caption"):
            for suffix in ("added", "removed", "replaced"):
                _run(f"DROP TRIGGER {table}_words_{suffix}")
            _run(f"DROP TABLE {table}_words")
        _run("DROP VIEW asset_text_source")
        op.drop_table("asset_text")
        return
    _run("DROP TRIGGER asset_called ON asset")
    _run("DROP TRIGGER asset_called_anew ON asset")
    _run("DROP TRIGGER asset_tagged ON asset_tag")
    _run("DROP FUNCTION regard_call_asset(), regard_tag_asset()")
    _run("DROP VIEW asset_text_source")
    op.drop_table("asset_text")
    _run("ALTER TABLE caption DROP COLUMN caption_words")
    _run("DROP FUNCTION regard_words(text), regard_folded(text)")
    _run("DROP TEXT SEARCH CONFIGURATION regard")
    _run("DROP TEXT SEARCH DICTIONARY regard_stem")


def _upgrade_sqlite() -> None:
    _run(_SOURCE.format(stem=_SQLITE_STEM.format("file_name"), folders=_named(_SQLITE_FOLDERS)))
    for table in ("asset_text", "caption"):
        index = f"{table}_words"
        add = f"INSERT INTO {index} (rowid, text) VALUES (NEW.id, NEW.text);"
        remove = f"INSERT INTO {index} ({index}, rowid, text) VALUES ('delete', OLD.id, OLD.text);"
        _run(
            f"CREATE VIRTUAL TABLE {index} USING fts5 (text, content='{table}', "
            "content_rowid='id', columnsize=0, tokenize='porter unicode61 remove_diacritics 2')"
        )
        _run(f"CREATE TRIGGER {index}_added AFTER INSERT ON {table} BEGIN {add} END")
        _run(f"CREATE TRIGGER {index}_removed AFTER DELETE ON {table} BEGIN {remove} END")
        _run(
            f"CREATE TRIGGER {index}_replaced AFTER UPDATE OF id, text ON {table} "
            f"BEGIN {remove} {add} END"
        )
    _run("INSERT INTO caption_words (caption_words) VALUES ('rebuild')")
    _run(f"CREATE TRIGGER asset_called AFTER INSERT ON asset BEGIN {_CALL_ANEW} END")
    _run(
        f"CREATE TRIGGER asset_called_anew AFTER UPDATE OF {_CALLED} ON asset "
        f"WHEN {_CHANGED.format(not_the_same='NOT')} BEGIN {_UNCALL} {_CALL_ANEW} END"
    )
    _run(f"CREATE TRIGGER asset_tagged AFTER INSERT ON asset_tag BEGIN {_TAG} END")
    _run(f"CREATE TRIGGER asset_untagged AFTER DELETE ON asset_tag BEGIN {_UNTAG} END")
    _run(f"CREATE TRIGGER asset_retagged AFTER UPDATE ON asset_tag BEGIN {_UNTAG} {_TAG} END")


def _upgrade_postgresql() -> None:
    _run(_SOURCE.format(stem=_POSTGRES_STEM.format("file_name"), folders=_named(_POSTGRES_FOLDERS)))
    # English stems, and no word left out: what says nothing is left out of queries.
    _run(
        "CREATE TEXT SEARCH DICTIONARY regard_stem (TEMPLATE = pg_catalog.snowball, LANGUAGE = english)"
    )
    _run('CREATE TEXT SEARCH CONFIGURATION regard (PARSER = pg_catalog."default")')
    _run(
        "ALTER TEXT SEARCH CONFIGURATION regard ADD MAPPING FOR "
        "asciiword, word, numword, int, uint, float, sfloat WITH regard_stem"
    )
    _run(_POSTGRES_FOLDED.format(collate=_collation()))
    _run(_POSTGRES_WORDS)
    for table in ("asset_text", "caption"):
        # A column, since plans that read no index, or check what one says, would make words of
        # each text.
        words = f"{table}_words"
        made = "tsvector GENERATED ALWAYS AS (regard_words(text)) STORED"
        _run(f"ALTER TABLE {table} ADD COLUMN {words} {made}")
        _run(f"CREATE INDEX {words} ON {table} USING gin ({words})")
    _run(
        "CREATE FUNCTION regard_call_asset() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF TG_OP = 'UPDATE' THEN {_UNCALL} END IF; {_CALL_ANEW} RETURN NULL; END $$"
    )
    _run(
        "CREATE FUNCTION regard_tag_asset() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF TG_OP <> 'INSERT' THEN {_UNTAG} END IF; IF TG_OP <> 'DELETE' THEN {_TAG} END IF; "
        "RETURN NULL; END $$"
    )
    _run(
        "CREATE TRIGGER asset_called AFTER INSERT ON asset "
        "FOR EACH ROW EXECUTE FUNCTION regard_call_asset()"
    )
    _run(
        f"CREATE TRIGGER asset_called_anew AFTER UPDATE OF {_CALLED} ON asset FOR EACH ROW "
        f"WHEN ({_CHANGED.format(not_the_same='DISTINCT FROM')}) "
        "EXECUTE FUNCTION regard_call_asset()"
    )
    _run(
        "CREATE TRIGGER asset_tagged AFTER INSERT OR UPDATE OR DELETE ON asset_tag "
        "FOR EACH ROW EXECUTE FUNCTION regard_tag_asset()"
    )


def _collation() -> str:
    """One that knows capitals beyond A to Z, which a database's own may not."""
    there = op.get_bind().exec_driver_sql(
        "SELECT collname FROM pg_collation "
        "WHERE collencoding IN (-1, pg_char_to_encoding(getdatabaseencoding())) "
        "AND collnamespace = 'pg_catalog'::regnamespace"
    )
    names = set(there.scalars())
    wanted = ("pg_c_utf8", "und-x-icu", "C.utf8")
    return next((f'COLLATE pg_catalog."{name}"' for name in wanted if name in names), "")


def _named(folders: str) -> str:
    """The folders with columns that have names, on either database."""
    return folders.replace("'folder'", "'folder' AS field", 1).replace(" FROM", " AS text FROM", 1)


def _run(statement: str) -> None:
    op.get_bind().exec_driver_sql(statement)
