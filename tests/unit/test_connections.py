"""How Kafka, Redis and PostgreSQL let us in: what contradicts itself stops the start, and nothing shows a password."""

import re
import ssl
from pathlib import Path

import pytest

from detection.errors import SettingsError
from settings import Settings, load
from state.brokers import Brokers
from state.certificates import Certificates
from state.finding import encryption_finding
from state.redis_address import Credentials, parse
from stream.credentials import faust_credentials
from tests.authority import Authority

ROOT = Path(__file__).parents[2]
SECRET = "correct-horse-battery"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


def refusal_of(monkeypatch: pytest.MonkeyPatch, settings: dict[str, object]) -> str:
    for name, value in settings.items():
        monkeypatch.setenv(f"TIDEMARK_{name}", str(value))
    with pytest.raises(SettingsError) as refused:
        load()
    assert SECRET not in str(refused.value)
    return str(refused.value)


USER = {"KAFKA_USERNAME": "tidemark", "KAFKA_PASSWORD": SECRET}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}, "TIDEMARK_KAFKA_USERNAME is not set"),
        ({"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_USERNAME": "x"}, "TIDEMARK_KAFKA_PASSWORD is not set"),
        ({"KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT", "KAFKA_PASSWORD": SECRET}, "TIDEMARK_KAFKA_USERNAME is not set"),
        (USER, "TIDEMARK_KAFKA_SECURITY_PROTOCOL is PLAINTEXT"),
        ({**USER, "KAFKA_SECURITY_PROTOCOL": "SSL"}, "SASL_SSL sends them encrypted"),
        ({"KAFKA_CA_FILE": "ca.pem"}, "set SSL or SASL_SSL"),
        ({"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_CA_FILE": "/nowhere/ca.pem"}, "TIDEMARK_KAFKA_CA_FILE: /nowhere"),
        (
            {"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_CERTIFICATE_FILE": "x.pem"},
            "TIDEMARK_KAFKA_CERTIFICATE_FILE is set and TIDEMARK_KAFKA_KEY_FILE is not",
        ),
        (
            {"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_KEY_FILE": "x.key"},
            "TIDEMARK_KAFKA_KEY_FILE is set and TIDEMARK_KAFKA_CERTIFICATE_FILE is not",
        ),
        (
            {"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_KEY_PASSWORD": SECRET},
            "TIDEMARK_KAFKA_KEY_PASSWORD is set and TIDEMARK_KAFKA_KEY_FILE is not",
        ),
        ({"KAFKA_SASL_MECHANISM": "GSSAPI"}, "TIDEMARK_KAFKA_SASL_MECHANISM"),
        ({"REDIS_USERNAME": "x"}, "TIDEMARK_REDIS_PASSWORD is not"),
        (
            {"REDIS_URL": f"redis://:{SECRET}@a", "REDIS_PASSWORD": SECRET},
            "TIDEMARK_REDIS_PASSWORD is set, and TIDEMARK_REDIS_URL has one too",
        ),
        (
            {"REDIS_URL": f"redis://me:{SECRET}@a", "REDIS_USERNAME": "you"},
            "TIDEMARK_REDIS_USERNAME is set, and TIDEMARK_REDIS_URL has one too",
        ),
        ({"REDIS_CA_FILE": "ca.pem"}, "take rediss"),
        ({"REDIS_URL": "rediss://a", "REDIS_CA_FILE": "/nowhere/ca.pem"}, "TIDEMARK_REDIS_CA_FILE: /nowhere"),
        ({"REDIS_SENTINEL_PASSWORD": SECRET}, "names no Sentinels"),
    ],
)
def test_what_contradicts_itself_stops_the_start_and_is_named(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, object], said: str
) -> None:
    assert said in refusal_of(monkeypatch, settings)


def test_files_that_do_not_fit_each_other_stop_the_start(
    monkeypatch: pytest.MonkeyPatch, authority: Authority, tmp_path: Path
) -> None:
    one, other = authority.client("one"), authority.client("other", password=SECRET)
    tls: dict[str, object] = {"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_CA_FILE": authority.ca}
    swapped = {**tls, "KAFKA_CERTIFICATE_FILE": one.certificate, "KAFKA_KEY_FILE": authority.client("two").key}
    assert "cannot be used together" in refusal_of(monkeypatch, swapped)
    locked = {**tls, "KAFKA_CERTIFICATE_FILE": other.certificate, "KAFKA_KEY_FILE": other.key}
    assert "TIDEMARK_KAFKA_KEY_FILE is encrypted: set TIDEMARK_KAFKA_KEY_PASSWORD" in refusal_of(monkeypatch, locked)
    assert "its password" in refusal_of(monkeypatch, {**locked, "KAFKA_KEY_PASSWORD": "wrong"})
    (tmp_path / "empty.pem").write_text("nothing\n")
    no_ca = {**locked, "KAFKA_KEY_PASSWORD": SECRET, "KAFKA_CA_FILE": tmp_path / "empty.pem"}
    assert "has no certificate in PEM" in refusal_of(monkeypatch, no_ca)
    monkeypatch.setenv("TIDEMARK_KAFKA_CA_FILE", str(authority.ca))
    assert load().brokers().options()["security_protocol"] == "SSL"


def test_every_secret_is_read_from_its_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("kafka_password", "redis_password", "redis_sentinel_password", "postgres_password"):
        (tmp_path / f"tidemark_{name}").write_text(f"{SECRET}-{name}\n")
    monkeypatch.setenv("TIDEMARK_SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("TIDEMARK_KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT")
    monkeypatch.setenv("TIDEMARK_KAFKA_USERNAME", "tidemark")
    monkeypatch.setenv("TIDEMARK_REDIS_URL", "redis+sentinel://a,b/service")
    monkeypatch.setenv("TIDEMARK_REDIS_USERNAME", "tidemark-api")
    monkeypatch.setenv("TIDEMARK_POSTGRES_URL", "postgresql://tidemark@db/tidemark")
    settings = load()
    assert settings.brokers().options()["sasl_plain_password"] == f"{SECRET}-kafka_password"
    address = parse(settings.redis())
    assert f"tidemark-api:{SECRET}-redis_password@" in address.url
    assert address.sentinel_options == {"password": f"{SECRET}-redis_sentinel_password"}
    assert f"password={SECRET}-postgres_password" in settings.postgres()
    shown = f"{settings!r} {settings.model_dump()} {settings.brokers()!r} {settings.brokers()} {address!r}"
    assert SECRET not in shown


@pytest.mark.parametrize("password", ["p@ss:w/o?r#d%20&x=y", "ü€", "+ +"])
def test_any_password_reaches_redis_as_it_is(password: str) -> None:
    from redis.asyncio.connection import parse_url

    for url in ("redis://redis:6379/0", "rediss://tidemark@redis:6379/0", "unix:///run/redis.sock?db=1"):
        said = parse_url(parse(Credentials("" if "@" in url else "tidemark", password).within(url)).url)
        assert (said["username"], said["password"]) == ("tidemark", password), url


def test_redis_is_told_the_files_and_nodes_of_a_cluster_are_too(authority: Authority) -> None:
    identity = authority.client("tidemark", password=SECRET)
    files = Certificates("TIDEMARK_REDIS", authority.ca, identity.certificate, identity.key, SECRET)
    for url in ("rediss://a:1/0", "rediss+cluster://a:1,b:2", "rediss+sentinel://a:1/service/0"):
        address = parse(Credentials(certificates=files).within(url))
        assert f"ssl_password={SECRET}" in address.url
        assert address.is_verified
        assert SECRET not in repr(files)
    assert not parse("rediss://a?ssl_cert_reqs=none").is_verified
    assert not parse("rediss://a?ssl_check_hostname=false").is_verified


def test_the_name_in_a_certificate_is_always_compared(authority: Authority) -> None:
    context = Certificates("TIDEMARK_KAFKA", ca=authority.ca).context()
    assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)
    names = {name for name in Settings.model_fields if re.search("verify|insecure|hostname", name)}
    assert names == {"insecure"}, "a switch that turns it off"


def test_a_file_that_was_replaced_is_read_again(authority: Authority, tmp_path: Path) -> None:
    identity = authority.client("one")
    certificates = Certificates("TIDEMARK_KAFKA", authority.ca, identity.certificate, identity.key)
    before = certificates.context()
    assert certificates.context() is before
    replaced = Authority(tmp_path / "next").client("one")
    identity.key.write_bytes(replaced.key.read_bytes())
    identity.certificate.write_bytes(replaced.certificate.read_bytes())
    assert certificates.context() is not before


@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"])
def test_faust_is_told_the_same_as_every_other_client(protocol: str, authority: Authority) -> None:
    from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth

    is_asked = protocol.startswith("SASL")
    brokers = Brokers(
        "a:1,b:2",
        protocol,  # type: ignore[arg-type]  # one of the four
        mechanism="SCRAM-SHA-256",
        username="tidemark" if is_asked else "",
        password=SECRET if is_asked else "",
        certificates=Certificates("TIDEMARK_KAFKA", ca=authority.ca if protocol.endswith("SSL") else None),
    )
    brokers.check()
    expected = {name: value for name, value in brokers.options().items() if name != "bootstrap_servers"}
    told = credentials_to_aiokafka_auth(faust_credentials(brokers))
    assert {name: value for name, value in told.items() if value is not None} == expected
    assert SECRET not in repr(faust_credentials(brokers))


def test_what_stays_on_this_machine_need_not_be_encrypted() -> None:
    def level(*hosts: str, is_encrypted: bool = False) -> str:
        return encryption_finding("x", "no TLS", hosts, is_encrypted=is_encrypted, advice="encrypt").level

    assert level("127.0.0.1", "localhost", "::1", "/run/socket", "") == "ok"
    assert level("127.0.0.1", "kafka-0.kafka") == "warning"
    assert level("10.0.0.7") == "warning"
    assert level("kafka-0.kafka", is_encrypted=True) == "ok"


def test_every_client_is_made_of_the_one_place_that_knows_how_to_be_let_in() -> None:
    """A client that names its servers itself would be refused by, or worse, speak plainly to, a guarded one."""
    makers = {
        "bootstrap_servers": "state/brokers.py",
        "kafka_brokers": "settings.py",
        "redis_url.get_secret_value": "settings.py",
        "postgres_url.get_secret_value": "settings.py",
    }
    found = {
        (word, str(path.relative_to(ROOT)))
        for folder in ("api", "cli", "local", "state", "stream")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for word, home in makers.items()
        if word in path.read_text(encoding="utf-8") and str(path.relative_to(ROOT)) != home
    }
    # By the name alone: what is said to people, what a command line or an embedded stack puts in its place.
    told = {"cli/outlets.py", "cli/replaying.py", "cli/replay.py", "cli/simulate.py", "cli/running.py", "stream/app.py"}
    assert {one for one in found if one[0] != "kafka_brokers"} == set()
    assert {path for _, path in found} <= told
