"""Forms with files (multipart/form-data), taken in as they arrive.

Files go chunk by chunk into sinks that the caller opens, so memory stays small whatever is sent;
everything that touches a sink runs in a thread. Whatever the bytes, the outcome is a `Form` or a
FormError, and all sinks are closed when the block ends.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import anyio
import anyio.to_thread
from starlette.requests import ClientDisconnect, Request

from regard.api.http.form_parts import (
    Event,
    FormError,
    FormLimits,
    FormParts,
    FormShape,
    Part,
    boundary_of,
    too_large,
)

# A thread's turn costs as much as writing some 100 kB does.
_BATCH_BYTES = 1 << 20


class FileSink(Protocol):
    """Where the bytes of one file go."""

    def write(self, chunk: bytes) -> None:
        """Take the next bytes; runs in a thread and may block."""


Sink = TypeVar("Sink", bound=FileSink)


@dataclass(frozen=True, slots=True)
class FormFile(Generic[Sink]):
    """A file that came whole; `file_name` is for people, None where there is no usable one."""

    name: str
    file_name: str | None
    size: int
    sink: Sink


@dataclass(frozen=True, slots=True)
class Form(Generic[Sink]):
    """The files and fields of a form, each in the order in which they came."""

    files: list[FormFile[Sink]] = field(default_factory=list)
    fields: list[tuple[str, str]] = field(default_factory=list)

    def value(self, name: str) -> str | None:
        """The value of a field, None when it did not come."""
        return next((value for key, value in self.fields if key == name), None)

    def values(self, name: str) -> list[str]:
        """All values of a field."""
        return [value for key, value in self.fields if key == name]


class MemoryFile:
    """A sink that holds a file in memory."""

    def __init__(self) -> None:
        self._data = bytearray()

    def write(self, chunk: bytes) -> None:
        """Append bytes."""
        self._data += chunk

    def read(self) -> bytes:
        """All bytes written so far."""
        return bytes(self._data)


def in_memory() -> AbstractContextManager[MemoryFile]:
    """A sink for files that are small by the form's limits: `read_form(…, files=in_memory)`."""
    return contextlib.nullcontext(MemoryFile())


@contextlib.asynccontextmanager
async def read_form(
    request: Request,
    *,
    files: Callable[[], AbstractContextManager[Sink]],
    shape: FormShape,
    limits: FormLimits,
) -> AsyncIterator[Form[Sink]]:
    """Take in the form of a request; `files` opens a sink for each file that begins.

    The sinks stay open until the block ends: keep what is to be kept inside it. Raises FormError, and
    what the sinks raise.
    """
    form: Form[Sink] = Form()
    sinks = ExitStack()
    try:
        await _take_in(request, form, files, sinks, shape, limits)
        yield form
    finally:
        # Files are removed here, also when the client is gone and the task is cancelled.
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(sinks.close)


async def _take_in(
    request: Request,
    form: Form[Sink],
    files: Callable[[], AbstractContextManager[Sink]],
    sinks: ExitStack,
    shape: FormShape,
    limits: FormLimits,
) -> None:
    headers = request.headers
    boundary = boundary_of(headers.get("content-type"), headers.get("content-encoding"))
    declared = headers.get("content-length", "")
    # Python reads no numbers of thousands of digits.
    if declared.isdecimal() and (len(declared) > 18 or int(declared) > limits.body_bytes):
        raise too_large("the body", limits.body_bytes, "bytes")
    parts = FormParts(boundary, form.fields, shape, limits)
    writer = _Writer(form.files, files, sinks)
    received = 0
    try:
        async for chunk in request.stream():
            received += len(chunk)
            if received > limits.body_bytes:
                raise too_large("the body", limits.body_bytes, "bytes")
            await writer.take(parts.read(chunk))
    except ClientDisconnect as error:
        raise FormError("bad-request", "the client went away before the body ended") from error
    if not parts.complete:
        raise FormError("bad-request", "the body ends before the form does")


class _Writer(Generic[Sink]):
    """Brings the bytes of files into their sinks, many chunks at a time."""

    def __init__(
        self,
        done: list[FormFile[Sink]],
        files: Callable[[], AbstractContextManager[Sink]],
        sinks: ExitStack,
    ) -> None:
        self._done = done
        self._files = files
        self._sinks = sinks
        self._part: Part | None = None
        self._sink: Sink | None = None
        self._waiting = bytearray()

    async def take(self, events: Iterable[Event]) -> None:
        """Do what the events say; bytes may wait for more of them."""
        for event in events:
            if isinstance(event, Part):
                self._part, self._sink = event, None
            elif event is None:
                await self._end()
            else:
                self._waiting += event
                if len(self._waiting) >= _BATCH_BYTES:
                    await anyio.to_thread.run_sync(self._write)

    async def _end(self) -> None:
        sink = await anyio.to_thread.run_sync(self._write)
        part = self._part
        assert part is not None
        self._done.append(FormFile(part.name, part.file_name, part.size, sink))

    def _write(self) -> Sink:
        """Write what waits, in a thread; opens the sink when it is the first time."""
        if self._sink is None:
            self._sink = self._sinks.enter_context(self._files())
        self._sink.write(bytes(self._waiting))
        self._waiting.clear()
        return self._sink
