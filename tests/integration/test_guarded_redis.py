"""Redis over TLS, for those who have a certificate and a user: one server, a cluster, and a master behind Sentinels."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from detection.errors import DependencyError
from detection.policy import Policy
from settings import load
from state import acl
from state.redis_store import RedisStore
from tests.authority import Authority
from tests.contract.states import biller
from tests.guarded_redis import PASSWORDS, SERVICE, EncryptedRedis, EncryptedSentinel

pytestmark = pytest.mark.debian

KEY_PASSWORD = "key-secret-61ab"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[dict[str, str]]:
    folder = tmp_path_factory.mktemp("guarded-redis")
    server = EncryptedRedis(folder / "server", authority)
    node = EncryptedRedis(folder / "node", authority, is_cluster=True)
    sentinel = EncryptedSentinel(folder / "sentinel", server, authority)
    with ExitStack() as stack:
        for one in (server, node, sentinel):
            one.start()
            stack.callback(one.stop)
        node.join()
        yield {
            "server": f"rediss://localhost:{server.tls_port}/0",
            "cluster": f"rediss+cluster://localhost:{node.tls_port}",
            "sentinel": f"rediss+sentinel://localhost:{sentinel.tls_port}/{SERVICE}/0",
        }


def told(
    monkeypatch: pytest.MonkeyPatch, url: str, authority: Authority, folder: Path, role: acl.Role = "worker"
) -> None:
    identity = authority.client("tidemark", password=KEY_PASSWORD)
    (folder / "tidemark_redis_password").write_text(PASSWORDS[role])
    (folder / "tidemark_redis_key_password").write_text(KEY_PASSWORD)
    settings = {
        "TIDEMARK_SECRETS_DIR": str(folder),
        "TIDEMARK_REDIS_URL": url,
        "TIDEMARK_REDIS_USERNAME": acl.user(role),
        "TIDEMARK_REDIS_CA_FILE": str(authority.ca),
        "TIDEMARK_REDIS_CERTIFICATE_FILE": str(identity.certificate),
        "TIDEMARK_REDIS_KEY_FILE": str(identity.key),
    }
    if "+sentinel" in url:
        (folder / "tidemark_redis_sentinel_password").write_text(PASSWORDS["sentinel"])
        settings["TIDEMARK_REDIS_SENTINEL_USERNAME"] = acl.user("sentinel")
    for name, value in settings.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("kind", ["server", "cluster", "sentinel"])
async def test_the_store_is_kept_over_tls_with_a_certificate_and_a_user(
    kind: str, urls: dict[str, str], authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(monkeypatch, urls[kind], authority, tmp_path)
    store = RedisStore.connect(load().redis(), Policy())
    state = biller(f"B-{kind}")
    try:
        assert await store.save([state]) == []
        loaded = (await store.load([state.subject]))[state.subject]
        assert loaded.watermark_ms == state.watermark_ms > 0
        assert await store.count_subjects(prefix=f"biller:B-{kind}") == 1
    finally:
        await store.aclose()


def test_the_doctor_says_that_it_is_encrypted_and_who_asks(
    urls: dict[str, str], authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(monkeypatch, urls["server"], authority, tmp_path, "reader")
    done = CliRunner().invoke(app, ["doctor", "--json", "--timeout", "5"])
    checks = {one["name"]: one for one in json.loads(done.stdout)["checks"]}
    assert (checks["redis.encryption"]["status"], checks["redis.encryption"]["found"]) == ("ok", "TLS")
    assert checks["redis.user"]["found"] == "tidemark-reader"
    for secret in (*PASSWORDS.values(), KEY_PASSWORD):
        assert secret not in done.output


async def test_another_authority_is_not_believed_and_it_is_said_what_to_do(
    urls: dict[str, str], authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = Authority(tmp_path / "stranger", "nobody we know")
    told(monkeypatch, urls["server"], authority, tmp_path)
    monkeypatch.setenv("TIDEMARK_REDIS_CA_FILE", str(stranger.ca))
    store = RedisStore.connect(load().redis(), Policy(), retries=0)
    with pytest.raises(DependencyError, match="set TIDEMARK_REDIS_CA_FILE") as refused:
        await store.ping()
    await store.aclose()
    done = await asyncio.to_thread(CliRunner().invoke, app, ["doctor", "--json", "--timeout", "5"])
    (finding,) = (one for one in json.loads(done.stdout)["checks"] if one["name"] == "redis")
    assert (finding["status"], "TIDEMARK_REDIS_CA_FILE" in finding["found"]) == ("failed", True)
    for secret in (*PASSWORDS.values(), KEY_PASSWORD):
        assert secret not in f"{refused.value} {done.output}"


async def test_who_has_no_certificate_is_not_let_in(
    urls: dict[str, str], authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(monkeypatch, urls["server"], authority, tmp_path)
    (tmp_path / "tidemark_redis_key_password").unlink()
    for name in ("CERTIFICATE", "KEY"):
        monkeypatch.delenv(f"TIDEMARK_REDIS_{name}_FILE")
    store = RedisStore.connect(load().redis(), Policy(), retries=0)
    with pytest.raises(DependencyError):
        await store.ping()
    await store.aclose()
