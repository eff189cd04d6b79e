"""deploy/kubernetes.yaml: checked by Kubernetes' schemas, and for what it promises."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import kubernetes_validate
import pytest
import yaml
from made_library import regard
from made_server import Server

from regard.api.http.service import DEFAULT_VIDEO_BYTES

REPOSITORY = Path(__file__).resolve().parents[2]
DOCUMENTS: list[dict[str, Any]] = list(
    yaml.safe_load_all((REPOSITORY / "deploy" / "kubernetes.yaml").read_text())
)
BY_KIND = {document["kind"]: document for document in DOCUMENTS}
PODS = {kind: BY_KIND[kind]["spec"]["template"]["spec"] for kind in ("Job", "Deployment")}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document["kind"]))
def test_documents_fit_the_schemas_of_kubernetes(document: dict[str, Any]) -> None:
    kubernetes_validate.validate(document, "1.34", strict=True)


@pytest.mark.parametrize("pod", PODS.values(), ids=PODS)
def test_pods_run_unprivileged_with_secrets_from_secrets(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsUser"] == 10001  # the image's
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {volume["name"] for volume in pod["volumes"]} == {
        mount["name"] for mount in container["volumeMounts"]
    }
    assert container["resources"]["limits"]["memory"]
    settings = BY_KIND["ConfigMap"]["data"]
    assert not [name for name in settings if "PASSWORD" in name and not name.endswith("_FILE")]
    assert "SECRET" not in "".join(settings)


def test_servers_are_replaced_without_a_gap() -> None:
    deployment, (server,) = BY_KIND["Deployment"]["spec"], PODS["Deployment"]["containers"]
    assert deployment["replicas"] >= 2
    assert deployment["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    paths = {
        probe: server[f"{probe}Probe"]["httpGet"]["path"] for probe in ("readiness", "liveness")
    }
    assert paths == {"readiness": "/readyz", "liveness": "/healthz"}
    assert BY_KIND["Service"]["spec"]["selector"] == {"app": "regard"}


def test_probes_are_answered(tmp_path: Path) -> None:
    """As Kubernetes sends them: to the address of the pod, unless they name a host."""
    (server,) = PODS["Deployment"]["containers"]
    words = [word for word in server["args"] if not word.startswith(("serve", "--port", "--home"))]
    assert regard("keys", "create", "operator", "--scope", "admin", "--home", tmp_path).code == 0
    with Server(tmp_path, *words) as running, httpx.Client(base_url=running.url) as client:
        for kind in ("startup", "readiness", "liveness"):
            probe = server[f"{kind}Probe"]["httpGet"]
            headers = {"Host": "10.1.2.3:8420"}
            headers |= {one["name"]: one["value"] for one in probe.get("httpHeaders", [])}
            assert client.get(probe["path"], headers=headers).status_code == 200, kind


def test_uploads_on_their_way_have_room() -> None:
    """The largest is a video of 10 GiB."""
    folder = BY_KIND["ConfigMap"]["data"]["TMPDIR"]
    pod = PODS["Deployment"]
    (name,) = (
        mount["name"]
        for mount in pod["containers"][0]["volumeMounts"]
        if mount["mountPath"] == folder
    )
    (volume,) = (volume for volume in pod["volumes"] if volume["name"] == name)
    assert int(volume["emptyDir"]["sizeLimit"].removesuffix("Gi")) > DEFAULT_VIDEO_BYTES >> 30


def test_commands_are_known_to_regard() -> None:
    for pod in PODS.values():
        words = pod["containers"][0]["args"]
        options = [word for word in words if word.startswith("--")]
        command = [word for word in words if not word.startswith("--")]
        shown = subprocess.run(
            [sys.executable, "-m", "regard.api.cli", *command, "--help"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for option in options:
            assert f"{option.split('=')[0]} " in shown, option
