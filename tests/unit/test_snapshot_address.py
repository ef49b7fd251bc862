"""Where snapshots go: never anywhere without TLS, and nothing secret is ever shown."""

from pathlib import Path

import orjson
import pytest

from detection.errors import RetryError, SettingsError
from settings import Settings, load
from state.snapshots.address import parse
from state.snapshots.storage import Storage

SECRET = "c2VjcmV0IGtleSBvZiBhbiBhY2NvdW50"


def options(**said: object) -> str:
    return orjson.dumps(said).decode()


@pytest.mark.parametrize(
    ("url", "place", "prefix"),
    [
        ("az://models/tide/marks", "models", "tide/marks"),
        ("s3://models", "models", ""),
        ("gs://models/tide/", "models", "tide"),
        ("file:///var/lib/tide%20marks/", "/var/lib/tide marks", ""),
    ],
)
def test_an_address_names_a_place_and_a_prefix(url: str, place: str, prefix: str) -> None:
    address = parse(url)
    assert (address.place, address.prefix, address.is_plain) == (place, prefix, False)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "begins with one of az://"),
        ("http://models/x", "begins with one of az://"),
        ("models", "begins with one of az://"),
        ("s3://", "names no container or bucket"),
        ("s3://user:password@models/x", "no credentials"),
        ("az://models/x?sig=password", "no credentials and no options"),
        ("az://models/../x", "leads nowhere"),
        ("file://host/folder", "from the root on"),
        ("file:///", "from the root on"),
        ("s3://models:password/x", "cannot be read"),
    ],
)
def test_an_address_that_is_none_is_refused_and_never_shown(url: str, why: str) -> None:
    with pytest.raises(SettingsError, match=why) as refusal:
        parse(url)
    assert "password" not in str(refusal.value)


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://storage.example.org",
        "http://10.0.0.7:10000/account",
        "http://127.0.0.1.example.org",
        "http://localhost.example.org",
        "ftp://127.0.0.1",
        "storage.example.org",
        "HTTP://storage.example.org",
    ],
)
@pytest.mark.parametrize("name", ["endpoint", "Endpoint", "aws_endpoint", "azure_storage_endpoint", "base_url"])
def test_an_endpoint_without_tls_is_refused(endpoint: str, name: str) -> None:
    with pytest.raises(SettingsError, match="has no TLS"):
        parse("s3://models", options(**{name: endpoint}))


@pytest.mark.parametrize(
    "endpoint", ["http://127.0.0.1:10000/devstoreaccount1", "http://[::1]:1", "http://localhost:9000"]
)
def test_an_emulator_on_this_machine_may_be_plain(endpoint: str) -> None:
    assert parse("az://models", options(endpoint=endpoint)).is_plain
    assert not parse("az://models", options(endpoint="https://storage.example.org")).is_plain


@pytest.mark.parametrize("name", ["allow_http", "aws_allow_http", "use_emulator", "allow_invalid_certificates"])
def test_options_that_would_give_tls_up_are_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="is not taken"):
        parse("az://models", options(**{name: True}))


def test_an_emulator_named_by_a_variable_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    # The library would send the request, and the signature with it, to this host over plain HTTP.
    monkeypatch.setenv("AZURE_STORAGE_USE_EMULATOR", "true")
    monkeypatch.setenv("AZURITE_BLOB_STORAGE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AZURE_ALLOW_HTTP", "true")
    storage = Storage.open(parse("az://models", options(account_name="tide", account_key=SECRET)), is_patient=False)
    with pytest.raises(RetryError) as refusal:
        storage.get("x")
    assert "http://" not in str(refusal.value)
    assert "https://tide.blob.core.windows.net" in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "url"),
    [("AWS_ENDPOINT_URL", "s3://models"), ("AZURE_STORAGE_ENDPOINT", "az://models"), ("AWS_ENDPOINT", "s3://models")],
)
def test_an_endpoint_of_the_cloud_s_own_variables_has_tls_too(
    monkeypatch: pytest.MonkeyPatch, name: str, url: str
) -> None:
    monkeypatch.setenv(name, "http://storage.example.org")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    with pytest.raises(SettingsError, match=name):
        Storage.open(parse(url, options()))


def test_options_that_nobody_knows_are_named_and_their_values_are_not() -> None:
    with pytest.raises(SettingsError, match="accout_key") as refusal:
        Storage.open(parse("az://models", options(account_name="tide", accout_key=SECRET)))
    assert SECRET not in str(refusal.value)


def test_a_key_that_cannot_be_read_is_not_quoted() -> None:
    with pytest.raises(SettingsError) as refusal:
        Storage.open(parse("az://models", options(account_name="tide", account_key=f"%{SECRET}")))
    assert SECRET not in str(refusal.value)


@pytest.mark.parametrize("text", ["[]", "no json", '{"account_key": ["secret"]}', '{"a": {}}'])
def test_options_that_are_no_object_of_texts_are_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="TIDEMARK_SNAPSHOT_OPTIONS") as refusal:
        parse("az://models", text)
    assert "secret" not in str(refusal.value)


def test_settings_refuse_it_at_the_start_and_keep_the_options_to_themselves(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TIDEMARK_SNAPSHOT_URL", "az://models/tide")
    (tmp_path / "tidemark_snapshot_options").write_text(options(account_name="tide", account_key=SECRET))
    monkeypatch.setenv("TIDEMARK_SECRETS_DIR", str(tmp_path))
    settings = load()
    assert settings.snapshots().options["account_key"] == SECRET
    address = settings.snapshots()
    assert SECRET not in f"{settings!r} {address!r} {address} {Storage.open(address)}"
    monkeypatch.setenv("TIDEMARK_SNAPSHOT_URL", "http://models")
    with pytest.raises(SettingsError, match="TIDEMARK"):
        load()


def test_without_an_address_the_setting_is_named() -> None:
    with pytest.raises(SettingsError, match="TIDEMARK_SNAPSHOT_URL names no place"):
        Settings().snapshots()


def test_a_certificate_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="TIDEMARK_SNAPSHOT_CA_FILE"):
        Storage.open(parse("s3://models"), certificates=tmp_path / "missing.pem")
