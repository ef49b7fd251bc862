"""The image and the manifests agree with the code that they start; no container engine and no cluster is asked."""

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import settings
from api.app import create_app, refuse_unprotected
from cli import main
from settings import Settings

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
BASE = ROOT / "k8s" / "base"
SECRET_VALUES = {
    "TIDEMARK_REDIS_URL": "rediss://:password@redis:6379/0",
    "TIDEMARK_POSTGRES_URL": "postgresql://tidemark:password@postgres/tidemark",
}


def _manifests() -> list[dict[str, Any]]:
    listed = yaml.safe_load((BASE / "kustomization.yaml").read_text(encoding="utf-8"))["resources"]
    return [document for name in listed for document in yaml.safe_load_all((BASE / name).read_text(encoding="utf-8"))]


MANIFESTS = _manifests()
DEPLOYMENTS = {item["metadata"]["name"]: item for item in MANIFESTS if item["kind"] == "Deployment"}
SERVICES = {item["metadata"]["name"]: item for item in MANIFESTS if item["kind"] == "Service"}
CONFIG = {item["metadata"]["name"]: item["data"] for item in MANIFESTS if item["kind"] == "ConfigMap"}

each_deployment = pytest.mark.parametrize("name", DEPLOYMENTS)


def test_every_manifest_is_listed_once_and_exists() -> None:
    listed = yaml.safe_load((BASE / "kustomization.yaml").read_text(encoding="utf-8"))["resources"]
    assert sorted([*listed, "kustomization.yaml"]) == sorted(path.name for path in BASE.iterdir())


def test_there_is_a_deployment_for_each_of_the_two_processes() -> None:
    assert DEPLOYMENTS.keys() == {"tidemark-api", "tidemark-worker"}


def test_every_variable_named_anywhere_is_a_setting() -> None:
    files = [path for path in (ROOT / "k8s").rglob("*") if path.is_file()]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    # The variables that Kubernetes would add by itself are spoken of in a comment, to say why they must not come.
    written = re.sub(r"(?m)^\s*#.*$", "", text) + DOCKERFILE
    found = set(re.findall(r"\bTIDEMARK_[A-Z0-9_]+", written))
    assert found
    settings.refuse_unknown(dict.fromkeys(found, ""))


@each_deployment
def test_the_settings_of_a_pod_are_accepted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, text in _environment(name).items():
        assert isinstance(text, str), f"{variable}: Kubernetes refuses a value that is not a string"
        monkeypatch.setenv(variable, text)
    configured = settings.load()
    refuse_unprotected(configured)
    assert configured.redis_url.get_secret_value() == SECRET_VALUES["TIDEMARK_REDIS_URL"]
    assert configured.postgres_url.get_secret_value() == SECRET_VALUES["TIDEMARK_POSTGRES_URL"]


@each_deployment
def test_every_secret_setting_comes_from_a_secret(name: str) -> None:
    # One is for commands that ask an API, which no pod does.
    named = {key for key, field in Settings.model_fields.items() if _is_secret(field)} - {"api_key"}
    secret = {settings.PREFIX + key.upper() for key in named}
    from_secrets = {item["name"] for item in _container(name)["env"] if "secretKeyRef" in item["valueFrom"]}
    # Passwords apart from the URLs are an overlay's (tests/deploy/test_overlays.py).
    assert from_secrets == SECRET_VALUES.keys() <= secret
    assert not secret & {variable for data in CONFIG.values() for variable in data}


@each_deployment
def test_kubernetes_adds_no_variables_of_its_own_that_would_stop_the_start(name: str) -> None:
    assert _pod(name)["enableServiceLinks"] is False


@each_deployment
def test_a_pod_is_not_root_and_writes_only_to_its_temporary_folder(name: str) -> None:
    pod, container = _pod(name), _container(name)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert f"USER {pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}" in DOCKERFILE
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    volumes = {volume["name"] for volume in pod["volumes"] if "emptyDir" in volume}
    assert [(mount["mountPath"], mount["name"] in volumes) for mount in container["volumeMounts"]] == [
        (_instruction("WORKDIR"), True)
    ]


@each_deployment
def test_a_selector_matches_the_pods_of_its_own_deployment_alone(name: str) -> None:
    selector = DEPLOYMENTS[name]["spec"]["selector"]["matchLabels"]
    assert [other for other in DEPLOYMENTS if selector.items() <= _labels(other).items()] == [name]


def test_the_service_reaches_the_api_alone_inside_the_cluster_at_the_default_port() -> None:
    port = Settings.model_fields["http_port"].default
    service = SERVICES["tidemark-api"]
    assert service["spec"]["type"] == "ClusterIP"
    selector = service["spec"]["selector"]
    assert [name for name in DEPLOYMENTS if selector.items() <= _labels(name).items()] == ["tidemark-api"]
    (service_port,) = service["spec"]["ports"]
    (container_port,) = _container("tidemark-api")["ports"]
    assert service_port["targetPort"] == container_port["name"]
    assert service_port["port"] == container_port["containerPort"] == port
    assert CONFIG["tidemark"]["TIDEMARK_HTTP_PORT"] == str(port)


def test_the_service_of_the_workers_names_their_pods_for_who_scrapes_them() -> None:
    service = SERVICES["tidemark-worker"]
    assert service["spec"]["clusterIP"] == "None"
    selector = service["spec"]["selector"]
    assert [name for name in DEPLOYMENTS if selector.items() <= _labels(name).items()] == ["tidemark-worker"]
    (port,) = service["spec"]["ports"]
    assert str(port["port"]) == CONFIG["tidemark"]["TIDEMARK_WORKER_HTTP_PORT"]


def test_the_probes_ask_what_the_api_answers_at_the_port_it_listens_on() -> None:
    container = _container("tidemark-api")
    ports = {port["name"] for port in container["ports"]}
    asked = {kind: container[kind]["httpGet"] for kind in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {probe["port"] for probe in asked.values()} <= ports
    assert {probe["path"] for probe in asked.values()} <= _paths()
    assert asked["livenessProbe"]["path"] == "/healthz", "a restart does not bring a dependency back"


def test_the_probes_ask_what_the_worker_answers_at_the_port_it_listens_on() -> None:
    container = _container("tidemark-worker")
    (port,) = container["ports"]
    asked = {kind: container[kind]["httpGet"] for kind in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {probe["port"] for probe in asked.values()} == {port["name"]}
    assert CONFIG["tidemark"]["TIDEMARK_WORKER_HTTP_PORT"] == str(port["containerPort"])
    # What stream/health.py answers; tests/unit/test_health.py asks it.
    assert {kind: probe["path"] for kind, probe in asked.items()} == {
        "startupProbe": "/healthz",
        "livenessProbe": "/healthz",
        "readinessProbe": "/readyz",
    }


@each_deployment
def test_a_container_runs_a_command_of_the_program(name: str) -> None:
    (command,) = _container(name)["args"]
    assert name == f"tidemark-{command}"
    assert _loads(command)


def test_the_image_runs_a_command_of_the_program() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    (program,) = yaml.safe_load(_instruction("ENTRYPOINT"))
    (command,) = yaml.safe_load(_instruction("CMD"))
    assert program in scripts
    assert command == "api"
    assert _loads(command)


def test_the_image_asks_for_its_health_where_the_api_answers() -> None:
    port = Settings.model_fields["http_port"].default
    (asked,) = re.findall(r"http://127\.0\.0\.1:(\d+)(/\w+)'", DOCKERFILE)
    assert asked[0] == _instruction("EXPOSE") == str(port)
    assert asked[1] in _paths()


def test_the_image_opens_nothing_by_itself() -> None:
    assert not re.search(r"(?m)^[^#]*TIDEMARK_(INSECURE|HTTP_HOST)", DOCKERFILE)
    assert not Settings.model_fields["insecure"].default


def test_everything_that_is_copied_exists_and_reaches_the_builder() -> None:
    let_through = {
        line[1:].rstrip("/")
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line.startswith("!")
    }
    copied = set(_copied())
    assert copied == let_through
    assert [source for source in copied if not (ROOT / source).exists()] == []


def test_every_package_and_module_of_the_project_is_copied() -> None:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    packages = {name for name in tool["packages"]["find"]["include"] if not name.endswith(".*")}
    assert packages | {f"{module}.py" for module in tool["py-modules"]} <= set(_copied())


def _pod(name: str) -> dict[str, Any]:
    pod: dict[str, Any] = DEPLOYMENTS[name]["spec"]["template"]["spec"]
    return pod


def _container(name: str) -> dict[str, Any]:
    container: dict[str, Any]
    (container,) = _pod(name)["containers"]
    return container


def _labels(name: str) -> dict[str, str]:
    labels: dict[str, str] = DEPLOYMENTS[name]["spec"]["template"]["metadata"]["labels"]
    return labels


def _environment(name: str) -> dict[str, str]:
    """What a container of this deployment finds in its environment, with made-up secrets."""
    container = _container(name)
    environment: dict[str, str] = {}
    for source in container["envFrom"]:
        environment |= CONFIG[source["configMapRef"]["name"]]
    return environment | {item["name"]: SECRET_VALUES[item["name"]] for item in container["env"]}


def _is_secret(field: Any) -> bool:
    return "SecretStr" in str(field.annotation)


def _paths() -> set[str]:
    return set(create_app(Settings()).openapi()["paths"])


def _loads(command: str) -> bool:
    """Whether `tidemark` has a command of this name whose code is found."""
    return main._Commands().get_command(None, command) is not None


def _instruction(name: str) -> str:
    """The arguments of the last instruction of this name, which is the one that holds."""
    arguments: list[str] = re.findall(rf"(?m)^{name} (.+)$", DOCKERFILE)
    return arguments[-1]


def _copied() -> Iterator[str]:
    """The sources of every COPY from the repository."""
    for line in re.findall(r"(?m)^COPY (.+)$", DOCKERFILE):
        if "--from=" not in line:
            yield from (source.rstrip("/") for source in shlex.split(line)[:-1])
