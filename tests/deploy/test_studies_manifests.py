"""The manifests and scripts of the shipped studies."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from benchmarks.studies import STUDIES
from planner.deploy import Target, kubernetes_bundle, launch_files
from planner.deploy.target import VERSIONS
from tests.deploy.manifests import CUSTOM, as_pod, documents, strict, templates, validate_core
from tests.studies import solved


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", sorted(STUDIES))
def test_manifests_are_valid_on_every_release(name: str, version: str) -> None:
    """Core kinds, and pods inside custom kinds, satisfy the strict schema of each supported release."""
    study = solved(name)
    found = documents(kubernetes_bundle(study.plan, study.topology, study.workload, Target(version=version)))
    assert found
    for item in found:
        if item["kind"] not in CUSTOM:
            validate_core(item, version)
        for template in templates(item):
            validate_core(as_pod(template), version)


@pytest.mark.reference
@pytest.mark.parametrize("name", sorted(STUDIES))
def test_custom_kinds_satisfy_their_crds(name: str, shared_data: Path) -> None:
    """Custom kinds satisfy the schema of their CustomResourceDefinition, unknown fields refused."""
    folder = shared_data / "k8s-schemas" / "crds"
    schemas = {}
    for path in folder.glob("*.json"):
        crd = json.loads(path.read_text(encoding="utf-8"))
        schemas[crd["apiVersion"], crd["kind"]] = crd["openAPIV3Schema"]
    study = solved(name)
    found = documents(kubernetes_bundle(study.plan, study.topology, study.workload))
    custom = [item for item in found if item["kind"] in CUSTOM and item["kind"] != "Kustomization"]
    for item in custom:
        Draft202012Validator(strict(schemas[item["apiVersion"], item["kind"]])).validate(item)
    assert bool(custom) == (study.plan.jobs[0].kind == "training")


@pytest.mark.parametrize("name", sorted(STUDIES))
def test_scripts_parse(name: str, tmp_path: Path) -> None:
    """Every script of a study is accepted by ``bash -n``."""
    study = solved(name)
    scripts = {
        file: text
        for file, text in launch_files(study.plan, study.topology, study.workload).items()
        if text.startswith("#!")
    }
    assert scripts
    for number, text in enumerate(list(scripts.values())[:20]):
        path = tmp_path / f"{number}.sh"
        path.write_text(text, encoding="utf-8")
        subprocess.run(["bash", "-n", str(path)], check=True)
