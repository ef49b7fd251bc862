"""Whom we believe, and who we are: the files of TLS that one server's connections use.

A server's certificate is always checked, its name too: there is no setting that turns this off, because a connection
that is encrypted for whoever answers is one to whoever answers.
"""

import ssl
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from detection.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Certificates:
    """CAs in PEM (None: those of the system), and our own certificate with its key where the server asks for one.

    `of` is what the settings of these files begin with, for people who are told what is wrong with them.
    """

    of: str
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    key_password: str = field(default="", repr=False)

    @property
    def is_empty(self) -> bool:
        """Whether nothing of it was set."""
        return self == Certificates(self.of)

    def check(self) -> None:
        """Read all files; raises SettingsError that names the setting of what is missing or does not fit."""
        if (self.certificate is None) != (self.key is None):
            which, other = ("CERTIFICATE", "KEY") if self.key is None else ("KEY", "CERTIFICATE")
            raise SettingsError(
                f"{self.of}_{which}_FILE is set and {self.of}_{other}_FILE is not: one proves the other"
            )
        if self.key_password and self.key is None:
            raise SettingsError(f"{self.of}_KEY_PASSWORD is set and {self.of}_KEY_FILE is not")
        for name, path in (("CA", self.ca), ("CERTIFICATE", self.certificate), ("KEY", self.key)):
            if path is not None:
                _must_be_readable(f"{self.of}_{name}_FILE", path)
        self.context()

    def context(self) -> ssl.SSLContext:
        """For clients: made anew when a file has changed, so that new connections have the new certificates."""
        files = (self.ca, self.certificate, self.key)
        try:
            return _context(self, tuple(path.stat().st_mtime_ns for path in files if path is not None))
        except OSError as error:
            raise SettingsError(f"{self.of}: {error.filename}: {error.strerror}") from None


def _must_be_readable(setting: str, path: Path) -> None:
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise SettingsError(f"{setting}: {path}: {error.strerror}") from None


@lru_cache(maxsize=8)
def _context(certificates: Certificates, _changed: tuple[int, ...]) -> ssl.SSLContext:
    of = certificates.of
    try:
        context = ssl.create_default_context(cafile=certificates.ca)
    except ssl.SSLError as error:
        raise SettingsError(f"{of}_CA_FILE: {certificates.ca} has no certificate in PEM: {error.reason}") from None
    if certificates.certificate is not None:
        # Without a password here, OpenSSL would ask the terminal for one.
        password = certificates.key_password or _asked_for_password
        try:
            context.load_cert_chain(certificates.certificate, certificates.key, password)
        except _PasswordNeededError:
            raise SettingsError(f"{of}_KEY_FILE is encrypted: set {of}_KEY_PASSWORD") from None
        except ssl.SSLError as error:
            raise SettingsError(
                f"{of}_CERTIFICATE_FILE and {of}_KEY_FILE cannot be used together ({error.reason or 'not readable'}): "
                f"is the key this certificate's own, and {of}_KEY_PASSWORD its password?"
            ) from None
    return context


class _PasswordNeededError(Exception):
    """Never leaves this module."""


def _asked_for_password() -> str:
    raise _PasswordNeededError
