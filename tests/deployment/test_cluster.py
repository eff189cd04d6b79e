"""The Compose profile `cluster`: its parts fit each other and regard, and run without Docker where
they can."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from made_bucket import BUCKET, Bucket
from made_caddy import CADDY, CADDYFILE, free_ports
from made_library import write_photo
from test_deployment import DOCKERFILE, DOCUMENT, SERVICES, run_tool

from regard.api.library import settings

CLUSTER = {name: one for name, one in SERVICES.items() if one.get("profiles") == ["cluster"]}
SERVERS = ("server-1", "server-2")


def test_servers_are_those_of_a_single_machine_with_ray_and_homes_of_their_own() -> None:
    one, two = (CLUSTER[name] for name in SERVERS)
    assert {key for key in one if one[key] != two[key]} == {"volumes"}
    assert [volumes["volumes"][0] for volumes in (one, two)] == ["home-1:/data", "home-2:/data"]
    single = SERVICES["regard"]
    assert one["command"] == [*single["command"], "--drain=3", "--ray=ray://ray-head:10001"]
    assert one["volumes"][1] == single["volumes"][1]
    assert single["environment"].keys() <= one["environment"].keys()
    differing = {
        name: value
        for name, value in one["environment"].items()
        if name.startswith("REGARD_") and single["environment"].get(name) != value
    }
    assert differing == {
        "REGARD_STORE": f"s3://{BUCKET}/regard",
        "REGARD_VECTORS": "${REGARD_VECTORS:-milvus://milvus:19530}",
    }


def test_variables_are_known_to_what_reads_them() -> None:
    known = {value for name, value in vars(settings).items() if name.endswith("_VARIABLE")}
    others = {
        "FORWARDED_ALLOW_IPS",  # uvicorn's
        "TMPDIR",
        *("AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION", "AWS_SHARED_CREDENTIALS_FILE"),
        *("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH", "GRPC_ENABLE_FORK_SUPPORT"),
    }
    for name, service in CLUSTER.items():
        if service["image"] == "regard:cluster":
            assert set(service.get("environment", {})) <= known | others, name


def test_image_has_what_the_profile_needs() -> None:
    (arguments,) = {
        service["build"]["args"]["EXTRAS"]
        for service in CLUSTER.values()
        if service["image"] == "regard:cluster"
    }
    # Those of the bucket and the database are in every image.
    assert {*arguments.split(",")} == {"cpu", "milvus", "ray"}
    assert '"postgres", "s3"' in DOCKERFILE


def test_only_servers_reach_what_keeps_data() -> None:
    internal = {name for name, network in DOCUMENT["networks"].items() if network}
    assert internal == {"database", "vectors", "objects", "analysis"}
    for network, service in {"vectors": "milvus", "objects": "objects"}.items():
        among = {name for name, one in CLUSTER.items() if network in one.get("networks", [])}
        assert among - {"bucket"} == {service, *SERVERS}
    assert {name for name, one in CLUSTER.items() if "ports" in one} == {"proxy"}
    for name, one in CLUSTER.items():
        if name not in SERVERS:
            assert len(one.get("networks", [])) <= 1


def test_what_a_service_waits_for_has_a_health_check_or_ends() -> None:
    for name, service in SERVICES.items():
        for other, condition in service.get("depends_on", {}).items():
            check = SERVICES[other].get("healthcheck", {})
            is_done_once = condition["condition"] == "service_completed_successfully"
            assert is_done_once == bool(check.get("disable")), (name, other)


def test_bucket_is_created_once() -> None:
    service = CLUSTER["bucket"]
    assert service["entrypoint"] == ["python", "-c"]
    with Bucket() as bucket:
        environment = {**os.environ, **bucket.environ}
        for name in ("photos", "more-photos", "more-photos"):
            code = service["command"][0].replace(f'"{BUCKET}"', f'"{name}"')
            subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def test_proxy_configuration_is_valid() -> None:
    assert DOCUMENT["configs"] == {"proxy": {"file": "./deploy/Caddyfile"}}
    assert run_tool(CADDY, "fmt", CADDYFILE).stdout == CADDYFILE.read_text()
    validated = run_tool(CADDY, "validate", "--config", CADDYFILE, "--adapter", "caddyfile")
    assert validated.returncode == 0, validated.stderr
    served = {f"{name}:8420" for name in SERVERS}
    assert served == set(re.findall(r"server-\d:\d+", CADDYFILE.read_text()))


@contextmanager
def node_of_ray(name: str, replaced: dict[str, str], environment: dict[str, str]) -> Iterator[None]:
    """A node that runs the words of a service, some of them replaced."""
    words = [*CLUSTER[name]["entrypoint"], *CLUSTER[name]["command"]]
    line = " ".join(words)
    for old, new in replaced.items():
        line = line.replace(old, new)
    program, *rest = line.split()
    node = subprocess.Popen(
        [Path(sys.executable).with_name(program), *rest],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
        assert node.poll() is None
    finally:
        os.killpg(node.pid, 15)
        node.wait(120)


@pytest.mark.campaign
@pytest.mark.timeout(600)
def test_nodes_of_ray_analyse_and_ask_for_the_token(tmp_path: Path) -> None:
    port, client = free_ports(2)
    replaced = {
        "ray-head:6379": f"127.0.0.1:{port}",
        "--head": "--head --node-ip-address=127.0.0.1",
        "--port=6379": f"--port={port}",
        "port=10001": f"port={client}",
        "object-store-memory=536870912": "object-store-memory=100000000",
    }
    token = tmp_path / "token"
    token.write_text(secrets.token_hex(16))
    variables = CLUSTER["ray-head"]["environment"]
    environment = {**os.environ, **variables, "RAY_AUTH_TOKEN_PATH": str(token)}
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(6):
        write_photo(photos / f"{number}.png", number)
    regard = [sys.executable, "-m", "regard.api.cli", "index", photos, "--profile", "fake"]
    ray = ["--home", tmp_path / "home", "--json", "--ray", f"ray://127.0.0.1:{client}"]
    check = CLUSTER["ray-head"]["healthcheck"]["test"][1:]
    program, *rest = [word.replace("ray-head:6379", f"127.0.0.1:{port}") for word in check]
    with node_of_ray("ray-head", replaced, environment):
        deadline = time.monotonic() + 120
        while subprocess.run(
            [Path(sys.executable).with_name(program), *rest], env=environment, check=False
        ).returncode:
            assert time.monotonic() < deadline
            time.sleep(1)
        with node_of_ray("ray-worker", replaced, environment):
            wrong = tmp_path / "wrong"
            wrong.write_text(secrets.token_hex(16))
            refused = run_tool_with(
                [*regard, *ray], {**environment, "RAY_AUTH_TOKEN_PATH": str(wrong)}
            )
            assert refused.returncode == 3, refused.stderr
            indexed = run_tool_with([*regard, *ray], environment)
            assert indexed.returncode == 0, indexed.stderr
            assert '"indexed": 6' in indexed.stdout


def run_tool_with(
    words: list[object], environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in words], env=environment, capture_output=True, text=True, check=False
    )
