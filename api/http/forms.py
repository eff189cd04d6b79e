"""Multipart forms (RFC 7578), parsed as they arrive.

Files go chunk by chunk into sinks that the caller opens, so memory use does not depend on their
size. A part is a file or a field by its name alone. A file name is for people to read and never a
path. Every limit holds from the first byte above it. Any input gives a `Form` or a FormError.
"""

from __future__ import annotations

import contextlib
import re
import unicodedata
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import anyio.to_thread
from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from regard.api.http.problems import FieldError, Problem
from regard.photos.formats import SNIFF_BYTES, sniff_video

# Handing data to a thread costs as much as writing about 100 kB.
_BATCH_BYTES = 1 << 20
_MAX_HEADERS = 8
_MAX_NAME_CHARACTERS = 255
_MAX_BOUNDARY_BYTES = 200
_UNENCODED = {"7bit", "8bit", "binary"}
# Bidirectional control characters can disguise a file extension.
_BIDI_CONTROLS = frozenset(
    "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)
_WINDOWS_PATH = re.compile(r"[A-Za-z]:\\|\\\\[^\\]+\\|\.\.?\\")
_UNPRINTABLE_CATEGORIES = {"Cc", "Cs", "Zl", "Zp"}


class FormError(Problem):
    """The body is not a form that this operation takes."""

    def __init__(self, name: str, detail: str, *, field: str | None = None) -> None:
        errors = [] if field is None else [FieldError(where=f"body.{field}", message=detail)]
        # The unread rest of the body would be parsed as the next request.
        super().__init__(name, detail, errors=errors, headers={"Connection": "close"})
        self.status: int = self.document["status"]
        self.detail = detail


@dataclass(frozen=True, slots=True)
class FormLimits:
    """Limits of one form, as counts or bytes.

    `video_bytes` limits files that begin as videos do; None means `file_bytes`. `header_bytes`
    limits one header line of a part. `total_bytes` limits the whole body; None allows what the
    other limits add up to, with a single large video.
    """

    file_bytes: int
    files: int
    video_bytes: int | None = None
    fields: int = 200
    field_bytes: int = 64 << 10
    header_bytes: int = 4 << 10
    total_bytes: int | None = None

    @property
    def body_bytes(self) -> int:
        """The largest body: `total_bytes`, or all parts and their headers at their largest."""
        if self.total_bytes is not None:
            return self.total_bytes
        parts = self.files + self.fields + 1
        sizes = self.files * self.file_bytes + self.fields * self.field_bytes
        sizes += max(0, (self.video_bytes or 0) - self.file_bytes)
        return sizes + parts * (_MAX_HEADERS * self.header_bytes + 256)


@dataclass(frozen=True, slots=True)
class FormShape:
    """The names that a form may use: of files, of single fields, of fields that may repeat."""

    files: frozenset[str]
    single: frozenset[str] = frozenset()
    many: frozenset[str] = frozenset()


class FileSink(Protocol):
    """Receives the bytes of one file."""

    def write(self, chunk: bytes) -> None:
        """Append bytes; called in a thread, and may block."""


Sink = TypeVar("Sink", bound=FileSink)


@dataclass(frozen=True, slots=True)
class FormFile(Generic[Sink]):
    """A complete file; `file_name` is for display, None without a usable name."""

    name: str
    file_name: str | None
    size: int
    sink: Sink


@dataclass(frozen=True, slots=True)
class Form(Generic[Sink]):
    """The files and fields of a form, each in the order of arrival."""

    files: list[FormFile[Sink]] = field(default_factory=list)
    fields: list[tuple[str, str]] = field(default_factory=list)

    def value(self, name: str) -> str | None:
        """The value of a field, None without one."""
        return next(iter(self.values(name)), None)

    def values(self, name: str) -> list[str]:
        """All values of a field."""
        return [value for key, value in self.fields if key == name]


class MemoryFile:
    """A sink that keeps a file in memory."""

    def __init__(self) -> None:
        self._data = bytearray()

    def write(self, chunk: bytes) -> None:
        """Append bytes."""
        self._data += chunk

    def read(self) -> bytes:
        """All bytes written so far."""
        return bytes(self._data)


def in_memory() -> AbstractContextManager[MemoryFile]:
    """Open a sink for small files: `read_form(…, files=in_memory)`."""
    return contextlib.nullcontext(MemoryFile())


@contextlib.asynccontextmanager
async def read_form(
    request: Request,
    *,
    files: Callable[[], AbstractContextManager[Sink]],
    shape: FormShape,
    limits: FormLimits,
) -> AsyncIterator[Form[Sink]]:
    """Read the form of a request; `files` opens a sink for each file.

    The sinks stay open until the block ends, so keep files inside it. Raises FormError, and
    whatever the sinks raise.
    """
    sinks = ExitStack()
    try:
        yield await _read(request, _FormReader(files, sinks, shape, limits), limits)
    finally:
        # Files are removed here, also when the client has disconnected and the task is cancelled.
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(sinks.close)


async def _read(request: Request, reader: _FormReader[Sink], limits: FormLimits) -> Form[Sink]:
    headers = request.headers
    boundary = _boundary(headers.get("content-type"), headers.get("content-encoding"))
    declared = headers.get("content-length", "")
    # Python refuses to parse numbers of thousands of digits.
    if declared.isdecimal() and (len(declared) > 18 or int(declared) > limits.body_bytes):
        raise _too_large("the body", limits.body_bytes, "bytes")
    parser = PushMultipartParser(
        boundary,
        max_header_size=limits.header_bytes,
        max_header_count=_MAX_HEADERS,
        # Decodes any bytes, so that names can be checked, and file names shown, as UTF-8.
        header_charset="latin-1",
    )
    opening, head = b"--" + boundary, b""
    received = 0
    try:
        async for chunk in request.stream():
            received += len(chunk)
            if received > limits.body_bytes:
                raise _too_large("the body", limits.body_bytes, "bytes")
            data = chunk
            if len(head) < len(opening):
                # The parser would skip text before the first boundary, depending on how it is
                # split.
                head += chunk
                if not opening.startswith(head[: len(opening)]):
                    raise FormError("bad-request", "the form does not start with its boundary")
                data = head if len(head) >= len(opening) else b""
            if data:
                for event in parser.parse(data):
                    await reader.take(event)
        parser.close()
    except ClientDisconnect as error:
        raise FormError("bad-request", "the client disconnected before the body ended") from error
    except MultipartError as error:
        raise FormError("bad-request", f"the form is malformed: {error}") from error
    return reader.form


class _FormReader(Generic[Sink]):
    """Builds a form from the parser's events: a segment, its bytes, and None at its end."""

    def __init__(
        self,
        files: Callable[[], AbstractContextManager[Sink]],
        sinks: ExitStack,
        shape: FormShape,
        limits: FormLimits,
    ) -> None:
        self.form: Form[Sink] = Form()
        self._open_sink = files
        self._sinks = sinks
        self._shape = shape
        self._limits = limits
        self._name = ""
        self._file_name: str | None = None
        self._is_file = False
        self._size = 0
        self._head = b""
        self._sink: Sink | None = None
        self._unwritten = bytearray()

    async def take(self, event: MultipartSegment | bytes | None) -> None:
        """Process one event; raises FormError."""
        if isinstance(event, MultipartSegment):
            self._begin(event)
        elif event is not None:
            await self._append(event)
        elif self._is_file:
            sink = await anyio.to_thread.run_sync(self._write)
            self.form.files.append(FormFile(self._name, self._file_name, self._size, sink))
        else:
            value = _decode(bytes(self._unwritten), f"the field {self._name!r}")
            self.form.fields.append((self._name, value))

    def _begin(self, segment: MultipartSegment) -> None:
        headers = [name for name, _ in segment.headerlist]
        if len(set(headers)) < len(headers):
            raise FormError("bad-request", "a part of the form repeats a header")
        if not segment.name:
            raise FormError("bad-request", "a part of the form has no name")
        encoding = segment.header("Content-Transfer-Encoding", "binary")
        if encoding.strip().lower() not in _UNENCODED:
            raise FormError(
                "bad-request", "a part of the form has a transfer encoding, which is not supported"
            )
        name = _decode(segment.name.encode("latin-1"), "a name in the form")
        shape, limits, form = self._shape, self._limits, self.form
        self._is_file = name in shape.files
        if self._is_file:
            if len(form.files) >= limits.files:
                raise _too_large("the form", limits.files, "files")
        elif name not in shape.single and name not in shape.many:
            shown = name[:100]
            raise FormError("validation", f"the form has no field {shown!r}", field=shown)
        elif name in shape.single and form.value(name) is not None:
            raise FormError("validation", f"the field {name!r} was sent twice", field=name)
        elif len(form.fields) >= limits.fields:
            raise _too_large("the form", limits.fields, "fields")
        self._name = name
        self._file_name = _display_name(segment.header("Content-Disposition", ""))
        self._size, self._head, self._sink = 0, b"", None
        self._unwritten.clear()

    async def _append(self, data: bytes) -> None:
        limits = self._limits
        self._size += len(data)
        if self._is_file:
            self._head += data[: SNIFF_BYTES - len(self._head)]
            limit, what = limits.file_bytes, "a file"
            if limits.video_bytes is not None and sniff_video(self._head) is not None:
                limit, what = limits.video_bytes, "a video"
            if self._size > limit:
                raise _too_large(what, limit, "bytes")
        elif self._size > limits.field_bytes:
            raise _too_large(f"the field {self._name!r}", limits.field_bytes, "bytes")
        self._unwritten += data
        if self._is_file and len(self._unwritten) >= _BATCH_BYTES:
            await anyio.to_thread.run_sync(self._write)

    def _write(self) -> Sink:
        """Write the collected bytes; opens the sink first if necessary. Runs in a thread."""
        if self._sink is None:
            self._sink = self._sinks.enter_context(self._open_sink())
        self._sink.write(bytes(self._unwritten))
        self._unwritten.clear()
        return self._sink


def _boundary(content_type: str | None, content_encoding: str | None) -> bytes:
    media_type, options = parse_options_header(content_type or "")
    if media_type != "multipart/form-data":
        raise FormError("unsupported-media", "the body must be multipart/form-data")
    if (content_encoding or "identity").strip().lower() != "identity":
        raise FormError("unsupported-media", "the body must not be compressed")
    boundary: bytes = options.get("boundary", "").encode("latin-1")
    if not 0 < len(boundary) <= _MAX_BOUNDARY_BYTES:
        raise FormError("bad-request", "the content type has no usable boundary")
    return boundary


def _decode(data: bytes, what: str) -> str:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormError("bad-request", f"{what} is not UTF-8") from error
    if "\0" in text:
        raise FormError("bad-request", f"{what} contains a NUL character")
    return text


def _display_name(disposition: str) -> str | None:
    """The last component of a client's file name without control characters; None if empty.

    A backslash is a letter in names on most systems. It separates folders only in a path of
    Windows, which begins with a drive, a share or `..`.
    """
    _, options = parse_options_header(disposition, unquote=_unquoted_name)
    sent = options.get("filename")
    if sent is None:
        return None
    last = sent.encode("latin-1").decode("utf-8", "replace").rpartition("/")[2]
    if _WINDOWS_PATH.match(last):
        last = last.rpartition("\\")[2]
    printable = "".join(
        character
        for character in last
        if unicodedata.category(character) not in _UNPRINTABLE_CATEGORIES
        and character not in _BIDI_CONTROLS
    )
    name = printable.strip()[:_MAX_NAME_CHARACTERS]
    return None if name in {"", ".", ".."} else name


def _unquoted_name(value: str, _is_file_name: bool = False) -> str:
    """A name as it was before it was quoted: browsers and clients do so in different ways."""
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = value[1:-1]
    if '\\"' in value:
        # As in other headers.
        return re.sub(r'\\(["\\])', r"\1", value)
    # As browsers do. Python's clients also double each backslash.
    for letter, escaped in (("\r", "%0D"), ("\n", "%0A"), ('"', "%22")):
        value = value.replace(escaped, letter)
    if all(len(run) % 2 == 0 for run in re.findall(r"\\+", value)):
        value = value.replace("\\\\", "\\")
    return value


def _too_large(what: str, limit: int, unit: str) -> FormError:
    return FormError("too-large", f"{what} has more than {limit:,} {unit}")
