"""A Valkey, or Debian's Redis with TLS, whose users are the ones that we ship, and one of the tests' own."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from local.ports import LOOPBACK, free_port
from local.server import NotHealthyError
from local.valkey import Valkey
from state import acl
from tests.authority import Authority
from tests.contract.redis_servers import wait_until

PASSWORDS: dict[acl.Role, str] = {role: f"secret-of-{role}-91c4" for role in acl.ROLES}

_ADMIN = "tests"
_ADMIN_PASSWORD = "secret-of-the-tests"


class GuardedValkey(Valkey):
    """Asks everybody who they are; `denied` is what it refused."""

    options: Sequence[str] = ()

    def command(self) -> Sequence[str]:
        users = self.folder / "users.acl"
        admin = f"user {_ADMIN} on >{_ADMIN_PASSWORD} ~* &* +@all\n"
        users.write_text(acl.users({role: PASSWORDS[role] for role in acl.OF_SERVERS}) + admin, encoding="utf-8")
        return [*super().command(), "--aclfile", str(users), *self.options]

    def admin(self) -> redis.Redis:
        """A client that may do everything."""
        return redis.Redis(
            host=LOOPBACK,
            port=self.port,
            username=_ADMIN,
            password=_ADMIN_PASSWORD,
            decode_responses=True,
            socket_timeout=5,
            retry=Retry(NoBackoff(), 0),
        )

    def denied(self) -> list[str]:
        """`user: what` for each kind of refusal since the last `forget_denied`."""
        with self.admin() as client:
            found = client.acl_log(128)
        return [f"{one['username']}: {one['reason']} {one['object']} ({one['context']})" for one in found]

    def forget_denied(self) -> None:
        with self.admin() as client:
            client.acl_log_reset()

    def probe(self) -> None:
        try:
            with self.admin() as client:
                answering = client.info("server")["process_id"]
                client.ping()
        except redis.RedisError as error:
            raise NotHealthyError(str(error)) from None
        if answering != self.pid:
            raise NotHealthyError(f"process {answering} answers on its port")


class EncryptedRedis(GuardedValkey):
    """Debian's Redis: `tls_port` speaks TLS to those who have a certificate of the authority, and to nobody else.

    The wheel's Valkey was built without TLS. With `is_cluster`, it is a cluster of one node, once `join` was called.
    """

    name = "redis-tls"

    def __init__(self, data_dir: Path, authority: Authority, *, is_cluster: bool = False) -> None:
        super().__init__(data_dir, free_port())
        self._authority = authority
        self.tls_port = free_port()
        self._is_cluster = is_cluster

    def command(self) -> Sequence[str]:
        _, *rest = super().command()
        cluster = ["--cluster-enabled", "yes", "--tls-cluster", "yes", "--cluster-port", str(free_port())]
        return [
            str(redis_server(self.folder)),
            *rest,
            *tls_options(self.tls_port, self._authority),
            *(cluster if self._is_cluster else []),
        ]

    def join(self) -> None:
        """Give the only node all slots; what has them is a cluster some moments later."""
        with self.admin() as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            wait_until(lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")


class EncryptedSentinel(Valkey):
    """Watches an EncryptedRedis as `SERVICE`, by TLS in both directions; its user is the one that we ship."""

    name = "sentinel-tls"

    def __init__(self, data_dir: Path, master: EncryptedRedis, authority: Authority) -> None:
        super().__init__(data_dir, free_port())
        self._master = master
        self._authority = authority
        self.tls_port = free_port()

    def command(self) -> Sequence[str]:
        role: acl.Role = "sentinel"
        config = self.folder / "sentinel.conf"
        lines = [
            f"port {self.port}",
            f"bind {LOOPBACK}",
            f"dir {self.folder}",
            "tls-replication yes",
            f"sentinel monitor {SERVICE} {LOOPBACK} {self._master.tls_port} 1",
            f"sentinel auth-user {SERVICE} {_ADMIN}",
            f"sentinel auth-pass {SERVICE} {_ADMIN_PASSWORD}",
            f"user {acl.user(role)} on >{PASSWORDS[role]} {acl.rules(role)}",
        ]
        config.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return [
            str(redis_server(self.folder)),
            str(config),
            "--sentinel",
            *tls_options(self.tls_port, self._authority),
        ]


SERVICE = "learned-state"


def tls_options(port: int, authority: Authority) -> list[str]:
    """A port for those who have a certificate of the authority."""
    identity = authority.server("redis")
    return [
        *("--tls-port", str(port), "--tls-ca-cert-file", str(authority.ca), "--tls-auth-clients", "yes"),
        *("--tls-cert-file", str(identity.certificate), "--tls-key-file", str(identity.key)),
    ]


def redis_server(folder: Path) -> Path:
    """Debian's Redis; its package redis-tools has the same program under the name of a checker, which it looks at."""
    found = shutil.which("redis-server")
    if found is not None:
        return Path(found)
    checker = shutil.which("redis-check-rdb")
    assert checker is not None, "install Debian's redis-tools"
    link = folder / "redis-server"
    link.unlink(missing_ok=True)
    link.symlink_to(checker)
    return link
