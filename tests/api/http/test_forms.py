from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import threading
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.requests import Request

from regard.api.http.forms import (
    Form,
    FormError,
    FormLimits,
    FormShape,
    MemoryFile,
    in_memory,
    read_form,
)
from regard.storage.files.originals import Originals

BOUNDARY = b"--------------------------abc123"
CONTENT_TYPE = "multipart/form-data; boundary=" + BOUNDARY.decode()
SHAPE = FormShape(
    files=frozenset({"file"}), single=frozenset({"title", "custom"}), many=frozenset({"tag"})
)
LIMITS = FormLimits(file_bytes=1000, files=3, fields=4, field_bytes=100, header_bytes=300)
ROOMY = FormLimits(file_bytes=50 << 20, files=20)

Seen = tuple[list[tuple[str, str | None, int, bytes]], list[tuple[str, str]]]


def part(name: str, data: bytes, *more: str, file_name: str | None = None) -> bytes:
    disposition = f'form-data; name="{name}"'
    if file_name is not None:
        disposition += f'; filename="{file_name}"'
    lines = [f"Content-Disposition: {disposition}", *more, "", ""]
    return "\r\n".join(lines).encode() + data


def body_of(*parts: bytes) -> bytes:
    opened = b"".join(b"--" + BOUNDARY + b"\r\n" + one + b"\r\n" for one in parts)
    return opened + b"--" + BOUNDARY + b"--\r\n"


def request_of(
    chunks: Iterable[bytes],
    content_type: str | None = CONTENT_TYPE,
    *,
    ends: bool = True,
    **headers: str,
) -> Request:
    """A request whose body comes in these chunks; without an end the client goes away."""
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks
    ]
    messages.append({"type": "http.request" if ends else "http.disconnect"})

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if content_type is not None:
        named["content-type"] = content_type
    raw = [(name.encode(), value.encode("latin-1")) for name, value in named.items()]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": raw}, receive)


def read(
    chunks: Iterable[bytes],
    content_type: str | None = CONTENT_TYPE,
    *,
    shape: FormShape = SHAPE,
    limits: FormLimits = LIMITS,
    **options: Any,
) -> Seen:
    """What a form brings, its files in memory."""

    async def taken() -> Seen:
        request = request_of(chunks, content_type, **options)
        async with read_form(request, files=in_memory, shape=shape, limits=limits) as form:
            return seen(form)

    return asyncio.run(taken())


def seen(form: Form[MemoryFile]) -> Seen:
    files = [(file.name, file.file_name, file.size, file.sink.read()) for file in form.files]
    return files, form.fields


def refused(
    chunks: Iterable[bytes], content_type: str | None = CONTENT_TYPE, **options: Any
) -> tuple[int, str]:
    with pytest.raises(FormError) as raised:
        read(chunks, content_type, **options)
    error = raised.value
    assert error.detail == error.document["detail"]
    assert error.headers == {"Connection": "close"}
    return error.status, error.name


WHOLE = body_of(
    part("title", "Grüße".encode()),
    part("file", b"first\r\n--not the end", "Content-Type: image/jpeg", file_name="a.jpg"),
    part("tag", b"sea"),
    part("file", b"", "Content-Type: image/png", file_name="empty.png"),
    part("tag", b""),
    part("file", b"\r\n--" + BOUNDARY[:-1] + b"\r\n", file_name="b.jpg"),
)
WHOLE_SEEN: Seen = (
    [
        ("file", "a.jpg", 21, b"first\r\n--not the end"),
        ("file", "empty.png", 0, b""),
        ("file", "b.jpg", 37, b"\r\n--" + BOUNDARY[:-1] + b"\r\n"),
    ],
    [("title", "Grüße"), ("tag", "sea"), ("tag", "")],
)


def test_files_and_fields_keep_their_order() -> None:
    assert read([WHOLE])[1] == WHOLE_SEEN[1]
    files = read([WHOLE])[0]
    assert [file[:2] + file[3:] for file in files] == [
        file[:2] + file[3:] for file in WHOLE_SEEN[0]
    ]
    assert all(size == len(data) for _, _, size, data in files)


def test_every_split_into_chunks_gives_the_same_form() -> None:
    expected = read([WHOLE])
    for place in range(1, len(WHOLE)):
        assert read([WHOLE[:place], WHOLE[place:]]) == expected
    assert read(WHOLE[i : i + 1] for i in range(len(WHOLE))) == expected
    assert read([b"", WHOLE, b""]) == expected


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_form_in_any_chunks_is_read(data: st.DataObject) -> None:
    piece = st.sampled_from([b"\r", b"\n", b"-", b"--", BOUNDARY, BOUNDARY[:5], b"x", b"\0\xff"])
    content = st.lists(piece, max_size=12).map(b"".join)
    sent = data.draw(st.lists(st.tuples(st.booleans(), content), max_size=6))
    # No sender lets its boundary start a line of a part.
    delimiter = b"\r\n--" + BOUNDARY
    sent = [(is_file, one) for is_file, one in sent if delimiter not in b"\r\n" + one]
    parts, files, fields = [], [], []
    for number, (is_file, one) in enumerate(sent):
        if is_file:
            parts.append(part("file", one, file_name=f"{number}.jpg"))
            files.append(("file", f"{number}.jpg", len(one), one))
        else:
            text = one.replace(b"\0\xff", b"")
            parts.append(part("tag", text))
            fields.append(("tag", text.decode()))
    body = body_of(*parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=8)))
    chunks = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    assert read(chunks, limits=ROOMY) == (files, fields)


def test_forms_of_httpx_are_read() -> None:
    sent = httpx.Request(
        "POST",
        "http://regard.test/",
        data={"title": "Grüße", "tag": ["a", "b"]},
        files=[("file", ("Straße 1.jpg", b"123", "image/jpeg")), ("file", ("2.png", b"4"))],
    )
    files, fields = read([sent.read()], sent.headers["content-type"])
    assert files == [("file", "Straße 1.jpg", 3, b"123"), ("file", "2.png", 1, b"4")]
    assert sorted(fields) == [("tag", "a"), ("tag", "b"), ("title", "Grüße")]


def test_field_name_decides_what_is_a_file() -> None:
    # Browsers send a Blob with a file name, and some clients send files without one.
    body = body_of(
        part("custom", b"{}", "Content-Type: application/json", file_name="blob"),
        part("file", b"bytes"),
    )
    assert read([body]) == ([("file", None, 5, b"bytes")], [("custom", "{}")])


def test_form_values_by_name() -> None:
    form: Form[MemoryFile] = Form(fields=[("tag", "a"), ("title", "t"), ("tag", "b")])
    assert (form.value("title"), form.value("custom")) == ("t", None)
    assert (form.values("tag"), form.values("custom")) == (["a", "b"], [])


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("photo.jpg", "photo.jpg"),
        ("../../etc/passwd", "passwd"),
        ("/abs/photo.jpg", "photo.jpg"),
        ("C:\\Users\\me\\photo.jpg", "photo.jpg"),
        ("..\\..\\photo.jpg", "photo.jpg"),
        (".\\photo.jpg", "photo.jpg"),
        ("c:\\fakepath\\photo.jpg", "photo.jpg"),
        ("C:\\\\dir\\\\photo.jpg", "photo.jpg"),
        ("\\\\server\\share\\photo.jpg", "photo.jpg"),
        # On other systems a backslash is a letter; some clients double it.
        ("back\\slash.jpg", "back\\slash.jpg"),
        ("back\\\\slash.jpg", "back\\slash.jpg"),
        ("\\\\first.jpg", "\\first.jpg"),
        ("folder/back\\slash.jpg", "back\\slash.jpg"),
        ("three\\\\\\.jpg", "three\\\\\\.jpg"),
        ('back\\\\slash and \\"quote\\".jpg', 'back\\slash and "quote".jpg'),
        ("per%22cent.jpg", 'per"cent.jpg'),
        ("..", None),
        (".", None),
        ("folder/", None),
        ("", None),
        ("  ", None),
        ("a\x00b\x1b[31m\x7f\x85.jpg", "ab[31m.jpg"),
        ("gpj.\u202egnp.exe", "gpj.gnp.exe"),
        ("l\u2028ine\u2029.jpg", "line.jpg"),
        ('quo\\"te.jpg', 'quo"te.jpg'),
        ("семья 👨‍👩‍👧.jpg", "семья 👨‍👩‍👧.jpg"),
        ("x" * 250 + ".jpg" * 5, "x" * 250 + ".jpg."),
    ],
)
def test_file_name_is_the_printable_last_component(sent: str, kept: str | None) -> None:
    (file,), _ = read([body_of(part("file", b"1", file_name=sent))], limits=ROOMY)
    assert file[1] == kept


def test_extended_and_latin1_file_names_are_read() -> None:
    plain = b'Content-Disposition: form-data; name="file"; filename="a.jpg"'
    extended = plain + b"; filename*=UTF-8''..%2F..%2Fevil.jpg; filename*0=x\r\n\r\n1"
    latin = plain.replace(b"a.jpg", b"caf\xe9.jpg") + b"\r\n\r\n1"
    files, _ = read([body_of(extended, latin)])
    assert [file[1] for file in files] == ["a.jpg", "caf\ufffd.jpg"]


@pytest.mark.parametrize(
    ("parts", "status", "name"),
    [
        ([part("file", b"x" * 1001)], 413, "too-large"),
        ([part("file", b"x")] * 4, 413, "too-large"),
        ([part("tag", b"x")] * 5, 413, "too-large"),
        ([part("tag", b"x" * 101)], 413, "too-large"),
        ([part("tag", b"x", "X-Long: " + "x" * 300)], 400, "bad-request"),
        ([part("tag", b"x", *[f"X-{n}: 1" for n in range(9)])], 400, "bad-request"),
        ([part("title", b"1"), part("title", b"2")], 422, "validation"),
        ([part("other", b"1")], 422, "validation"),
        ([part("other", b"1", file_name="a.jpg")], 422, "validation"),
        ([part("", b"1")], 400, "bad-request"),
        ([part("tag", b"\xff\xfe")], 400, "bad-request"),
        ([part("tag", b"a\0b")], 400, "bad-request"),
        ([part("file", b"MTIz", "Content-Transfer-Encoding: base64")], 400, "bad-request"),
        ([b"\r\nno headers"], 400, "bad-request"),
        ([b"Content-Type: image/png\r\n\r\n1"], 400, "bad-request"),
        ([b"Content-Disposition: form-data\r\n\r\n1"], 400, "bad-request"),
        ([b'Content-Disposition: attachment; name="tag"\r\n\r\n1'], 400, "bad-request"),
        ([b'Content-Disposition: form-data; name="\xff"\r\n\r\n1'], 400, "bad-request"),
        ([part("tag", b"1", 'Content-Disposition: form-data; name="file"')], 400, "bad-request"),
        ([b"Bad Header: 1\r\n\r\n1"], 400, "bad-request"),
        ([b"no colon\r\n\r\n1"], 400, "bad-request"),
    ],
)
def test_invalid_parts_are_refused(parts: list[bytes], status: int, name: str) -> None:
    body = body_of(*parts)
    assert refused([body]) == (status, name)
    assert refused(body[i : i + 1] for i in range(len(body))) == (status, name)


def test_forms_at_their_limits_are_accepted() -> None:
    files, fields = read(
        [body_of(*[part("file", b"x" * 1000)] * 3, *[part("tag", b"x" * 100)] * 4)]
    )
    assert (len(files), len(fields)) == (3, 4)
    body = body_of(part("file", b"x"))
    limits = FormLimits(file_bytes=10, files=1, total_bytes=len(body))
    assert read([body], limits=limits)[0]
    assert refused([body, b"\r\n"], limits=limits) == (413, "too-large")


def test_limits_hold_before_the_body_ends() -> None:
    start = b"--" + BOUNDARY + b"\r\n" + part("file", b"")
    came = 0

    def endless() -> Iterable[bytes]:
        nonlocal came
        yield start
        for _ in range(1000):
            came += 100
            yield b"x" * 100

    async def receive_lazily() -> tuple[int, str]:
        chunks = iter(endless())

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": next(chunks), "more_body": True}

        request = Request(request_of([]).scope, receive)
        with pytest.raises(FormError) as raised:
            async with read_form(request, files=in_memory, shape=SHAPE, limits=LIMITS):
                pass
        return raised.value.status, raised.value.name

    assert asyncio.run(receive_lazily()) == (413, "too-large")
    assert came == 1100


def test_videos_have_a_limit_of_their_own() -> None:
    limits = FormLimits(file_bytes=1000, files=3, video_bytes=2000)

    def form(head: bytes, size: int) -> bytes:
        return body_of(part("file", head.ljust(size, b"\0"), file_name="any"))

    matroska = b"\x1aE\xdf\xa3"
    (file,), _ = read([form(matroska, 2000)], limits=limits)
    assert file[2] == 2000
    for head, size in ((matroska, 2001), (b"\x89PNG", 1001), (b"", 1001)):
        body = form(head, size)
        for chunks in ([body], [body[i : i + 7] for i in range(0, len(body), 7)]):
            assert refused(chunks, limits=limits) == (413, "too-large")
    # A body may have one that large.
    assert limits.body_bytes - FormLimits(file_bytes=1000, files=3).body_bytes == 1000


@pytest.mark.parametrize("length", ["999999999", "9" * 5000])
def test_declared_length_above_the_limit_is_refused_unread(length: str) -> None:
    limits = FormLimits(file_bytes=1000, files=1, total_bytes=2000)
    assert refused([], limits=limits, content_length=length) == (413, "too-large")


@pytest.mark.parametrize("length", ["-1", "x", "", "²"])
def test_invalid_declared_length_is_ignored(length: str) -> None:
    assert read([body_of(part("tag", b"1"))], content_length=length)[1] == [("tag", "1")]


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        (None, (415, "unsupported-media")),
        ("", (415, "unsupported-media")),
        ("application/json", (415, "unsupported-media")),
        ("image/jpeg", (415, "unsupported-media")),
        ("multipart/mixed; boundary=x", (415, "unsupported-media")),
        ("multipart/form-data", (400, "bad-request")),
        ("multipart/form-data; boundary=", (400, "bad-request")),
        ('multipart/form-data; boundary=""', (400, "bad-request")),
        ("multipart/form-data; boundary=" + "x" * 201, (400, "bad-request")),
        ("multipart/form-data; boundary=another", (400, "bad-request")),
    ],
)
def test_other_content_types_are_refused(
    content_type: str | None, expected: tuple[int, str]
) -> None:
    assert refused([WHOLE], content_type) == expected


def test_compressed_bodies_are_refused() -> None:
    assert refused([WHOLE], content_encoding="gzip") == (415, "unsupported-media")
    assert read([WHOLE], content_encoding="identity") == read([WHOLE])


def test_truncated_bodies_are_refused() -> None:
    # The last line's end is not needed.
    for end in (*range(0, len(WHOLE) - 40, 3), *range(len(WHOLE) - 40, len(WHOLE) - 2)):
        assert refused([WHOLE[:end]]) == (400, "bad-request")
    for end in (0, 100, len(WHOLE) - 3):
        assert refused([WHOLE[:end]], ends=False) == (400, "bad-request")


def test_empty_form_is_valid() -> None:
    assert read([b"--" + BOUNDARY + b"--\r\n"]) == ([], [])


@pytest.fixture
def originals(tmp_path: Path) -> Originals:
    return Originals(tmp_path / "originals")


def left(tmp_path: Path) -> list[str]:
    """What lies in the store, by name."""
    return sorted(path.name for path in tmp_path.rglob("*") if path.is_file())


async def upload(originals: Originals, request: Request, limits: FormLimits = ROOMY) -> list[str]:
    files = originals.incoming
    async with read_form(request, files=files, shape=SHAPE, limits=limits) as form:
        return [(await anyio.to_thread.run_sync(file.sink.keep)).sha256 for file in form.files]


def test_uploads_are_stored(originals: Originals, tmp_path: Path) -> None:
    luck = random.Random(1)
    photos = [luck.randbytes(size) for size in (3_000_000, 0, 1, 70_000)]
    body = body_of(*[part("file", photo) for photo in photos])
    chunks = [body[start : start + 65_536] for start in range(0, len(body), 65_536)]
    hashes = [hashlib.sha256(photo).hexdigest() for photo in photos]
    assert asyncio.run(upload(originals, request_of(chunks))) == hashes
    assert left(tmp_path) == sorted(hashes)


def test_failed_uploads_leave_no_files(originals: Originals, tmp_path: Path) -> None:
    body = body_of(part("file", b"x" * 3_000_000), part("file", b"y" * 3_000_000))
    chunks = [body[start : start + 65_536] for start in range(0, len(body), 65_536)]
    failing = [
        (request_of(chunks[:-5], ends=False), ROOMY),
        (request_of(chunks[:-5]), ROOMY),
        (request_of([*chunks[:60], b"\r\n--" + BOUNDARY + b"\r\nbad header"]), ROOMY),
        (request_of(chunks), FormLimits(file_bytes=50 << 20, files=1)),
        (request_of(chunks), FormLimits(file_bytes=2_999_999, files=9)),
    ]
    for request, limits in failing:
        with pytest.raises(FormError):
            asyncio.run(upload(originals, request, limits))
        assert left(tmp_path) == []


def test_cancelled_uploads_leave_no_files(originals: Originals, tmp_path: Path) -> None:
    start = b"--" + BOUNDARY + b"\r\n" + part("file", b"x" * 2_000_000)

    async def cancelled() -> None:
        waiting = False

        async def receive() -> dict[str, Any]:
            nonlocal waiting
            if not waiting:
                waiting = True
                return {"type": "http.request", "body": start, "more_body": True}
            await anyio.sleep(60)
            raise AssertionError

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(upload, originals, Request(request_of([]).scope, receive))
            while not left(tmp_path):
                await anyio.sleep(0.005)
            tasks.cancel_scope.cancel()

    asyncio.run(cancelled())
    assert left(tmp_path) == []


def test_files_not_kept_are_deleted(originals: Originals, tmp_path: Path) -> None:
    async def handle() -> None:
        request = request_of([body_of(part("file", b"1"), part("file", b"2"))])
        async with read_form(request, files=originals.incoming, shape=SHAPE, limits=ROOMY) as form:
            with form.files[1].sink.open() as opened:
                assert opened.read() == b"2"
            form.files[1].sink.keep()
            raise KeyError

    with pytest.raises(KeyError):
        asyncio.run(handle())
    assert left(tmp_path) == [hashlib.sha256(b"2").hexdigest()]


class SlowSink:
    """Blocks while it writes, and knows where it was called from."""

    def __init__(self) -> None:
        self.threads: set[int] = set()
        self.free = threading.Event()

    def write(self, chunk: bytes) -> None:
        self.threads.add(threading.get_ident())
        assert self.free.wait(120)


def test_writing_does_not_block_the_event_loop() -> None:
    async def taken() -> bool:
        sink = SlowSink()

        def files() -> AbstractContextManager[SlowSink]:
            sink.threads.add(threading.get_ident())
            return contextlib.nullcontext(sink)

        async def go_on() -> None:
            while not sink.threads:
                await asyncio.sleep(0.005)
            sink.free.set()

        request = request_of([body_of(part("file", b"1"))])
        going_on = asyncio.create_task(go_on())
        async with read_form(request, files=files, shape=SHAPE, limits=LIMITS):
            await going_on
        return threading.get_ident() in sink.threads

    assert not asyncio.run(taken())


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_any_bytes_give_a_form_or_a_form_error(
    originals: Originals, tmp_path: Path, data: st.DataObject
) -> None:
    pieces = [
        *(b"--" + BOUNDARY, b"--" + BOUNDARY + b"\r\n", b"--" + BOUNDARY + b"--", b"\r\n", b"\r"),
        *(b"\n", b"\r\n\r\n", b":", b";", b"=", b'"', b"\\", b" ", b"\0", b"\xff", b"-", b"x"),
        *(b"Content-Disposition: form-data", b'; name="file"', b'; name="tag"', b"; filename=a"),
        *(b'Content-Disposition: form-data; name="file"\r\n\r\n', part("tag", b"1\r\n")),
        *(b"Content-Transfer-Encoding: base64\r\n", b"; filename*=utf-8''x", b"x" * 400),
    ]
    made = st.lists(st.sampled_from(pieces) | st.binary(max_size=8), max_size=15).map(b"".join)
    damaged = st.tuples(st.integers(0, len(WHOLE)), st.binary(max_size=4)).map(
        lambda change: WHOLE[: change[0]] + change[1] + WHOLE[change[0] + len(change[1]) :]
    )
    body = data.draw(made | damaged)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=4)))
    chunks = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]

    def outcome(chunks: list[bytes]) -> list[str] | int:
        async def taken() -> list[str]:
            request = request_of(chunks)
            async with read_form(
                request, files=originals.incoming, shape=SHAPE, limits=LIMITS
            ) as form:
                return [file.sink.sha256 for file in form.files]

        try:
            return asyncio.run(taken())
        except FormError as error:
            return error.status

    assert outcome(chunks) == outcome([body])
    assert left(tmp_path) == []
