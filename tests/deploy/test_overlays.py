"""Every overlay, rendered: what Kubernetes, its scanners and the program itself say of it. No cluster is asked."""

import json
import re
import shutil
import subprocess
from base64 import b64decode
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import cli.main
import settings
from api.app import refuse_unprotected
from settings import Settings
from state import acl
from tests.authority import Authority
from tests.deploy.rendering import NAMES, OVERLAYS, ROOT, Manifest, fields, manifests, rendered, tool

pytestmark = pytest.mark.deploy

KUBERNETES = "1.37"
# What the definitions of others say, and Kubernetes itself does not know.
CUSTOM = {"ScaledObject", "ServiceMonitor", "TriggerAuthentication"}
# What the scanner says and we answer, with the reason.
ANSWERED = {
    "KSV-0014": "Kafka's start script writes into its own folders; minikube only",
    "KSV-0020": "the images of Kafka, PostgreSQL and Valkey have these users; minikube only",
    "KSV-0021": "as above",
    "KSV-0125": "official images of Docker Hub; minikube only",
    "KSV-01010": "it takes TIDEMARK_KAFKA_... for a key; the ConfigMap has no secret (tests/unit/test_deployment.py)",
}
ANSWERED_IN_PRODUCTION = {"KSV-01010"}

# Who each pod is to Redis.
ACL_ROLES: dict[str, acl.Role] = {"api": "api", "worker": "worker", "snapshots": "maintenance"}

each_overlay = pytest.mark.parametrize("overlay", NAMES)


def of_kind(overlay: str, *kinds: str) -> list[Manifest]:
    return [one for one in manifests(overlay) if one["kind"] in kinds]


def named(overlay: str, kind: str, name: str) -> Manifest:
    (found,) = (one for one in of_kind(overlay, kind) if one["metadata"]["name"] == name)
    return found


def pods(overlay: str) -> dict[str, Manifest]:
    """The templates of all pods, by the name of what makes them."""
    found = {
        one["metadata"]["name"]: one["spec"]["template"] for one in of_kind(overlay, "Deployment", "StatefulSet", "Job")
    }
    scheduled = of_kind(overlay, "CronJob")
    return found | {one["metadata"]["name"]: one["spec"]["jobTemplate"]["spec"]["template"] for one in scheduled}


def ours(overlay: str) -> dict[str, Manifest]:
    return {name: pod for name, pod in pods(overlay).items() if name.startswith("tidemark-")}


def matches(selector: Manifest, labels: dict[str, str]) -> bool:
    wanted: dict[str, str] = selector.get("matchLabels", {})
    return wanted.items() <= labels.items() and all(
        labels.get(one["key"]) in one["values"] for one in selector.get("matchExpressions", [])
    )


@each_overlay
def test_kubernetes_accepts_every_manifest(overlay: str) -> None:
    import kubernetes_validate

    for manifest in manifests(overlay):
        if manifest["kind"] not in CUSTOM:
            kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


@each_overlay
def test_their_definitions_accept_the_custom_resources(overlay: str) -> None:
    custom = of_kind(overlay, *CUSTOM)
    assert {one["kind"] for one in custom} == (CUSTOM if overlay == "production" else set())
    assert validated(custom) == [None] * len(custom)


def test_their_definitions_refuse_a_custom_resource_of_another_shape() -> None:
    (wrong,) = of_kind("production", "ScaledObject")
    wrong["spec"]["triggers"] = "kafka"
    (answer,) = validated([wrong])
    assert answer == "data/spec/triggers must be array"


def validated(resources: list[Manifest]) -> list[str | None]:
    node = shutil.which("node")
    assert node is not None
    answer = subprocess.run(
        [node, "validate.mjs"],
        cwd=Path(__file__).parent,
        input=json.dumps(resources),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    found: list[str | None] = json.loads(answer.stdout)
    return found


@each_overlay
def test_a_policy_scanner_finds_nothing_that_is_not_answered(overlay: str, tmp_path: Path) -> None:
    (tmp_path / "rendered.yaml").write_text(rendered(overlay), encoding="utf-8")
    found = {one["ID"] for one in scanned(tmp_path)}
    assert found <= (ANSWERED_IN_PRODUCTION if overlay == "production" else ANSWERED.keys())


def test_the_policy_scanner_would_find_a_pod_that_may_be_root(tmp_path: Path) -> None:
    text = rendered("production").replace("runAsNonRoot: true", "runAsNonRoot: false")
    (tmp_path / "rendered.yaml").write_text(text, encoding="utf-8")
    assert "KSV-0012" in {one["ID"] for one in scanned(tmp_path)}


def scanned(folder: Path) -> list[dict[str, Any]]:
    command = [tool("trivy"), "config", "--skip-check-update", "--quiet", "--format", "json", str(folder)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=110)
    (result,) = json.loads(answer.stdout)["Results"]
    assert result["MisconfSummary"]["Successes"] > 0
    found: list[dict[str, Any]] = result.get("Misconfigurations", [])
    return found


def test_the_dockerfile_is_as_its_linter_wants_it() -> None:
    answer = subprocess.run(
        [tool("hadolint"), str(ROOT / "Dockerfile")], check=False, capture_output=True, text=True, timeout=60
    )
    assert (answer.returncode, answer.stdout) == (0, "")


@each_overlay
def test_a_namespace_of_its_own_takes_everything_and_refuses_pods_with_rights(overlay: str) -> None:
    (namespace,) = of_kind(overlay, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    others = [one for one in manifests(overlay) if one["kind"] != "Namespace"]
    assert {one["metadata"]["namespace"] for one in others} == {namespace["metadata"]["name"]}


@each_overlay
def test_every_pod_keeps_to_the_restricted_standard(overlay: str) -> None:
    for name, pod in pods(overlay).items():
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True, name
        assert pod["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert pod["spec"]["automountServiceAccountToken"] is False, name
        for container in pod["spec"]["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False, name
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}, name
            assert {"requests", "limits"} == container["resources"].keys(), name


@each_overlay
def test_the_program_accepts_what_its_pods_are_told(
    overlay: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (config,) = of_kind(overlay, "ConfigMap")
    authority = Authority(tmp_path)
    secrets = {
        "redis-url": "rediss://redis:6379/0",
        "postgres-url": f"postgresql://tidemark@postgres/t?sslmode=verify-full&sslrootcert={authority.ca}",
        "snapshot-options": '{"account_name": "tidemark", "account_key": "bWFkZSB1cA=="}',
    }
    for name, pod in ours(overlay).items():
        (container,) = pod["spec"]["containers"]
        with monkeypatch.context() as patch:
            if container.get("envFrom"):
                for variable, text in config["data"].items():
                    patch.setenv(
                        variable, str(authority.ca) if text == f"{mounted(pod, 'tidemark-ca')}/ca.crt" else text
                    )
            for variable in container["env"]:
                key = variable.get("valueFrom", {}).get("secretKeyRef", {}).get("key")
                patch.setenv(variable["name"], variable["value"] if key is None else secrets.get(key, f"made-up-{key}"))
            configured = settings.load()
        role = name.removeprefix("tidemark-")
        if role != "migrate":
            own = ACL_ROLES[role]
            assert configured.redis_username == acl.user(own)
            assert configured.redis_password.get_secret_value() == f"made-up-redis-{own}-password"
        refuse_unprotected(configured)
        assert container["args"][0] == name.removeprefix("tidemark-")


def mounted(pod: Manifest, secret: str) -> str | None:
    """Where the only container of this pod finds the files of a Secret."""
    names = [one["name"] for one in pod["spec"]["volumes"] if one.get("secret", {}).get("secretName") == secret]
    (container,) = pod["spec"]["containers"]
    found = [one["mountPath"] for one in container["volumeMounts"] if one["name"] in names and one["readOnly"]]
    return found[0] if found else None


@each_overlay
def test_a_secret_is_never_written_where_it_is_not_one(overlay: str) -> None:
    secret = {
        f"TIDEMARK_{name.upper()}" for name, one in Settings.model_fields.items() if "Secret" in str(one.annotation)
    }
    for pod in pods(overlay).values():
        for container in pod["spec"]["containers"]:
            for variable in container.get("env", []):
                assert "secretKeyRef" in variable.get("valueFrom", {}) or variable["name"] not in secret
    assert not secret & {name for one in of_kind(overlay, "ConfigMap") for name in one["data"]}


def test_the_redis_of_minikube_has_the_users_whose_passwords_the_pods_have() -> None:
    (made,) = (one for one in of_kind("minikube", "Secret") if "redis-api-password" in one["data"])
    (users,) = (one for one in of_kind("minikube", "Secret") if "users.acl" in one["data"])
    text = b64decode(users["data"]["users.acl"]).decode()
    passwords = {
        role: b64decode(made["data"].get(f"redis-{role}-password", "")).decode() or f"only-for-minikube-{role}"
        for role in acl.OF_SERVERS
    }
    assert text == acl.users(passwords), "tidemark acl --passwords FOLDER > k8s/overlays/minikube/users.acl"
    (server,) = (pod for name, pod in pods("minikube").items() if name == "redis")
    assert f"{mounted(server, users['metadata']['name'])}/users.acl" in server["spec"]["containers"][0]["args"]


def test_who_scales_by_lag_is_let_in_by_kafka_as_the_workers_are() -> None:
    (workers,) = of_kind("production", "ScaledObject")
    (trigger,) = workers["spec"]["triggers"]
    (config,) = of_kind("production", "ConfigMap")
    assert trigger["metadata"]["tls"] == "enable"
    assert config["data"]["TIDEMARK_KAFKA_SECURITY_PROTOCOL"] == "SASL_SSL"
    assert trigger["metadata"]["sasl"] == config["data"]["TIDEMARK_KAFKA_SASL_MECHANISM"].lower().replace(
        "-sha-", "_sha"
    )
    (authentication,) = of_kind("production", "TriggerAuthentication")
    assert authentication["metadata"]["name"] == trigger["authenticationRef"]["name"]
    (user,) = authentication["spec"]["env"]
    assert user["name"] in config["data"]


@each_overlay
def test_every_secret_that_is_named_is_there_or_is_said_to_be_brought(overlay: str) -> None:
    made = {one["metadata"]["name"]: set(one.get("data", {})) for one in of_kind(overlay, "Secret")}
    asked: dict[str, set[str]] = {}
    for pod in pods(overlay).values():
        for container in pod["spec"]["containers"]:
            for variable in container.get("env", []):
                reference = variable.get("valueFrom", {}).get("secretKeyRef")
                if reference:
                    asked.setdefault(reference["name"], set()).add(reference["key"])
    if overlay == "production":
        assert made == {}, "secrets are brought by the cluster's own means"
        text = (OVERLAYS / overlay / "kustomization.yaml").read_text(encoding="utf-8")
        assert all(key in text for keys in asked.values() for key in keys)
    else:
        assert {name: keys <= made[name] for name, keys in asked.items()} == dict.fromkeys(asked, True)


@each_overlay
def test_services_budgets_and_policies_select_pods_and_name_ports_that_exist(overlay: str) -> None:
    by_labels = [(pod["metadata"]["labels"], pod) for pod in pods(overlay).values()]
    for service in of_kind(overlay, "Service"):
        (found,) = (pod for labels, pod in by_labels if service["spec"]["selector"].items() <= labels.items())
        ports = {port["name"]: port["containerPort"] for port in container_ports(found)}
        assert {one["targetPort"]: one["port"] for one in service["spec"]["ports"]} == ports
    for budget in of_kind(overlay, "PodDisruptionBudget"):
        chosen = [labels for labels, _ in by_labels if matches(budget["spec"]["selector"], labels)]
        assert [one["app.kubernetes.io/component"] for one in chosen] == [
            budget["metadata"]["name"].removeprefix("tidemark-")
        ]
    covered = []
    for policy in of_kind(overlay, "NetworkPolicy"):
        chosen_pods = [pod for labels, pod in by_labels if matches(policy["spec"]["podSelector"], labels)]
        covered += chosen_pods
        for rule in policy["spec"].get("ingress", []):
            for port in rule.get("ports", []):
                assert all(port["port"] in {one["name"] for one in container_ports(pod)} for pod in chosen_pods)
    assert len(covered) == len(by_labels), "one policy for each pod"


def container_ports(pod: Manifest) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        port for container in pod["spec"]["containers"] for port in container.get("ports", [])
    ]
    return found


@each_overlay
def test_each_pod_may_reach_what_its_settings_name(overlay: str) -> None:
    policies = {one["metadata"]["name"]: one for one in of_kind(overlay, "NetworkPolicy")}
    dependencies = {
        "tidemark-api": {9092, 6379, 5432},
        "tidemark-worker": {9092, 6379, 5432},
        "tidemark-migrate": {5432},
    }
    if overlay == "production":
        # The storage is asked over TLS.
        dependencies["tidemark-snapshots"] = {6379, 443}
    for name, ports in dependencies.items():
        open_ports = {
            port["port"] for rule in policies[name]["spec"]["egress"] if "to" not in rule for port in rule["ports"]
        }
        assert ports <= open_ports
    (config,) = of_kind(overlay, "ConfigMap")
    brokers = config["data"]["TIDEMARK_KAFKA_BROKERS"].split(",")
    assert {int(broker.rpartition(":")[2]) for broker in brokers} == {9092}


def test_who_scales_finds_what_it_scales_and_nobody_else_says_how_many() -> None:
    (scaler,) = of_kind("production", "HorizontalPodAutoscaler")
    (workers,) = of_kind("production", "ScaledObject")
    scaled = [scaler["spec"]["scaleTargetRef"]["name"], workers["spec"]["scaleTargetRef"]["name"]]
    deployments = of_kind("production", "Deployment")
    assert sorted(scaled) == sorted(one["metadata"]["name"] for one in deployments)
    assert all("replicas" not in one["spec"] for one in deployments)
    (trigger,) = workers["spec"]["triggers"]
    (config,) = of_kind("production", "ConfigMap")
    variables = {trigger["metadata"][name] for name in ("bootstrapServersFromEnv", "consumerGroupFromEnv")}
    assert variables <= config["data"].keys()
    assert trigger["metadata"]["topic"] == "calls"


def test_what_is_scheduled_is_a_command_that_ends_before_the_next_one_begins() -> None:
    (job,) = of_kind("production", "CronJob")
    pod = pods("production")[job["metadata"]["name"]]
    (container,) = pod["spec"]["containers"]
    told = cli.main.app, container["args"]
    done = CliRunner().invoke(told[0], [*told[1], "--help"])
    assert done.exit_code == 0, done.output
    assert {one for one in told[1] if one.startswith("--")} <= set(re.findall(r"--[a-z-]+", done.output))
    assert job["spec"]["schedule"] == "17 * * * *"
    assert job["spec"]["concurrencyPolicy"] == "Forbid"
    assert job["spec"]["jobTemplate"]["spec"]["activeDeadlineSeconds"] < 3600
    (config,) = of_kind("production", "ConfigMap")
    hours = Settings(snapshot_url=config["data"]["TIDEMARK_SNAPSHOT_URL"]).snapshot_hours
    assert hours > 1, "a doctor would warn between two of them"


def test_prometheus_finds_both_processes_at_the_path_that_they_answer() -> None:
    (monitor,) = of_kind("production", "ServiceMonitor")
    chosen = [
        one["metadata"]["name"]
        for one in of_kind("production", "Service")
        if matches(monitor["spec"]["selector"], one["metadata"]["labels"])
    ]
    assert sorted(chosen) == ["tidemark-api", "tidemark-worker"]
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["path"] == "/metrics"
    for name in chosen:
        assert endpoint["port"] in {port["name"] for port in named("production", "Service", name)["spec"]["ports"]}


@each_overlay
def test_a_table_says_of_every_field_what_honours_it(overlay: str) -> None:
    patterns = list(documented())
    missing = set()
    for manifest in manifests(overlay):
        for field in fields(manifest):
            place = f"{manifest['kind']} {field}"
            if not any(fnmatchcase(place.replace("[]", ""), pattern) for pattern in patterns):
                missing.add(place)
    assert sorted(missing) == []


def test_the_table_has_no_row_for_a_field_that_is_not_there() -> None:
    places = {
        f"{manifest['kind']} {field}".replace("[]", "")
        for overlay in NAMES
        for manifest in manifests(overlay)
        for field in fields(manifest)
    }
    assert [one for one in documented() if not any(fnmatchcase(place, one) for place in places)] == []


def documented() -> Iterator[str]:
    """The patterns in the first column: kinds, a space, and the path of the field, several of them with commas."""
    for line in (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("| `") and not line.startswith("| `k8s/"):
            kinds, _, paths = line.split("|")[1].strip().strip("`").partition(" ")
            for kind in kinds.split(","):
                for path in paths.split(", "):
                    yield f"{kind} {path}"
