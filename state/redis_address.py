"""What `TIDEMARK_REDIS_URL` names: one server, a master that Sentinels watch, or the nodes of a cluster.

    redis://HOST:PORT/DB                                   one server; rediss:// with TLS, unix:// for a socket
    redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/DB        the Sentinels, and what they call the master
    redis+cluster://HOST:PORT,HOST:PORT                    some nodes; the others are found through them

Credentials (`USER:PASSWORD@` before the first host) and options (`?ssl_ca_certs=...`) are those of the servers, as for
a single one. Sentinels that want credentials too get theirs by `sentinel_username` and `sentinel_password`.
"""

from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from detection.errors import SettingsError

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


@dataclass(frozen=True, slots=True)
class Address:
    """Where the state is; `url` has the credentials and options in the form for one server, and is never shown."""

    kind: Kind
    url: str = field(repr=False)
    hosts: tuple[tuple[str, int], ...] = ()
    service: str = ""
    sentinel_options: dict[str, str] = field(default_factory=dict, repr=False)


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
