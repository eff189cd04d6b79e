"""The catalog's tables, and those of the service: jobs, API keys, answers to repeated requests.

A content is analysed once and owns its regions, captions and embeddings; an asset is a place where
a content lies. Ids of vectors are the ids in the vector indexes and are never reused. `change`
numbers the additions and deletions of rows of `embedding`; its positions become visible in order, because
the number is taken from `counter` at the end of a transaction and that row stays locked until the
commit.

Migrations, not this module, make the tables; a test holds the two equal.
"""

from __future__ import annotations

import zlib

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    FetchedValue,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)

from regard.core.words import composed

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_ZLIB = b"\x78"
# SQLite autoincrements only INTEGER keys.
Id = BigInteger().with_variant(Integer, "sqlite")


class ComposedText(TypeDecorator[str]):
    """Text with composed letters (NFC), whether stored or compared with what is stored."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """See `TypeDecorator`."""
        del dialect
        return None if value is None else composed(value)


class CompressedMask(TypeDecorator[bytes]):
    """COCO's compressed run-length counts, by zlib where that is shorter.

    The counts are ASCII up to "o", so that their first byte differs from that of zlib's.
    """

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: bytes | None, dialect: Dialect) -> bytes | None:
        """See `TypeDecorator`."""
        del dialect
        if value is None:
            return None
        # Higher levels take longer and save little.
        compressed = zlib.compress(value, 1)
        return compressed if len(compressed) < len(value) else value

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> bytes | None:
        """See `TypeDecorator`."""
        del dialect
        if value is None or value[:1] != _ZLIB:
            return value
        return zlib.decompress(value)


def _table(name: str, *items: Column[object] | CheckConstraint | UniqueConstraint) -> Table:
    return Table(name, metadata, *items, sqlite_autoincrement=True)


catalog_info = Table(
    "catalog_info",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)

counter = Table(
    "counter",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", BigInteger, nullable=False),
)

lease = Table(
    "lease",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("token", String(64), nullable=False),
    Column("host", Text, nullable=False),
    Column("pid", BigInteger, nullable=False),
    Column("process_started", Float(53), nullable=False),
    Column("acquired_at", Float(53), nullable=False),
    Column("heartbeat_at", Float(53), nullable=False),
)

collection = _table(
    "collection",
    Column("id", Id, primary_key=True),
    Column("name", ComposedText, nullable=False, unique=True),
    Column("created_at", DateTime, nullable=True),
)

pipeline = _table(
    "pipeline",
    Column("id", Id, primary_key=True),
    Column("profile", Text, nullable=False),
    Column("fingerprint", String(64), nullable=False, unique=True),
    Column("spec", Text, nullable=False),
    Column("live", Boolean, nullable=False),
    # When it last went live, when another replaced it, and when its deletion began, after which it
    # can't go live again.
    Column("live_since", DateTime, nullable=True),
    Column("replaced_at", DateTime, nullable=True),
    Column("pruned_at", DateTime, nullable=True),
)

channel = _table(
    "channel",
    Column("id", Id, primary_key=True),
    Column("pipeline_id", Id, ForeignKey("pipeline.id"), nullable=False),
    Column("space", Text, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("dimension", Integer, nullable=False),
    UniqueConstraint("pipeline_id", "space", "kind"),
)

content = _table(
    "content",
    Column("id", Id, primary_key=True),
    Column("sha256", String(64), nullable=False, unique=True),
    Column("format", String(16), nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    # Of a video alone: how long it is, and the time of the frame that stands for it.
    Column("duration_ms", Integer, nullable=True),
    Column("poster_ms", Integer, nullable=True),
)

analysis = Table(
    "analysis",
    metadata,
    Column("content_id", Id, ForeignKey("content.id", ondelete="CASCADE"), primary_key=True),
    Column("pipeline_id", Id, ForeignKey("pipeline.id"), primary_key=True),
    # How many of each it has, so that counting a library does not read them.
    Column("region_count", Integer, nullable=False, server_default="0"),
    Column("caption_count", Integer, nullable=False, server_default="0"),
    Column("vector_count", Integer, nullable=False, server_default="0"),
)

# Contents that a pipeline could not analyse before going live, which it may do without them.
analysis_failure = Table(
    "analysis_failure",
    metadata,
    Column("content_id", Id, ForeignKey("content.id", ondelete="CASCADE"), primary_key=True),
    Column("pipeline_id", Id, ForeignKey("pipeline.id"), primary_key=True),
    Column("reason", Text, nullable=False),
)

asset = _table(
    "asset",
    Column("id", Id, primary_key=True),
    Column("collection_id", Id, ForeignKey("collection.id"), nullable=False),
    # The path as bytes from the file system; `uri` is its printable form.
    Column("path", LargeBinary, nullable=False),
    # The path with composed letters (NFC), if that differs: what filters compare.
    Column("composed_path", LargeBinary, nullable=True),
    Column("uri", Text, nullable=False),
    Column("content_id", Id, ForeignKey("content.id"), nullable=True),
    Column("size", BigInteger, nullable=False),
    Column("mtime_ns", BigInteger, nullable=False),
    Column("sidecar_stamp", Text, nullable=True),
    # Of an object that was indexed in its bucket.
    Column("etag", Text, nullable=True),
    Column("failure", Text, nullable=True),
    Column("taken_at", DateTime, nullable=True),
    # A `DatePrecision`; null without a date.
    Column("taken_precision", String(8), nullable=True),
    Column("utc_offset_minutes", Integer, nullable=True),
    Column("camera_make", Text, nullable=True),
    Column("camera_model", Text, nullable=True),
    Column("lens", Text, nullable=True),
    Column("latitude", Float(53), nullable=True),
    Column("longitude", Float(53), nullable=True),
    # Where that is: an ISO 3166-1 code, and a city with its folded name, for filters.
    Column("country", String(2), nullable=True),
    Column("city", Text, nullable=True),
    Column("city_folded", Text, nullable=True, index=True),
    Column("title", Text, nullable=True),
    Column("description", Text, nullable=True),
    Column("rating", SmallInteger, nullable=True),
    Column("capture", Text, nullable=False),
    # The following are not read from the file. Times are naive UTC.
    Column("file_name", Text, nullable=True),
    Column("external_id", Text, nullable=True),
    # Whether the file is an upload that the home stores.
    Column("managed", Boolean, nullable=True),
    # A title that a person gave overrides the file's own.
    Column("edited_title", Text, nullable=True),
    # A person's, or the best of copies that were merged into it; `rating` is this, or the file's.
    Column("edited_rating", SmallInteger, nullable=True),
    Column("custom", Text, nullable=True),
    Column("added_at", DateTime, nullable=True),
    # When it was taken, else when the file was changed; lists are sorted by it.
    Column("dated_at", DateTime, nullable=True),
    # When it was moved to the trash.
    Column("deleted_at", DateTime, nullable=True),
    # The asset that stands for its stack; its own id where that is itself, null without a stack.
    Column("stack_id", Id, nullable=True),
    # What people said: the same number for those of one stack, 0 for none; null leaves it to rules.
    Column("chosen_stack", Id, nullable=True),
    # The database derives the following from the columns above, for indexes. The camera is make and
    # model, without the make if the model begins with it; folded names have A to Z lowered.
    Column("camera", Text, FetchedValue(), nullable=True),
    Column("camera_folded", Text, FetchedValue(), nullable=True, index=True),
    Column("camera_model_folded", Text, FetchedValue(), nullable=True, index=True),
    Column("lens_folded", Text, FetchedValue(), nullable=True, index=True),
    # As in `2024-05`, or the year alone.
    Column("taken_month", Text, FetchedValue(), nullable=True),
    Column("comparable_path", LargeBinary, FetchedValue(), nullable=True, index=True),
    UniqueConstraint("collection_id", "path"),
    CheckConstraint("(content_id IS NULL) = (failure IS NOT NULL)", name="failed_without_content"),
)

# Folders whose files came, changed or went since their stacks were found.
stale_folder = _table(
    "stale_folder",
    Column("id", Id, primary_key=True),
    Column("collection_id", Id, ForeignKey("collection.id", ondelete="CASCADE"), nullable=False),
    # Without a slash at the end.
    Column("path", LargeBinary, nullable=False),
)

# What people said about files to index: patterns below a folder, or without a pattern the path
# itself. Later rows take precedence.
exclusion = _table(
    "exclusion",
    Column("id", Id, primary_key=True),
    Column(
        "collection_id",
        Id,
        ForeignKey("collection.id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    Column("path", LargeBinary, nullable=False),
    Column("pattern", LargeBinary, nullable=True),
    Column("is_left_out", Boolean, nullable=False),
)

asset_keyword = Table(
    "asset_keyword",
    metadata,
    Column("asset_id", Id, ForeignKey("asset.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("keyword", ComposedText, nullable=False),
)

# Seeded from the file's keywords; what people add or remove persists when the file changes.
asset_tag = Table(
    "asset_tag",
    metadata,
    Column("asset_id", Id, ForeignKey("asset.id", ondelete="CASCADE"), primary_key=True),
    Column("tag", ComposedText, primary_key=True),
)

# A named set of assets or, with a query, a saved search.
album = _table(
    "album",
    Column("id", Id, primary_key=True),
    Column("name", ComposedText, nullable=False, unique=True),
    Column("query", Text, nullable=True),
    Column("created_at", DateTime, nullable=False),
)

album_asset = Table(
    "album_asset",
    metadata,
    Column("album_id", Id, ForeignKey("album.id", ondelete="CASCADE"), primary_key=True),
    Column(
        "asset_id", Id, ForeignKey("asset.id", ondelete="CASCADE"), primary_key=True, index=True
    ),
)

# The searchable texts of an asset: title, description, file name, folders and tags. Triggers write
# it.
asset_text = _table(
    "asset_text",
    Column("id", Id, primary_key=True),
    Column("asset_id", Id, ForeignKey("asset.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("field", String(16), nullable=False),
    Column("text", Text, nullable=False),
)

# The scalar custom fields of an asset as JSON, for filters.
asset_field = Table(
    "asset_field",
    metadata,
    Column("asset_id", Id, ForeignKey("asset.id", ondelete="CASCADE"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

# The log of assets, for clients that keep a copy; positions become visible in order, as in
# `change`.
asset_change = Table(
    "asset_change",
    metadata,
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("asset_id", Id, nullable=False),
    Column("collection_id", Id, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("changed_at", DateTime, nullable=False),
)

job = _table(
    "job",
    Column("id", Id, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("state", String(16), nullable=False, index=True),
    # None for a job on all collections.
    Column("collection_id", Id, ForeignKey("collection.id", ondelete="CASCADE"), nullable=True),
    # JSON: the task, and its result.
    Column("parameters", Text, nullable=False),
    Column("report", Text, nullable=True),
    Column("message", Text, nullable=True),
    Column("total", BigInteger, nullable=True),
    Column("done", BigInteger, nullable=False),
    Column("cancel_requested", Boolean, nullable=False),
    Column("created_at", DateTime, nullable=False),
    Column("started_at", DateTime, nullable=True),
    Column("finished_at", DateTime, nullable=True),
)

api_key = _table(
    "api_key",
    Column("id", Id, primary_key=True),
    Column("name", Text, nullable=False),
    # SHA-256 of the whole key, in hex; keys are long and random, so a slow hash is not needed.
    Column("secret_sha256", String(64), nullable=False, unique=True),
    Column("scope", String(16), nullable=False),
    # JSON list of collection names; null means all.
    Column("collections", Text, nullable=True),
    Column("created_at", DateTime, nullable=False),
    Column("last_used_at", DateTime, nullable=True),
    Column("revoked_at", DateTime, nullable=True),
)

# Addresses that the log of assets is sent to, each with the last position that it has accepted.
webhook = _table(
    "webhook",
    Column("id", Id, primary_key=True),
    Column("url", Text, nullable=False),
    # `whsec_` and the key of the signatures, in base64.
    Column("secret", Text, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("created_at", DateTime, nullable=False),
    # Attempts in a row that failed, since when, and why the last one did.
    Column("failures", BigInteger, nullable=False),
    Column("failing_since", DateTime, nullable=True),
    Column("failure", Text, nullable=True),
)

# Responses by Idempotency-Key, to be repeated.
idempotency = Table(
    "idempotency",
    metadata,
    Column("caller", String(64), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("request_sha256", String(64), nullable=False),
    Column("status", Integer, nullable=False),
    Column("answer", Text, nullable=False),
    Column("created_at", DateTime, nullable=False),
)

# A small grey image of a content, uint8, with the shape that `Signature` has.
signature = Table(
    "signature",
    metadata,
    Column(
        "content_id",
        Id,
        ForeignKey("content.id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("version", SmallInteger, nullable=False),
    Column("grey", LargeBinary, nullable=False),
)

# The contents that were compared with their neighbours to find copies.
comparison = Table(
    "comparison",
    metadata,
    Column("content_id", Id, ForeignKey("content.id", ondelete="CASCADE"), primary_key=True),
    Column("pipeline_id", Id, ForeignKey("pipeline.id", ondelete="CASCADE"), primary_key=True),
    Column("version", SmallInteger, nullable=False),
)

# Two contents that show the same image, the lower id first.
copy_pair = Table(
    "copy_pair",
    metadata,
    Column("first_id", Id, ForeignKey("content.id", ondelete="CASCADE"), primary_key=True),
    Column(
        "second_id",
        Id,
        ForeignKey("content.id", ondelete="CASCADE"),
        primary_key=True,
        index=True,
    ),
    Column("similarity", Float(53), nullable=False),
)

# Two contents that people marked as distinct, the lower id first; one content twice, if its files
# are all wanted.
distinct_pair = Table(
    "distinct_pair",
    metadata,
    Column("first_id", Id, ForeignKey("content.id", ondelete="CASCADE"), primary_key=True),
    Column(
        "second_id",
        Id,
        ForeignKey("content.id", ondelete="CASCADE"),
        primary_key=True,
        index=True,
    ),
)

# The things of a content and the likely pairs that they form, see `core/same_objects.py`: arrays of
# little-endian numbers. `among` counts the contents it was compared with, 0 before that.
object_comparison = Table(
    "object_comparison",
    metadata,
    Column("content_id", Id, ForeignKey("content.id", ondelete="CASCADE"), primary_key=True),
    Column("pipeline_id", Id, ForeignKey("pipeline.id", ondelete="CASCADE"), primary_key=True),
    Column("among", BigInteger, nullable=False),
    Column("scores", LargeBinary, nullable=False),
    Column("things", LargeBinary, nullable=False),
    Column("colours", LargeBinary, nullable=False),
    Column("pairs", LargeBinary, nullable=False),
)

# How often comparisons were saved, and how often when the groups of `build` were built from them.
object_state = Table(
    "object_state",
    metadata,
    Column("pipeline_id", Id, ForeignKey("pipeline.id", ondelete="CASCADE"), primary_key=True),
    Column("comparisons", BigInteger, nullable=False),
    Column("grouped", BigInteger, nullable=False),
    Column("build", BigInteger, nullable=False),
)

# One object in several photographs; `number` is the lowest of its regions.
object_group = Table(
    "object_group",
    metadata,
    Column("pipeline_id", Id, ForeignKey("pipeline.id", ondelete="CASCADE"), primary_key=True),
    Column("build", BigInteger, primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("signs", LargeBinary, nullable=False),
    Column("sightings", LargeBinary, nullable=False),
)

# A calibration of relevance that was made on the library itself: JSON as in a profile's file, and the
# number of contents that it was made from.
calibration = Table(
    "calibration",
    metadata,
    Column("pipeline_id", Id, ForeignKey("pipeline.id", ondelete="CASCADE"), primary_key=True),
    Column("contents", BigInteger, nullable=False),
    Column("document", Text, nullable=False),
    Column("made_at", DateTime, nullable=False),
)

region = _table(
    "region",
    Column("id", Id, primary_key=True),
    Column("content_id", Id, ForeignKey("content.id", ondelete="CASCADE"), nullable=False),
    Column("pipeline_id", Id, ForeignKey("pipeline.id"), nullable=False),
    Column("ordinal", Integer, nullable=False),
    Column("x", Integer, nullable=False),
    Column("y", Integer, nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("area", BigInteger, nullable=False),
    Column("score", Float(53), nullable=False),
    # COCO's run-length counts over the content's width × height.
    Column("mask", CompressedMask, nullable=False),
    # Of a moment of a video, which is its whole frame.
    Column("time_ms", Integer, nullable=True),
    UniqueConstraint("content_id", "pipeline_id", "ordinal"),
)

# Readers of text in pictures; the spec is that of `core/texts.py`, as JSON.
reader = _table(
    "reader",
    Column("id", Id, primary_key=True),
    Column("spec", Text, nullable=False, unique=True),
)

# Contents whose text was read; `failure` says why that was not possible.
reading = Table(
    "reading",
    metadata,
    Column(
        "content_id",
        Id,
        ForeignKey("content.id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("reader_id", Id, ForeignKey("reader.id"), nullable=False, index=True),
    Column("line_count", Integer, nullable=False),
    Column("failure", Text, nullable=True),
)

# Lines of text in pictures. Their ids are of one sequence with those of `region`.
text_line = Table(
    "text_line",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("content_id", Id, ForeignKey("content.id", ondelete="CASCADE"), nullable=False),
    Column("ordinal", Integer, nullable=False),
    # x and y of four corners in pixels: little-endian int32, (4, 2).
    Column("corners", LargeBinary, nullable=False),
    Column("confidence", Float(53), nullable=False),
    Column("text", Text, nullable=False),
    UniqueConstraint("content_id", "ordinal"),
)

# The words of each line, in the plain form of `core/words.py`.
read_word = Table(
    "read_word",
    metadata,
    Column("word", Text, primary_key=True),
    Column(
        "line_id", Id, ForeignKey("text_line.id", ondelete="CASCADE"), primary_key=True, index=True
    ),
)

caption = _table(
    "caption",
    Column("id", Id, primary_key=True),
    Column("content_id", Id, ForeignKey("content.id", ondelete="CASCADE"), nullable=False),
    Column("pipeline_id", Id, ForeignKey("pipeline.id"), nullable=False),
    Column("region_id", Id, ForeignKey("region.id", ondelete="CASCADE"), nullable=True),
    Column("text", Text, nullable=False),
    Column("model", Text, nullable=False),
)

# One row holds all vectors of a content in a channel; `embeddings.py` specifies it. Blobs come last,
# so that SQLite reads the other columns without them.
embedding = Table(
    "embedding",
    metadata,
    # The id of the first vector, whose others follow; taken from `counter`.
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("content_id", Id, ForeignKey("content.id", ondelete="CASCADE"), nullable=False),
    Column("pipeline_id", Id, ForeignKey("pipeline.id"), nullable=False),
    Column("channel_id", Id, ForeignKey("channel.id"), nullable=False),
    Column("vector_count", Integer, nullable=False),
    # Little-endian int64, an id a vector, 0 for none; null if no vector has one.
    Column("regions", LargeBinary, nullable=True),
    Column("captions", LargeBinary, nullable=True),
    # Little-endian float16, vector_count × dimension × 2 bytes.
    Column("vectors", LargeBinary, nullable=False),
    UniqueConstraint("content_id", "channel_id"),
)

# Rows of `embedding` that were added or deleted.
change = Table(
    "change",
    metadata,
    Column("position", Id, primary_key=True, autoincrement=False),
    Column("channel_id", Id, ForeignKey("channel.id"), nullable=False),
    Column("embedding_id", Id, nullable=False),
    Column("vector_count", Integer, nullable=False),
    Column("added", Boolean, nullable=False),
)

Index(
    "ix_object_comparison_pipeline_id_among",
    object_comparison.c.pipeline_id,
    object_comparison.c.among,
)
Index("ix_caption_content_id_pipeline_id", caption.c.content_id, caption.c.pipeline_id)
Index("ix_change_channel_id_position", change.c.channel_id, change.c.position)
Index("ix_asset_content_id_collection_id", asset.c.content_id, asset.c.collection_id)
Index(
    "ix_asset_change_collection_id_position", asset_change.c.collection_id, asset_change.c.position
)
Index("ix_stale_folder_collection_id_path", stale_folder.c.collection_id, stale_folder.c.path)
Index("ix_asset_field_name_value", asset_field.c.name, asset_field.c.value)
Index("ix_asset_tag_tag_asset_id", asset_tag.c.tag, asset_tag.c.asset_id)


def _partial_index(name: str, columns: str, condition: str) -> None:
    """An index of the assets that meet a condition, in the order of the columns.

    Queries use it only if they contain the condition; a value that they bind is not seen. SQLite
    answers from the index alone only if it has the condition's columns too.
    """
    Index(
        f"ix_asset_{name}",
        *(asset.c[column] for column in columns.split()),
        sqlite_where=text(condition.replace("{true}", "1")),
        postgresql_where=text(condition.replace("{true}", "true")),
    )


_LIVE = "deleted_at IS NULL"
_TRASHED = "deleted_at IS NOT NULL"
# Lists and their counts.
_partial_index("live", "dated_at id deleted_at stack_id", _LIVE)
_partial_index("live_in_collection", "collection_id dated_at id deleted_at stack_id", _LIVE)
_partial_index("trashed", "dated_at id deleted_at", _TRASHED)
_partial_index("trashed_in_collection", "collection_id dated_at id deleted_at", _TRASHED)
_partial_index("failed", "collection_id id failure", "failure IS NOT NULL")
_partial_index("managed", "collection_id id", "managed IS {true}")
_partial_index("upload_day", "collection_id taken_at", "managed IS {true}")
_partial_index("stack", "stack_id id deleted_at", "stack_id IS NOT NULL")
_partial_index("chosen_stack", "chosen_stack", "chosen_stack IS NOT NULL")
# Filters, facets and bursts.
_partial_index("taken", "taken_at taken_precision deleted_at", f"{_LIVE} AND taken_at IS NOT NULL")
_partial_index("month", "taken_month deleted_at", f"{_LIVE} AND taken_month IS NOT NULL")
_partial_index("camera", "camera taken_at id deleted_at", f"{_LIVE} AND camera IS NOT NULL")
_partial_index("place", "latitude longitude", f"{_LIVE} AND latitude IS NOT NULL")
_partial_index("title", "id", f"{_LIVE} AND coalesce(edited_title, title) <> ''")
_partial_index("description", "id", f"{_LIVE} AND description <> ''")
_partial_index("lens", "id", f"{_LIVE} AND lens <> ''")
_partial_index("lens_name", "lens deleted_at", f"{_LIVE} AND lens <> ''")
_partial_index("rating", "rating deleted_at", f"{_LIVE} AND rating IS NOT NULL")
_partial_index("country", "country deleted_at", f"{_LIVE} AND country IS NOT NULL")
_partial_index("city", "city deleted_at", f"{_LIVE} AND city IS NOT NULL")
# Few contents, assets and captions have these.
Index(
    "ix_content_duration_ms",
    content.c.duration_ms,
    sqlite_where=text("duration_ms IS NOT NULL"),
    postgresql_where=text("duration_ms IS NOT NULL"),
)
Index(
    "uq_asset_external_id_collection_id",
    asset.c.external_id,
    asset.c.collection_id,
    unique=True,
    sqlite_where=text("external_id IS NOT NULL"),
    postgresql_where=text("external_id IS NOT NULL"),
)
Index(
    "ix_caption_region_id",
    caption.c.region_id,
    sqlite_where=text("region_id IS NOT NULL"),
    postgresql_where=text("region_id IS NOT NULL"),
)
