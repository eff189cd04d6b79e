"""The parts of a multipart form, told apart as the bytes come in (RFC 7578, over python-multipart).

What is sent decides nothing: a part is a file or a field by its name alone, and a file name is kept
for people to read and is never a path. Every limit holds from the first byte above it, not at the
end. Whatever the bytes, reading them gives events or a FormError.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from regard.api.http.problems import FieldError, Problem

# It logs every malformed form as a warning; here that is the client's trouble, who is told.
logging.getLogger(MultipartParser.__module__).setLevel(logging.ERROR)

_MAX_NAME_CHARACTERS = 255
_MAX_BOUNDARY_BYTES = 200
_PLAIN_TRANSFERS = {b"7bit", b"8bit", b"binary"}
# Marks of direction make one name look like another.
_TURNING_MARKS = frozenset(
    "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)
_UNREADABLE = {"Cc", "Cs", "Zl", "Zp"}


class FormError(Problem):
    """The body is no form that this call takes."""

    def __init__(self, name: str, detail: str, *, field: str | None = None) -> None:
        errors = [] if field is None else [FieldError(where=f"body.{field}", message=detail)]
        # What was not read of the body would be taken for the next request.
        super().__init__(name, detail, errors=errors, headers={"Connection": "close"})
        self.status: int = self.document["status"]
        self.detail = detail


@dataclass(frozen=True, slots=True)
class FormLimits:
    """How much of everything one call may bring; all are counts, or bytes.

    `total_bytes` is the whole body, None for what the other limits amount to. `header_bytes` is
    one header line of one part; there are at most eight.
    """

    file_bytes: int
    files: int
    fields: int = 200
    field_bytes: int = 64 << 10
    header_bytes: int = 4 << 10
    total_bytes: int | None = None

    @property
    def body_bytes(self) -> int:
        """The longest body: `total_bytes`, or all parts at their largest with their headers."""
        if self.total_bytes is not None:
            return self.total_bytes
        parts = self.files + self.fields + 1
        sizes = self.files * self.file_bytes + self.fields * self.field_bytes
        return sizes + parts * (8 * self.header_bytes + 256)


@dataclass(frozen=True, slots=True)
class FormShape:
    """The names that a form may use: of files, of fields that come once, of fields that may repeat."""

    files: frozenset[str]
    single: frozenset[str] = frozenset()
    many: frozenset[str] = frozenset()


@dataclass(slots=True)
class Part:
    """A part in the midst of arriving."""

    name: str
    file_name: str | None
    is_file: bool
    size: int = 0


# What happened to files, in order: one begins, bytes of it came, it ended.
Event = Part | bytes | None


class FormParts:
    """Tells parts apart as the bytes come in: fields are kept here, files are told of as events."""

    def __init__(
        self, boundary: bytes, fields: list[tuple[str, str]], shape: FormShape, limits: FormLimits
    ) -> None:
        self._fields = fields
        self._shape = shape
        self._limits = limits
        self._files = 0
        self._events: list[Event] = []
        self._part: Part | None = None
        self._value = bytearray()
        self._header, self._header_value = bytearray(), bytearray()
        self._headers: dict[bytes, bytes] = {}
        self._begun = False
        self.complete = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._headers.clear,
                "on_header_begin": self._begin_header,
                "on_header_field": self._take_header_name,
                "on_header_value": self._take_header_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._begin,
                "on_part_data": self._take,
                "on_part_end": self._end,
                "on_end": self._complete,
            },
            max_header_size=limits.header_bytes,
        )

    def read(self, chunk: bytes) -> list[Event]:
        """Take the next bytes of the body, and say what they did to files; raises FormError."""
        # What the parser makes of text before the first boundary depends on how it is cut.
        if chunk and not self._begun and not chunk.startswith(b"-"):
            raise FormError("bad-request", "the form does not start with its boundary")
        self._begun = self._begun or bool(chunk)
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise FormError("bad-request", f"the form is malformed: {error}") from error
        events, self._events = self._events, []
        return events

    def _complete(self) -> None:
        self.complete = True

    def _begin_header(self) -> None:
        self._header.clear()
        self._header_value.clear()

    def _take_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _take_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        name = bytes(self._header).lower()
        if name in self._headers:
            raise FormError("bad-request", "a part of the form has a header twice")
        self._headers[name] = bytes(self._header_value)

    def _begin(self) -> None:
        """Decide what a part is, by its headers; raises FormError for what the form may not have."""
        kind, options = parse_options_header(self._headers.get(b"content-disposition"))
        if kind != b"form-data" or b"name" not in options:
            raise FormError("bad-request", "a part of the form has no name")
        transfer = self._headers.get(b"content-transfer-encoding", b"binary")
        if transfer.strip().lower() not in _PLAIN_TRANSFERS:
            raise FormError(
                "bad-request", "a part of the form is encoded, which forms no longer are"
            )
        name = _text(options[b"name"], "a name in the form")
        shape, limits = self._shape, self._limits
        is_file = name in shape.files
        if is_file:
            self._files += 1
            if self._files > limits.files:
                raise too_large("the form", limits.files, "files")
        elif name not in shape.single and name not in shape.many:
            shown = name[:100]
            raise FormError("validation", f"the form has no field {shown!r}", field=shown)
        elif name in shape.single and any(key == name for key, _ in self._fields):
            raise FormError("validation", f"the field {name!r} came more than once", field=name)
        elif len(self._fields) >= limits.fields:
            raise too_large("the form", limits.fields, "fields")
        self._part = Part(name, _file_name(options.get(b"filename")) if is_file else None, is_file)
        if is_file:
            self._events.append(self._part)

    def _take(self, data: bytes, start: int, end: int) -> None:
        part = self._part
        assert part is not None
        part.size += end - start
        if part.is_file:
            if part.size > self._limits.file_bytes:
                raise too_large("a file", self._limits.file_bytes, "bytes")
            self._events.append(data[start:end])
        else:
            if part.size > self._limits.field_bytes:
                raise too_large(f"the field {part.name!r}", self._limits.field_bytes, "bytes")
            self._value += data[start:end]

    def _end(self) -> None:
        part = self._part
        assert part is not None
        if part.is_file:
            self._events.append(None)
        else:
            self._fields.append((part.name, _text(bytes(self._value), f"the field {part.name!r}")))
            self._value.clear()
        self._part = None


def boundary_of(content_type: str | None, content_encoding: str | None) -> bytes:
    """What separates the parts, by the request's headers; raises FormError when it is no such form."""
    media_type, options = parse_options_header(content_type)
    if media_type != b"multipart/form-data":
        raise FormError("unsupported-media", "the body has to be multipart/form-data")
    if (content_encoding or "identity").strip().lower() != "identity":
        raise FormError("unsupported-media", "the body must not be compressed")
    boundary = options.get(b"boundary", b"")
    if not 0 < len(boundary) <= _MAX_BOUNDARY_BYTES:
        raise FormError("bad-request", "the content type has no usable boundary")
    return boundary


def _text(data: bytes, what: str) -> str:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormError("bad-request", f"{what} is not UTF-8") from error
    if "\0" in text:
        raise FormError("bad-request", f"{what} has a NUL character")
    return text


def _file_name(sent: bytes | None) -> str | None:
    """The last component of what the client calls the file, fit to be shown; None when none is left."""
    if sent is None:
        return None
    last = re.split(r"[/\\]", sent.decode("utf-8", "replace"))[-1]
    shown = "".join(
        character
        for character in last
        if unicodedata.category(character) not in _UNREADABLE and character not in _TURNING_MARKS
    )
    shown = shown.strip()[:_MAX_NAME_CHARACTERS]
    return None if shown in {"", ".", ".."} else shown


def too_large(what: str, limit: int, unit: str) -> FormError:
    """The error for one limit."""
    return FormError("too-large", f"{what} has more than {limit:,} {unit}")
