"""docker-compose.yml against Compose's schema, and each thing that it promises.

No Docker engine is needed, so none has read the file: what a schema can't see is looked at here.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from compose_file import ComposeFile, Service, read_compose, strings

from regard.core import settings
from regard.models.profiles import registry

REPOSITORY = Path(__file__).resolve().parents[2]
COMPOSE = REPOSITORY / "docker-compose.yml"
SERVICES = ("regard", "regard-gpu", "postgres")
FACES = ("regard", "regard-gpu")


@pytest.fixture(scope="module")
def compose() -> ComposeFile:
    return read_compose(COMPOSE)


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest, compose: ComposeFile) -> Service:
    return compose.services[request.param]


@pytest.fixture(params=FACES)
def face(request: pytest.FixtureRequest, compose: ComposeFile) -> Service:
    return compose.services[request.param]


def _schema_check(file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", file],
        capture_output=True,
        text=True,
        check=False,
    )


def test_composes_schema_accepts_it(tmp_path: Path) -> None:
    checked = _schema_check(COMPOSE)
    assert checked.returncode == 0, checked.stdout
    misspelt = tmp_path / "docker-compose.yml"
    misspelt.write_text(COMPOSE.read_text().replace("read_only: true", "readonly: true"))
    assert _schema_check(misspelt).returncode != 0


def test_there_are_three_services_and_a_profile_starts_one_of_regard(compose: ComposeFile) -> None:
    assert set(compose.services) == set(SERVICES)
    profiles = {name: service.get("profiles") for name, service in compose.services.items()}
    assert profiles == {"regard": ["cpu"], "regard-gpu": ["gpu"], "postgres": None}


def test_both_regards_are_alike_but_for_the_hardware(compose: ComposeFile) -> None:
    cpu, gpu = (compose.services[name] for name in FACES)
    differing = {name for name in cpu | gpu if cpu.get(name) != gpu.get(name)}
    assert differing == {"profiles", "image", "build", "deploy"}
    assert cpu["build"]["args"] == {"EXTRA": "cpu"}
    assert gpu["build"]["args"] == {"EXTRA": "gpu"}
    (device,) = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert device["driver"] == "nvidia"
    # `gpu` alone leaves which driver libraries are mounted to the toolkit.
    assert {"gpu", "compute", "utility"} <= set(device["capabilities"])
    assert "deploy" not in cpu


def test_nobody_is_root_and_nothing_can_be_gained(service: Service) -> None:
    user, _, group = service["user"].partition(":")
    assert int(user) > 0
    assert int(group) > 0
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert any(mount.split(":")[0] == "/tmp" for mount in service["tmpfs"])
    assert all("size=" in mount for mount in service["tmpfs"])
    opened = {"privileged", "cap_add", "network_mode", "pid", "ipc", "userns_mode", "devices"}
    assert not opened & set(service)


def test_postgres_may_write_where_it_has_to_with_a_read_only_root(compose: ComposeFile) -> None:
    postgres = compose.services["postgres"]
    (sockets,) = [mount for mount in postgres["tmpfs"] if mount.startswith("/var/run/postgresql:")]
    user, _, group = postgres["user"].partition(":")
    assert {f"uid={user}", f"gid={group}"} <= set(sockets.split(":")[1].split(","))
    # From 18 on the image refuses a volume at /var/lib/postgresql/data.
    assert int(postgres["image"].removeprefix("postgres:")) >= 18
    assert postgres["volumes"] == ["database:/var/lib/postgresql"]


def test_secrets_come_by_file_and_stand_nowhere_else(compose: ComposeFile) -> None:
    (name,) = compose.document["secrets"]
    place = f"/run/secrets/{name}"
    assert compose.document["secrets"][name] == {"file": f"./secrets/{name}"}
    for service in compose.services.values():
        assert service["secrets"] == [name]
        for variable, value in service["environment"].items():
            if re.search("PASSWORD|SECRET|TOKEN|KEY", variable):
                assert variable.endswith("_FILE"), variable
                assert value == place
    # user:password@ in a URL, or a password as an option.
    assert not [text for text in strings(compose.document) if re.search(r"//[^/@]*:[^/@]*@", text)]
    assert "/secrets/" in (REPOSITORY / ".gitignore").read_text().splitlines()


def test_regard_waits_for_a_database_that_answers(compose: ComposeFile, face: Service) -> None:
    assert face["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    test = compose.services["postgres"]["healthcheck"]["test"]
    assert test[:2] == ["CMD", "pg_isready"]
    assert "--host=127.0.0.1" in test
    database = compose.services["postgres"]["environment"]
    url = face["environment"]["REGARD_DATABASE_URL"]
    assert url == f"postgresql://{database['POSTGRES_USER']}@postgres/{database['POSTGRES_DB']}"


def test_regards_health_check_is_the_images(face: Service) -> None:
    assert "healthcheck" not in face
    assert "HEALTHCHECK" in (REPOSITORY / "Dockerfile").read_text()


def test_regard_reads_every_variable_that_it_is_given(face: Service) -> None:
    known = {
        settings.HOME_VARIABLE,
        settings.DATABASE_VARIABLE,
        settings.PASSWORD_FILE_VARIABLE,
        registry.FOLDER_VARIABLE,
        # uvicorn's own.
        "FORWARDED_ALLOW_IPS",
    }
    assert set(face["environment"]) <= known


def test_only_regard_is_reached_and_only_from_this_machine(compose: ComposeFile) -> None:
    for name in FACES:
        assert compose.services[name]["ports"] == ["127.0.0.1:8420:8420"]
        assert set(compose.services[name]["networks"]) == {"outside", "database"}
    assert "ports" not in compose.services["postgres"]
    assert compose.services["postgres"]["networks"] == ["database"]
    assert compose.document["networks"]["database"] == {"internal": True}


def test_data_lies_in_named_volumes_and_photographs_are_read_only(
    compose: ComposeFile, face: Service
) -> None:
    data, photos = face["volumes"]
    assert data == "data:/data"
    assert photos["target"] == "/photos"
    assert photos["read_only"] is True
    assert photos["bind"] == {"create_host_path": False}
    assert "--root=photos=/photos" in face["command"]
    assert set(compose.document["volumes"]) == {"data", "database"}


def test_services_come_back_and_end_in_peace(service: Service) -> None:
    assert service["restart"] == "unless-stopped"
    assert "stop_grace_period" in service


def test_everything_named_is_declared(compose: ComposeFile) -> None:
    for service in compose.services.values():
        named = [volume for volume in service["volumes"] if isinstance(volume, str)]
        assert {volume.split(":")[0] for volume in named} <= set(compose.document["volumes"])
        assert set(service["networks"]) <= set(compose.document["networks"])
        assert set(service["secrets"]) <= set(compose.document["secrets"])
        assert set(service.get("depends_on", {})) <= set(compose.services)


def test_the_command_is_one_that_regard_knows(face: Service) -> None:
    command, *options = face["command"]
    shown = subprocess.run(
        [sys.executable, "-m", "regard.api.cli", command, "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr
    for option in options:
        assert f"{option.split('=')[0]} " in shown.stdout, option
    # Without it a server in a container would be reached by nobody.
    assert "--host=0.0.0.0" in options


def test_every_variable_is_explained(compose: ComposeFile) -> None:
    explained = (REPOSITORY / "docs" / "deployment.md").read_text()
    assert compose.variables
    for variable in compose.variables:
        assert f"`{variable}`" in explained, variable
