"""The launcher files are what Ray, Kubernetes and the shell take, and each carries the token."""

from __future__ import annotations

import fnmatch
import json
import re
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.environments import ROOT, names

CLUSTERS = Path(__file__).parents[2] / "clusters"
PAGES = Path(__file__).parents[2] / "docs" / "deploy"
LAUNCHERS = ["aws", "gcp", "ssh"]
# What Ray needs for the provider of a launcher, and the extra that declares it.
NEEDED = {"aws": ("aws", "boto3"), "gcp": ("gcp", "google-api-python-client"), "ssh": ("train", "ray")}
MANIFESTS = ["raycluster", "rayjob", "storage"]
KUBERAY_CLUSTERS = ["raycluster", "rayjob"]


def _load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def _kuberay_cluster(name: str) -> Any:
    spec = _load(CLUSTERS / "kuberay" / f"{name}.yaml")["spec"]
    return spec.get("rayClusterSpec", spec)


@pytest.mark.parametrize("name", LAUNCHERS)
def test_ray_takes_the_launcher_file(name: str) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = _load(CLUSTERS / f"{name}.yaml")
    validate_config(prepare_config(config))


@pytest.mark.parametrize("name", LAUNCHERS)
def test_rays_own_schema_refuses_an_unknown_key(name: str) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config({**_load(CLUSTERS / f"{name}.yaml"), "max_wrokers": 3})
    with pytest.raises(jsonschema.ValidationError, match="max_wrokers"):
        validate_config(config)


@pytest.mark.parametrize("name", LAUNCHERS)
def test_ray_sets_up_every_node_by_the_commands_of_the_file_alone(name: str) -> None:
    """Ray's own for the head of a cloud is a `pip install` into the system's Python, which newer systems refuse."""
    from ray.autoscaler._private.util import prepare_config

    config = _load(CLUSTERS / f"{name}.yaml")
    prepared = prepare_config(config)
    assert prepared["head_setup_commands"] == config["setup_commands"]
    assert prepared["worker_setup_commands"] == config["setup_commands"]


@pytest.mark.parametrize("name", LAUNCHERS)
def test_every_start_carries_the_token_and_the_dashboard_stays_at_home(name: str) -> None:
    config = _load(CLUSTERS / f"{name}.yaml")
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    head, worker = config["head_start_ray_commands"][-1], config["worker_start_ray_commands"][-1]
    assert "RAY_AUTH_MODE=token" in head
    assert "RAY_AUTH_MODE=token" in worker
    assert "--dashboard-host=127.0.0.1" in head


def _left_out(path: str, patterns: list[str]) -> bool:
    """Whether rsync leaves out this path, or a folder that it lies in, by its rules of patterns (rsync(1))."""
    places = [path, *(str(parent) for parent in Path(path).parents)][:-1]
    for pattern in patterns:
        if pattern.startswith("/"):
            found = [place for place in places if fnmatch.fnmatchcase(place, pattern[1:])]
        elif "/" in pattern:
            found = [place for place in places if fnmatch.fnmatchcase(f"/{place}", f"*/{pattern}")]
        else:
            found = [place for place in places if fnmatch.fnmatchcase(Path(place).name, pattern)]
        if found:
            return True
    return False


def _program() -> list[str]:
    """Paths of the Python files that run on a node, from the root."""
    packages = ("curriculum_ray", "tuning", "clusters")
    files = [path for package in packages for path in (ROOT / package).rglob("*.py")]
    return ["tune.py", *sorted(str(path.relative_to(ROOT)) for path in files)]


@pytest.mark.parametrize("name", LAUNCHERS)
def test_the_whole_program_is_copied_to_the_nodes_and_nothing_large(name: str) -> None:
    patterns = _load(CLUSTERS / f"{name}.yaml")["rsync_exclude"]
    program = _program()
    assert "curriculum_ray/runs/config.py" in program
    assert [path for path in program if _left_out(path, patterns)] == []
    large = [
        ".git/HEAD",
        ".venv/bin/python",
        "runs/a-study/trials/0/metrics.jsonl",
        "tuning/__pycache__/x.pyc",
    ]
    assert [path for path in large if not _left_out(path, patterns)] == []


@pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")
@pytest.mark.parametrize("name", LAUNCHERS)
def test_rsync_copies_the_whole_program(name: str) -> None:
    options = [f"--exclude={pattern}" for pattern in _load(CLUSTERS / f"{name}.yaml")["rsync_exclude"]]
    command = ["rsync", "--archive", "--list-only", *options, f"{ROOT}/"]
    listed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    copied = {line.split(maxsplit=4)[-1] for line in listed.splitlines()}
    assert [path for path in _program() if path not in copied] == []
    assert [path for path in copied if re.match(r"(\.git|\.venv|runs)(/|$)", path)] == []


@pytest.mark.parametrize("name", LAUNCHERS)
def test_the_environment_has_what_ray_needs_for_the_provider(name: str) -> None:
    from ray.autoscaler._private.providers import _get_node_provider_cls

    provider = _get_node_provider_cls(_load(CLUSTERS / f"{name}.yaml")["provider"])
    assert provider.__module__.startswith("ray.autoscaler._private.")
    extra, needed = NEEDED[name]
    assert needed in names(extra)
    assert f"\n{needed}==" in (ROOT / "constraints.txt").read_text()


def test_the_file_system_of_aws_lies_in_the_region_and_the_file_says_that_both_change() -> None:
    path = CLUSTERS / "aws.yaml"
    config = _load(path)
    (mount,) = (command for command in config["setup_commands"] if ".efs." in command)
    assert f".efs.{config['provider']['region']}.amazonaws.com:/" in mount
    lines = path.read_text().splitlines()
    comment = lines[next(number for number, line in enumerate(lines) if line.startswith("  region:")) - 1]
    assert "setup_commands" in comment


def test_cloud_workers_are_spot_machines_and_bounded() -> None:
    aws, gcp = _load(CLUSTERS / "aws.yaml"), _load(CLUSTERS / "gcp.yaml")
    assert aws["available_node_types"]["gpu"]["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"
    assert gcp["available_node_types"]["gpu"]["node_config"]["scheduling"]["provisioningModel"] == "SPOT"
    for config in (aws, gcp):
        assert config["available_node_types"]["gpu"]["max_workers"] <= config["max_workers"]
        assert config["idle_timeout_minutes"] <= 30
        # The head trains nothing, and is not taken away.
        assert "InstanceMarketOptions" not in str(config["available_node_types"]["head"])


def test_google_takes_the_scheduling_of_spot_machines() -> None:
    discovery = files("googleapiclient") / "discovery_cache" / "documents" / "compute.v1.json"
    schema = {**json.loads(discovery.read_text())["schemas"]["Scheduling"], "additionalProperties": False}
    node_config = _load(CLUSTERS / "gcp.yaml")["available_node_types"]["gpu"]["node_config"]
    jsonschema.Draft202012Validator(schema).validate(node_config["scheduling"])


@pytest.mark.parametrize("name", MANIFESTS)
def test_kubernetes_manifests_hold_what_the_schemas_allow(name: str) -> None:
    schema = _load(Path(__file__).parent / "kubernetes_schema.yaml")
    manifest = _load(CLUSTERS / "kuberay" / f"{name}.yaml")
    jsonschema.Draft202012Validator({**schema, "$ref": f"#/$defs/{manifest['kind']}"}).validate(manifest)


@pytest.mark.parametrize("name", KUBERAY_CLUSTERS)
def test_a_misspelt_key_of_a_manifest_is_refused(name: str) -> None:
    schema = _load(Path(__file__).parent / "kubernetes_schema.yaml")
    manifest = _load(CLUSTERS / "kuberay" / f"{name}.yaml")
    cluster = manifest["spec"].get("rayClusterSpec", manifest["spec"])
    cluster["workerGroupSpecs"][0]["maxReplica"] = 3
    validator = jsonschema.Draft202012Validator({**schema, "$ref": f"#/$defs/{manifest['kind']}"})
    assert any("maxReplica" in error.message for error in validator.iter_errors(manifest))


@pytest.mark.parametrize("name", KUBERAY_CLUSTERS)
def test_kubernetes_clusters_ask_for_their_token_and_stay_inside(name: str) -> None:
    cluster = _kuberay_cluster(name)
    assert cluster["authOptions"] == {"mode": "token", "secretName": "curriculum-ray-token"}
    assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"


@pytest.mark.parametrize("name", KUBERAY_CLUSTERS)
def test_ray_drains_a_pod_that_goes_for_longer_than_by_default_and_ends_in_its_grace_period(
    name: str,
) -> None:
    from ray._private import ray_constants

    variable = "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"
    for group in _kuberay_cluster(name)["workerGroupSpecs"]:
        pod = group["template"]["spec"]
        for container in pod["containers"]:
            (value,) = (each["value"] for each in container["env"] if each["name"] == variable)
            assert getattr(ray_constants, variable) < float(value) < pod["terminationGracePeriodSeconds"]


@pytest.mark.parametrize("name", KUBERAY_CLUSTERS)
def test_shared_memory_is_left_to_kuberay(name: str) -> None:
    """It mounts as much as the pod's memory; with less, Ray's object store moves to the disk."""
    cluster = _kuberay_cluster(name)
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        for container in group["template"]["spec"]["containers"]:
            assert "/dev/shm" not in [mount["mountPath"] for mount in container["volumeMounts"]]


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_the_slurm_script_is_clean() -> None:
    done = subprocess.run(["shellcheck", CLUSTERS / "slurm.sh"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_pages_that_the_launchers_name_are_there() -> None:
    named = {
        (str(path.relative_to(CLUSTERS)), page)
        for path in CLUSTERS.rglob("*")
        if path.suffix in {".yaml", ".sh", ".md", ".py"}
        for page in re.findall(r"\bSee (\S+\.md)\b", path.read_text())
    }
    launchers = {"slurm.sh", *(f"{name}.yaml" for name in LAUNCHERS)}
    assert {path for path, _ in named} >= launchers | {f"kuberay/{name}.yaml" for name in MANIFESTS}
    assert [page for _, page in sorted(named) if not (ROOT / page).is_file()] == []


def test_every_launcher_has_a_page_that_says_everything() -> None:
    index = (PAGES / "index.md").read_text()
    pages = set(re.findall(r"\]\((\w+\.md)\)", index))
    assert {"aws.md", "gcp.md", "kubernetes.md", "slurm.md", "ssh.md", "local.md"} <= pages
    for page in pages - {"scaling.md", "faults.md"}:
        text = (PAGES / page).read_text()
        for heading in ("## Fill in", "## Start", "## Check", "## Stop", "## What it costs to leave running"):
            assert heading in text, f"{page} lacks {heading}"
