"""The Dockerfile and .dockerignore: read by a linter, and looked at for what they promise."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from dockerfile import Context, Dockerfile, Stage, read_dockerfile

REPOSITORY = Path(__file__).resolve().parents[2]
ROOMS = ("api", "core", "evaluation", "indexer", "models", "search", "storage")


@pytest.fixture(scope="module")
def dockerfile() -> Dockerfile:
    return read_dockerfile((REPOSITORY / "Dockerfile").read_text())


@pytest.fixture(scope="module")
def image(dockerfile: Dockerfile) -> Stage:
    """The last stage, which alone is kept."""
    return dockerfile.stages[-1]


def _lint(text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("hadolint"), "-"],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_linter_finds_nothing_to_say() -> None:
    text = (REPOSITORY / "Dockerfile").read_text()
    linted = _lint(text)
    assert linted.returncode == 0, linted.stdout
    assert _lint(text.replace("ENTRYPOINT [", "ENTRYPOINT [[")).returncode != 0


def test_the_image_holds_the_environment_and_nothing_of_its_making(
    dockerfile: Dockerfile, image: Stage
) -> None:
    assert [stage.name for stage in dockerfile.stages] == ["wheel", "environment", ""]
    assert {stage.base for stage in dockerfile.stages} == {"${PYTHON_IMAGE}"}
    (copied,) = image.all("COPY")
    assert copied.flags == {"from": "environment"}
    assert copied.words == ["/opt/regard", "/opt/regard"]
    assert not image.all("ADD")


def test_its_python_is_one_that_regard_runs_on(dockerfile: Dockerfile) -> None:
    found = re.fullmatch(r"python:3\.(\d+)-slim-\w+", dockerfile.arguments["PYTHON_IMAGE"])
    assert found is not None
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert int(found[1]) >= int(project["requires-python"].removeprefix(">=3."))


def test_it_runs_as_a_numbered_user_who_owns_only_the_data(image: Stage) -> None:
    user, _, group = image.last("USER").value.partition(":")
    assert int(user) > 0
    assert int(group) > 0
    # Kubernetes' runAsNonRoot reads the number; and nothing after USER may need root.
    (made,) = image.all("RUN")
    assert f"--uid {user} --gid {group}" in made.value
    assert image.steps.index(made) < image.steps.index(image.last("USER"))
    assert image.last("VOLUME").words == ["/data"]
    environment = image.environment
    assert environment["REGARD_HOME"] == "/data"
    # What libraries keep for themselves goes by these.
    assert environment["HOME"] == "/data"
    assert environment["HF_HOME"].startswith("/data/")


def test_it_says_whether_it_is_ready(image: Stage) -> None:
    check = image.last("HEALTHCHECK").value
    port = image.last("EXPOSE").value
    assert "'/readyz'" in check
    assert f"'127.0.0.1', {port}," in check
    assert f'"--port", "{port}"' in image.last("CMD").value


def test_its_command_is_one_that_regard_knows(image: Stage) -> None:
    assert image.last("ENTRYPOINT").words == ["regard"]
    command, *options = image.last("CMD").words
    shown = subprocess.run(
        [sys.executable, "-m", "regard.api.cli", command, "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr
    for option in options:
        if option.startswith("--"):
            assert f"{option} " in shown.stdout, option


def test_no_secret_is_built_in(dockerfile: Dockerfile) -> None:
    named = [*dockerfile.arguments]
    for stage in dockerfile.stages:
        named += [step.value.partition("=")[0] for step in stage.all("ARG")]
        named += list(stage.environment)
    assert "PYTHON_IMAGE" in named
    assert not [name for name in named if re.search("PASS|SECRET|TOKEN|KEY|CREDENTIAL", name)]


def test_the_builder_is_sent_what_the_wheel_needs_and_no_more(tmp_path: Path) -> None:
    shutil.copy(REPOSITORY / ".dockerignore", tmp_path)
    kept = [
        *("pyproject.toml", "constraints.txt", "README.md", "LICENSE", "photos/tiff.py"),
        *("core/py.typed", "models/profiles/shipped/lite.toml", "api/cli/app.py"),
    ]
    left = [
        *(".git/config", ".env", ".venv/bin/python", "secrets/postgres_password", "photos/a.jpg"),
        *("core/__pycache__/png.cpython-311.pyc", "api/cli/__pycache__/x", "core/png.pyc"),
        *("tests/conftest.py", "docs/http.md", "Dockerfile", "regard.egg-info/x"),
        *("docker-compose.yml", "core.bak/png.py", "build/core/png.py", "x/core/png.py"),
    ]
    for name in [*kept, *left]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    assert Context(tmp_path).files() == sorted(kept)


def test_the_builder_is_sent_every_package(dockerfile: Dockerfile) -> None:
    context = Context(REPOSITORY)
    tool = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert set(tool["package-dir"].values()) == set(ROOMS)
    sent = context.files()
    for room in ROOMS:
        for file in (REPOSITORY / room).rglob("*.py"):
            assert file.relative_to(REPOSITORY).as_posix() in sent
    for stage in dockerfile.stages:
        for step in stage.all("COPY"):
            if "from" not in step.flags:
                *sources, _ = step.words
                assert all(source == "." or source in sent for source in sources), step


def test_both_extras_can_be_chosen(dockerfile: Dockerfile) -> None:
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    optional = extras["optional-dependencies"]
    assert {"cpu", "gpu", "postgres"} <= set(optional)
    (arguments,) = [
        [step.value for step in stage.all("ARG")]
        for stage in dockerfile.stages
        if stage.name == "environment"
    ]
    assert "EXTRA=cpu" in arguments
