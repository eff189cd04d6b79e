"""docker-compose.yml and the Dockerfile: checked by schema and linter, and for what they
promise."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from regard.models.profiles import registry

REPOSITORY = Path(__file__).resolve().parents[2]
COMPOSE = REPOSITORY / "docker-compose.yml"
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text()
DOCUMENT = yaml.safe_load(COMPOSE.read_text())
SERVICES: dict[str, dict[str, Any]] = DOCUMENT["services"]
REGARD = ("regard", "regard-gpu")
SETTINGS = {
    *("REGARD_HOME", "REGARD_DATABASE_URL", "REGARD_DATABASE_PASSWORD_FILE"),
    "REGARD_VECTORS",
    registry.FOLDER_VARIABLE,
    "FORWARDED_ALLOW_IPS",  # uvicorn's own
}


def run_tool(*command: object, text: str | None = None) -> subprocess.CompletedProcess[str]:
    words = [str(word) for word in command]
    return subprocess.run(words, input=text, capture_output=True, text=True, check=False)


def test_compose_file_fits_schema(tmp_path: Path) -> None:
    check = (sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec")
    checked = run_tool(*check, COMPOSE)
    assert checked.returncode == 0, checked.stdout
    misspelt = tmp_path / "docker-compose.yml"
    misspelt.write_text(COMPOSE.read_text().replace("read_only: true", "readonly: true"))
    assert run_tool(*check, misspelt).returncode != 0


def test_dockerfile_passes_hadolint() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    linted = run_tool(hadolint, "-", text=DOCKERFILE)
    assert linted.returncode == 0, linted.stdout
    assert run_tool(hadolint, "-", text=DOCKERFILE.replace("CMD [", "CMD [[")).returncode != 0


def test_one_profile_starts_one_service_and_both_differ_only_in_hardware() -> None:
    profiles = {name: service.get("profiles") for name, service in SERVICES.items()}
    others = {name: profile for name, profile in profiles.items() if profile != ["cluster"]}
    assert others == {"regard": ["cpu"], "regard-gpu": ["gpu"], "postgres": None}
    cpu, gpu = (SERVICES[name] for name in REGARD)
    differing = {key for key in cpu | gpu if cpu.get(key) != gpu.get(key)}
    assert differing == {"profiles", "image", "build", "deploy"}
    (device,) = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert {"gpu", "compute", "utility"} <= set(device["capabilities"])


@pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)
def test_services_run_unprivileged_on_a_read_only_root(service: dict[str, Any]) -> None:
    assert all(int(number) > 0 for number in service["user"].split(":"))
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all("size=" in mount for mount in service["tmpfs"])
    assert not {"privileged", "pid", "ipc", "userns_mode", "devices"} & set(service)
    assert service.get("network_mode", "none") == "none"
    # Caddy's image does not start without it.
    is_proxy = service.get("image", "").startswith("caddy:")
    assert service.get("cap_add", []) == (["NET_BIND_SERVICE"] if is_proxy else [])
    is_done_once = service.get("healthcheck") == {"disable": True}
    assert service["restart"] in ({"no", "on-failure"} if is_done_once else {"unless-stopped"})


def test_secrets_come_only_from_files() -> None:
    secrets = DOCUMENT["secrets"]
    assert secrets == {name: {"file": f"./secrets/{name}"} for name in secrets}
    for service in SERVICES.values():
        named = {f"/run/secrets/{name}" for name in service.get("secrets", [])}
        values = service.get("environment", {})
        for variable, value in values.items():
            if re.search("PASSWORD|SECRET|TOKEN|KEY|CREDENTIAL", variable):
                assert re.search("_(FILE|PATH)$", variable), variable
                assert value in named
        assert named <= {*values.values()}
    used = {name for service in SERVICES.values() for name in service.get("secrets", [])}
    assert used == {*secrets}
    assert not re.search(r"//[^/@\s]*:[^/@\s]*@", COMPOSE.read_text())  # user:password@host
    assert "/secrets/" in (REPOSITORY / ".gitignore").read_text().splitlines()
    named = re.findall(r"^(?:ARG|ENV) +(\w+)", DOCKERFILE, re.MULTILINE)
    assert not [name for name in named if re.search("PASS|SECRET|TOKEN|KEY|CREDENTIAL", name)]


def test_only_regard_is_published_and_only_on_the_loopback_address() -> None:
    for name in REGARD:
        assert SERVICES[name]["ports"] == ["${REGARD_LISTEN:-127.0.0.1:8420}:8420"]
        assert SERVICES[name]["networks"] == ["outside", "database"]
    assert "ports" not in SERVICES["postgres"]
    assert SERVICES["postgres"]["networks"] == ["database"]
    assert DOCUMENT["networks"]["database"] == {"internal": True}


def test_photographs_are_mounted_read_only_and_data_lies_in_volumes() -> None:
    data, photographs = SERVICES["regard"]["volumes"]
    assert data == "data:/data"
    assert photographs["source"] == "${PHOTOS:-./pictures}"
    assert photographs["read_only"] is True
    assert photographs["bind"] == {"create_host_path": False}
    assert f"--root=photos={photographs['target']}" in SERVICES["regard"]["command"]
    named = {
        volume
        for service in SERVICES.values()
        for volume in service.get("volumes", [])
        if isinstance(volume, str)
    }
    assert {volume.partition(":")[0] for volume in named} == set(DOCUMENT["volumes"])


def test_regard_waits_for_the_database_it_is_given() -> None:
    regard, postgres = SERVICES["regard"], SERVICES["postgres"]
    assert regard["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert "--host=127.0.0.1" in postgres["healthcheck"]["test"]
    database = postgres["environment"]
    url = f"postgresql://{database['POSTGRES_USER']}@postgres/{database['POSTGRES_DB']}"
    assert regard["environment"]["REGARD_DATABASE_URL"] == url
    assert set(regard["environment"]) <= SETTINGS
    # From 18 on the image refuses a volume at /var/lib/postgresql/data.
    assert int(postgres["image"].removeprefix("pgvector/pgvector:pg")) >= 18
    assert postgres["volumes"] == ["database:/var/lib/postgresql"]


def test_vectors_are_in_files_unless_another_engine_is_chosen() -> None:
    for name in REGARD:
        assert SERVICES[name]["environment"]["REGARD_VECTORS"] == "${REGARD_VECTORS:-faiss}"
    # The default image has the extras of both; see the Dockerfile.
    assert SERVICES["postgres"]["image"].startswith("pgvector/")


def test_commands_are_known_to_regard() -> None:
    image_command = re.findall(r'"([^"]+)"', DOCKERFILE.rpartition("\nCMD ")[2])
    for command, *options in (SERVICES["regard"]["command"], image_command):
        shown = run_tool(sys.executable, "-m", "regard.api.cli", command, "--help")
        for option in options:
            if option.startswith("--"):
                assert f"{option.split('=')[0]} " in shown.stdout, option
    assert "--host=0.0.0.0" in SERVICES["regard"]["command"]


def test_variables_have_defaults_and_are_documented() -> None:
    documented = (REPOSITORY / "docs" / "deployment.md").read_text()
    for name, default in re.findall(r"\$\{(\w+)(:-)?", COMPOSE.read_text()):
        assert default, name
        assert f"`{name}`" in documented, name


def test_image_is_sent_every_package_and_no_more() -> None:
    ignored = (REPOSITORY / ".dockerignore").read_text().splitlines()
    tool = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]
    top_level = {folder.split("/")[0] for folder in tool["package-dir"].values()}
    files = {"pyproject.toml", "constraints.txt", "README.md", "LICENSE"}
    assert ignored[1] == "*"
    assert {line[1:] for line in ignored if line.startswith("!")} == top_level | files


def test_image_user_is_numbered_and_health_check_asks_the_served_port() -> None:
    (number,) = re.findall(r"^USER (\d+):\1$", DOCKERFILE, re.MULTILINE)
    assert int(number) > 0
    assert f"--uid {number} --gid {number}" in DOCKERFILE
    assert SERVICES["regard"]["user"] == f"{number}:{number}"
    assert "'127.0.0.1', 8420," in DOCKERFILE
    assert "'/readyz'" in DOCKERFILE
    (minor,) = re.findall(r"^ARG PYTHON_IMAGE=python:3\.(\d+)-slim", DOCKERFILE, re.MULTILINE)
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert int(minor) >= int(project["requires-python"].removeprefix(">=3."))
