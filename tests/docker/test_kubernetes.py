"""The manifests are what a cluster takes, and as safe as they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

FOLDER = Path(__file__).resolve().parents[2] / "docker" / "kubernetes"
MANIFESTS: list[dict[str, Any]] = list(yaml.safe_load_all((FOLDER / "triode.yaml").read_text()))


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda one: one["kind"])
def test_it_follows_the_schema(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, "1.31", strict=True)


def test_it_meets_the_restricted_standard() -> None:
    """Pod Security Standards, "restricted"."""
    [pod] = [one["spec"]["template"]["spec"] for one in MANIFESTS if one["kind"] == "StatefulSet"]
    [container] = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_everything_finds_its_pod() -> None:
    kinds = {one["kind"]: one["spec"] for one in MANIFESTS}
    labels = kinds["StatefulSet"]["template"]["metadata"]["labels"]
    assert kinds["StatefulSet"]["selector"]["matchLabels"] == labels
    assert kinds["Service"]["selector"] == labels
    assert kinds["PodDisruptionBudget"]["selector"]["matchLabels"] == labels
    monitor = yaml.safe_load((FOLDER / "servicemonitor.yaml").read_text())
    assert monitor["spec"]["selector"]["matchLabels"] == labels
    [port] = kinds["Service"]["ports"]
    assert monitor["spec"]["endpoints"][0]["port"] == port["name"]
