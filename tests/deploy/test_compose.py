"""compose.yaml: its shape is the specification's, and what it says is what the program and the manifests say."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import settings
from api.app import refuse_unprotected
from cli import main
from settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ("api", "worker")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")

pytestmark = pytest.mark.deploy
each_service = pytest.mark.parametrize("name", SERVICES)
each_of_ours = pytest.mark.parametrize("name", OURS)


def _validate(document: dict[str, Any]) -> None:
    from compose_spec import PyCompose

    # Without the anchors, which are YAML's and not the specification's.
    PyCompose.from_yaml(yaml.safe_dump(document, sort_keys=False)).validate()


def test_the_specification_accepts_the_file() -> None:
    _validate(COMPOSE)


def test_the_specification_refuses_a_service_with_a_key_that_it_does_not_know() -> None:
    wrong = COMPOSE | {"services": {"api": SERVICES["api"] | {"readonly": True}}}
    with pytest.raises(ValueError, match="readonly"):
        _validate(wrong)


def test_everything_that_tidemark_needs_is_there_and_both_of_its_processes() -> None:
    assert SERVICES.keys() == {"api", "kafka", "postgres", "redis", "worker"}


@each_service
def test_a_service_has_no_rights_and_a_root_that_it_cannot_write_to(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.get("privileged")
    assert int(service["user"].split(":")[0]) > 0
    # The one whose start script writes into its image.
    assert service["read_only"] is (name != "kafka")


@each_service
def test_a_service_is_asked_for_its_health(name: str) -> None:
    if name == "api":
        assert "healthcheck" not in SERVICES[name], "the image asks"
        assert "HEALTHCHECK" in DOCKERFILE
    else:
        asked = SERVICES[name]["healthcheck"]
        assert asked["test"][0] == "CMD"
        assert not asked.get("disable")


def test_only_the_api_is_reached_from_outside_and_only_from_this_machine() -> None:
    assert {name: one["ports"] for name, one in SERVICES.items() if "ports" in one} == {
        "api": [f"127.0.0.1:{_port('http_port')}:{_port('http_port')}"]
    }
    assert COMPOSE["networks"]["stores"]["internal"] is True
    for name in SERVICES.keys() - set(OURS):
        assert SERVICES[name]["networks"] == ["stores"]


def test_every_variable_is_a_setting() -> None:
    settings.refuse_unknown({name: "" for one in OURS for name in SERVICES[one]["environment"]})


@each_of_ours
def test_the_program_accepts_what_its_containers_are_told(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, text in SERVICES[name]["environment"].items():
        assert isinstance(text, str)
        monkeypatch.setenv(variable, text)
    refuse_unprotected(settings.load())
    assert SERVICES[name]["command"] == [name]
    assert main._Commands().get_command(None, name) is not None


@each_of_ours
def test_a_container_of_ours_runs_as_the_user_of_the_image_and_waits_for_what_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert f"USER {service['user']}" in DOCKERFILE
    assert service["image"] == SERVICES["api"]["image"]
    assert service["depends_on"] == {
        needed: {"condition": "service_healthy"} for needed in ("kafka", "redis", "postgres")
    }
    assert [place.split(":")[0] for place in service["tmpfs"]] == re.findall(r"(?m)^WORKDIR (/tmp)$", DOCKERFILE)


def test_the_settings_name_the_services_at_the_ports_that_they_listen_on() -> None:
    told = SERVICES["worker"]["environment"]
    assert told["TIDEMARK_KAFKA_BROKERS"] == "kafka:9092"
    assert SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"] == "PLAINTEXT://kafka:9092"
    assert told["TIDEMARK_REDIS_URL"].startswith("redis://redis:6379")
    postgres = SERVICES["postgres"]["environment"]
    assert told["TIDEMARK_POSTGRES_URL"] == (
        f"postgresql://{postgres['POSTGRES_USER']}:{postgres['POSTGRES_PASSWORD']}@postgres:5432/{postgres['POSTGRES_DB']}"
    )


def test_the_worker_is_asked_at_the_port_that_it_listens_on() -> None:
    port = SERVICES["worker"]["environment"]["TIDEMARK_WORKER_HTTP_PORT"]
    assert f"http://127.0.0.1:{port}/healthz" in SERVICES["worker"]["healthcheck"]["test"][-1]


def test_the_servers_are_those_of_the_manifests() -> None:
    for name in SERVICES.keys() - set(OURS):
        manifest = (ROOT / "k8s" / "overlays" / "minikube" / f"{name}.yaml").read_text(encoding="utf-8")
        assert f"image: {SERVICES[name]['image']}\n" in manifest


def test_every_volume_is_declared_and_used() -> None:
    used = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    assert used == COMPOSE["volumes"].keys()


def _port(name: str) -> str:
    return str(Settings.model_fields[name].default)
