"""What `TIDEMARK_REDIS_URL` names: one server, a master that Sentinels watch, or the nodes of a cluster.

    redis://HOST:PORT/DB                                   one server; rediss:// with TLS, unix:// for a socket
    redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/DB        the Sentinels, and what they call the master
    redis+cluster://HOST:PORT,HOST:PORT                    some nodes; the others are found through them

Credentials (`USER:PASSWORD@` before the first host) and options (`?ssl_ca_certs=...`) are those of the servers, as for
a single one. Sentinels that want credentials too get theirs by `sentinel_username` and `sentinel_password`. All of it
may stand apart from the URL, in settings and files of their own, which `Credentials` puts into it.
"""

from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from detection.errors import SettingsError
from state.certificates import Certificates

Kind = Literal["server", "sentinel", "cluster"]

_KINDS: Final[dict[str, Kind]] = {
    "redis": "server",
    "rediss": "server",
    "unix": "server",
    "redis+sentinel": "sentinel",
    "rediss+sentinel": "sentinel",
    "redis+cluster": "cluster",
    "rediss+cluster": "cluster",
}
_DEFAULT_PORTS: Final = {"sentinel": 26379, "cluster": 6379}
_OF_SENTINELS: Final = ("sentinel_username", "sentinel_password")
_SETTING: Final = "TIDEMARK_REDIS"
_NO_CERTIFICATES: Final = Certificates(_SETTING)


@dataclass(frozen=True, slots=True)
class Address:
    """Where the state is; `url` has the credentials and options in the form for one server, and is never shown."""

    kind: Kind
    url: str = field(repr=False)
    hosts: tuple[tuple[str, int], ...] = ()
    service: str = ""
    sentinel_options: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def is_encrypted(self) -> bool:
        """Whether nobody between can read or change what is said."""
        return self.url.startswith("rediss://")

    @property
    def is_verified(self) -> bool:
        """Whether it is known who answers: the certificate is one that we believe, and has the server's name."""
        options = dict(parse_qsl(urlsplit(self.url).query))
        is_checked = options.get("ssl_check_hostname", "true").lower() not in {"0", "f", "false", "n", "no"}
        return self.is_encrypted and options.get("ssl_cert_reqs", "required") == "required" and is_checked

    @property
    def username(self) -> str:
        """Who we are; empty for the user `default`."""
        return unquote(urlsplit(self.url).username or "")

    @property
    def names(self) -> tuple[str, ...]:
        """The hosts without their ports; none for a socket."""
        return tuple(host for host, _ in self.hosts) or (urlsplit(self.url).hostname or "",)


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who we are to the servers, and to their Sentinels, and whose certificates are believed; shows no password."""

    username: str = ""
    password: str = field(default="", repr=False)
    sentinel_username: str = ""
    sentinel_password: str = field(default="", repr=False)
    certificates: Certificates = _NO_CERTIFICATES

    def within(self, url: str) -> str:
        """The URL with all of it: a secret itself. Raises SettingsError where both say it, or where it has no use.

        >>> Credentials("worker", "p@ss").within("redis://redis:6379/0")
        'redis://worker:p%40ss@redis:6379/0'
        """
        scheme, _, rest = url.partition("://")
        rest, _, query = rest.partition("?")
        options = parse_qsl(query, keep_blank_values=True)
        authority, slash, path = rest.partition("/")
        if scheme == "unix" and (self.username or self.password):
            options += [
                (name, value) for name, value in (("username", self.username), ("password", self.password)) if value
            ]
        else:
            authority = self._named(authority)
        options += self._options(scheme, {name for name, _ in options})
        return f"{scheme}://{authority}{slash}{path}" + (f"?{urlencode(options)}" if options else "")

    def _named(self, authority: str) -> str:
        """The part before the path with the user in it; a URL may name the user, and leave the password to us."""
        credentials, _, hosts = authority.rpartition("@")
        username, _, password = credentials.partition(":")
        for name, there, ours in (("USERNAME", username, self.username), ("PASSWORD", password, self.password)):
            if there and ours:
                raise SettingsError(f"{_SETTING}_{name} is set, and {_SETTING}_URL has one too: leave one of them out")
        if self.username and not (self.password or password):
            raise SettingsError(f"{_SETTING}_USERNAME is set, and {_SETTING}_PASSWORD is not")
        username = username or quote(self.username, safe="")
        password = password or quote(self.password, safe="")
        return f"{username}:{password}@{hosts}" if username or password else hosts

    def _options(self, scheme: str, known: set[str]) -> list[tuple[str, str]]:
        """What goes behind the question mark."""
        files = self.certificates
        options: dict[str, object] = {}
        if not files.is_empty:
            if not scheme.startswith("rediss"):
                raise SettingsError(
                    f"a {_SETTING}_..._FILE is set, and {_SETTING}_URL begins with {scheme}://: take rediss"
                )
            files.check()
            options |= {
                "ssl_ca_certs": files.ca,
                "ssl_certfile": files.certificate,
                "ssl_keyfile": files.key,
                "ssl_password": files.key_password,
            }
        options |= {"sentinel_username": self.sentinel_username, "sentinel_password": self.sentinel_password}
        given = {name: str(value) for name, value in options.items() if value}
        if not scheme.endswith("+sentinel") and given.keys() & set(_OF_SENTINELS):
            raise SettingsError(f"{_SETTING}_SENTINEL_... is set, and {_SETTING}_URL names no Sentinels")
        if twice := sorted(given.keys() & known):
            raise SettingsError(f"{_SETTING}_URL has {', '.join(twice)}, and a setting of its own says it too")
        return list(given.items())


def parse(text: str) -> Address:
    """The address; raises SettingsError that says what is wrong, and shows nothing that may be a password.

    >>> parse("redis+sentinel://a:26379,b/orders/2").hosts
    (('a', 26379), ('b', 26379))
    """
    scheme, separator, rest = text.partition("://")
    kind = _KINDS.get(scheme)
    if not separator or kind is None:
        raise SettingsError(f"a Redis URL begins with one of {', '.join(f'{name}://' for name in _KINDS)}")
    if kind == "server":
        return _server(text)
    rest, _, query = rest.partition("?")
    authority, _, path = rest.partition("/")
    credentials, at, hosts = authority.rpartition("@")
    found = tuple(_host(one, _DEFAULT_PORTS[kind]) for one in hosts.split(","))
    service, database = _path(kind, path)
    options = dict(parse_qsl(query, keep_blank_values=True))
    sentinel_options = {name: options.pop(name) for name in _OF_SENTINELS if kind == "sentinel" and name in options}
    host, port = found[0]
    url = f"{scheme.partition('+')[0]}://{credentials}{at}{f'[{host}]' if ':' in host else host}:{port}/{database}"
    return Address(
        kind,
        f"{url}?{urlencode(options)}" if options else url,
        hosts=found,
        service=service,
        sentinel_options={name.removeprefix("sentinel_"): value for name, value in sentinel_options.items()},
    )


def _server(text: str) -> Address:
    try:
        split = urlsplit(text)
        if "," in split.netloc.rpartition("@")[2]:
            raise SettingsError("a Redis URL of several hosts begins with redis+sentinel:// or redis+cluster://")
        # Read for its check: a port that is no number, or out of range.
        _ = split.port
    except ValueError:
        raise SettingsError("the host or port of the Redis URL cannot be read") from None
    return Address("server", text)


def _host(text: str, default_port: int) -> tuple[str, int]:
    # A host that cannot be read is not quoted: a password with an unescaped sign in it ends up here.
    unreadable = SettingsError("the hosts of a Redis URL are HOST:PORT, separated by commas, with a port of 1 to 65535")
    try:
        split = urlsplit(f"//{text}")
        host, port = split.hostname, split.port
    except ValueError:
        raise unreadable from None
    if not host or port == 0 or split.netloc != text or "@" in text:
        raise unreadable
    return host, default_port if port is None else port


def _path(kind: Kind, path: str) -> tuple[str, int]:
    """The service name and the database."""
    parts = [unquote(part) for part in path.split("/")] if path else []
    service = ""
    if kind == "sentinel":
        if not parts or not parts[0]:
            raise SettingsError("a Redis URL of Sentinels ends with the name of the service: /SERVICE or /SERVICE/DB")
        service, *parts = parts
    parts = [part for part in parts if part]
    if len(parts) > 1 or not all(part.isdecimal() for part in parts):
        raise SettingsError("the database of a Redis URL is one number")
    database = int(parts[0]) if parts else 0
    if kind == "cluster" and database:
        raise SettingsError("a Redis Cluster has database 0 only")
    return service, database
