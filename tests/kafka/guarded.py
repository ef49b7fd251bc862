"""Apache Kafka that asks who asks: beside the open listener, which tests probe, it has one of each other kind."""

from collections.abc import Sequence
from pathlib import Path

from local.ports import LOOPBACK, free_port
from tests.authority import Authority
from tests.kafka.apache import ApacheKafka

USER = "tidemark"
PASSWORD = "kafka-secret-0d3f"

_LISTENERS = {"SASLSSL": "SASL_SSL", "MUTUAL": "SSL", "SASLPLAIN": "SASL_PLAINTEXT"}


class GuardedKafka(ApacheKafka):
    """One node with certificates of `authority`; `USER` is known to SCRAM-SHA-512 and to PLAIN."""

    format_options: Sequence[str] = ("--add-scram", f"SCRAM-SHA-512=[name={USER},password={PASSWORD}]")

    def __init__(self, data_dir: Path, authority: Authority) -> None:
        super().__init__(data_dir)
        self._authority = authority
        self._ports: dict[str, int] = {}

    def listener(self, name: str) -> str:
        """`host:port` of `SASLSSL`, `MUTUAL` or `SASLPLAIN`, by the name in its certificate."""
        return f"localhost:{self._ports[name]}"

    def _properties(self) -> dict[str, object]:
        properties = super()._properties()
        for name in _LISTENERS:
            self._ports.setdefault(name, self._free_port())
        bound = "".join(f",{name}://{LOOPBACK}:{self._ports[name]}" for name in _LISTENERS)
        advertised = "".join(f",{name}://{self.listener(name)}" for name in _LISTENERS)
        identity = self._authority.server()
        # One file with both, as Kafka wants it.
        keystore = self.folder / "keystore.pem"
        keystore.write_bytes(identity.key.read_bytes() + identity.certificate.read_bytes())
        protocols = {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT", **_LISTENERS}
        properties |= {
            "listeners": f"{properties['listeners']}{bound}",
            "advertised.listeners": f"{properties['advertised.listeners']}{advertised}",
            "listener.security.protocol.map": ",".join(f"{name}:{one}" for name, one in protocols.items()),
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": keystore,
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": self._authority.ca,
            "listener.name.mutual.ssl.client.auth": "required",
        }
        scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        plain = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
        for name in ("saslssl", "saslplain"):
            properties |= {
                f"listener.name.{name}.sasl.enabled.mechanisms": "SCRAM-SHA-512,PLAIN",
                f"listener.name.{name}.scram-sha-512.sasl.jaas.config": scram,
                f"listener.name.{name}.plain.sasl.jaas.config": plain,
            }
        return properties

    def _free_port(self) -> int:
        taken = {self.port, *self._quorum.values(), *self._ports.values()}
        while (port := free_port()) in taken:
            pass
        return port
