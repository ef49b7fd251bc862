"""Kafka's brokers and how to be let in by them: the one place that knows what every client of Kafka is made with.

PLAINTEXT        nothing is encrypted, nobody is asked who they are
SSL              encrypted; who asks may be asked for a certificate
SASL_PLAINTEXT   a user with a password, on a connection that anybody between can read
SASL_SSL         a user with a password, encrypted
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from detection.errors import SettingsError
from state.certificates import Certificates

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]

_SETTING: Final = "TIDEMARK_KAFKA"
_NO_CERTIFICATES: Final = Certificates(_SETTING)


@dataclass(frozen=True, slots=True)
class Brokers:
    """Bootstrap brokers, `host:port` with commas, and who we are to them; shows no password.

    `check` says whether the parts fit together.
    """

    hosts: str
    protocol: Protocol = "PLAINTEXT"
    mechanism: Mechanism = "SCRAM-SHA-512"
    username: str = ""
    password: str = field(default="", repr=False)
    certificates: Certificates = _NO_CERTIFICATES

    def __str__(self) -> str:
        return self.hosts

    def names(self) -> tuple[str, ...]:
        """The hosts without their ports."""
        return tuple(one.strip().rpartition(":")[0].strip("[]") or one.strip() for one in self.hosts.split(","))

    @property
    def is_encrypted(self) -> bool:
        """Whether nobody between can read or change what is said."""
        return self.protocol in {"SSL", "SASL_SSL"}

    @property
    def is_asked_for_user(self) -> bool:
        """Whether we say who we are by a name and a password."""
        return self.protocol in {"SASL_PLAINTEXT", "SASL_SSL"}

    def check(self) -> None:
        """Raises SettingsError that names the settings which contradict each other, or a file that cannot be used."""
        said = f"{_SETTING}_SECURITY_PROTOCOL is {self.protocol}"
        if self.is_asked_for_user:
            for name, value in (("USERNAME", self.username), ("PASSWORD", self.password)):
                if not value:
                    raise SettingsError(f"{said}, and {_SETTING}_{name} is not set")
        elif self.username or self.password:
            raise SettingsError(
                f"{_SETTING}_USERNAME or {_SETTING}_PASSWORD is set, and {said}: "
                "SASL_SSL sends them encrypted, SASL_PLAINTEXT does not"
            )
        if self.is_encrypted:
            self.certificates.check()
        elif not self.certificates.is_empty:
            raise SettingsError(
                f"a {_SETTING}_..._FILE or {_SETTING}_KEY_PASSWORD is set, and {said}: set SSL or SASL_SSL"
            )

    def options(self) -> Mapping[str, Any]:
        """What each client of aiokafka takes: producers, consumers, admins alike."""
        return {"bootstrap_servers": [one.strip() for one in self.hosts.split(",")], **self.security()}

    def security(self) -> dict[str, Any]:
        """The part of the options that says how one broker is connected to."""
        options: dict[str, Any] = {"security_protocol": self.protocol}
        if self.is_encrypted:
            options["ssl_context"] = self.certificates.context()
        if self.is_asked_for_user:
            options |= {
                "sasl_mechanism": self.mechanism,
                "sasl_plain_username": self.username,
                "sasl_plain_password": self.password,
            }
        return options
