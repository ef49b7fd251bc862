"""PostgreSQL over TLS with its password in a file: all that writes and reads gets in, who is refused is told why."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.main import app
from detection.errors import DependencyError, SettingsError
from settings import load
from state.database import Database
from state.migrate import migrate
from tests.authority import Authority
from tests.guarded_postgres import GuardedPostgres

pytestmark = pytest.mark.debian

WRONG = "wrong-secret-4c1d"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[GuardedPostgres]:
    server = GuardedPostgres(tmp_path_factory.mktemp("guarded-postgres"), authority)
    server.start()
    yield server
    server.stop()


def told(monkeypatch: pytest.MonkeyPatch, folder: Path, url: str, password: str) -> str:
    """What settings that have the password in a file come to."""
    (folder / "tidemark_postgres_password").write_text(f"{password}\n")
    monkeypatch.setenv("TIDEMARK_SECRETS_DIR", str(folder))
    monkeypatch.setenv("TIDEMARK_POSTGRES_URL", url)
    return load().postgres()


def doctor() -> dict[str, dict[str, Any]]:
    done = CliRunner().invoke(app, ["doctor", "--json", "--timeout", "5"])
    return {one["name"]: one for one in json.loads(done.stdout)["checks"]}


async def test_migrations_the_pool_and_the_doctor_are_let_in(
    postgres: GuardedPostgres, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = told(monkeypatch, tmp_path, postgres.verified_url(authority.ca), postgres.password)
    migrate(url)
    async with Database(url) as database, database.connection() as connection:
        found = await connection.execute("select ssl from pg_stat_ssl where pid = pg_backend_pid()")
        assert await found.fetchone() == (True,)
    migrate(url)


def test_the_doctor_says_that_it_is_encrypted_and_whether_it_is_known_who_answers(
    postgres: GuardedPostgres, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(monkeypatch, tmp_path, postgres.verified_url(authority.ca), postgres.password)
    assert doctor()["postgres.encryption"]["found"] == "TLS, sslmode verify-full"
    told(monkeypatch, tmp_path, postgres.bare_url, postgres.password)
    said = doctor()["postgres.encryption"]
    assert (said["status"], "verify-full" in said["advice"]) == ("warning", True)


@pytest.mark.parametrize("fault", ["authority", "name", "password", "plaintext"])
async def test_who_is_refused_is_told_what_to_do_and_no_password(
    fault: str, postgres: GuardedPostgres, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = Authority(tmp_path / "stranger", "nobody we know")
    url, password, wanted = {
        "authority": (postgres.verified_url(stranger.ca), postgres.password, "set sslrootcert"),
        # Its name leads to the loopback, and is not in the certificate.
        "name": (
            f"{postgres.verified_url(authority.ca, host='db.example')}&hostaddr=127.0.0.1",
            postgres.password,
            "as that does",
        ),
        "password": (postgres.verified_url(authority.ca), WRONG, "TIDEMARK_POSTGRES_PASSWORD"),
        "plaintext": (f"{postgres.bare_url}?sslmode=disable", postgres.password, "sslmode=verify-full"),
    }[fault]
    connectable = told(monkeypatch, tmp_path, url, password)
    with pytest.raises(DependencyError) as refused:
        migrate(connectable)
    assert wanted in str(refused.value)
    finding = (await asyncio.to_thread(doctor))["postgres"]
    assert (finding["status"], wanted in finding["found"]) == ("failed", True)
    said = f"{refused.value} {finding}"
    async with Database(connectable, timeout_seconds=3) as database:
        with pytest.raises(DependencyError) as away:
            await database.ping()
    for secret in (postgres.password, WRONG):
        assert secret not in f"{said} {away.value}"


def test_a_password_in_the_url_and_beside_it_stops_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="TIDEMARK_POSTGRES_PASSWORD is set, and TIDEMARK_POSTGRES_URL has one"):
        told(monkeypatch, tmp_path, f"postgresql://tidemark:{WRONG}@db/tidemark", WRONG)


def test_a_url_that_libpq_cannot_read_stops_the_start_and_is_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SettingsError, match="TIDEMARK_POSTGRES_URL is not postgresql://") as refused:
        told(monkeypatch, tmp_path, f"postgresql://tidemark:{WRONG}@db:port/tidemark?sslmod=require", "")
    assert WRONG not in str(refused.value)
    with pytest.raises(SettingsError, match="no such file"):
        told(monkeypatch, tmp_path, "postgresql://db/x?sslmode=verify-full&sslrootcert=/nowhere/ca.pem", "")
