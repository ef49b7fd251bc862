"""Who may ask the API for what: of each key its digest, what it may do, and until when. The key itself is kept nowhere.

A key is `tm_ID_SECRET`: the id finds what is kept of it, and the secret is 256 random bits. So a single SHA-256 is as
slow to guess as anybody can wish; functions that are slow on purpose are for what people choose (OWASP, Password
Storage).
"""

import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence
from typing import Final, Literal, Protocol, get_args

import msgspec
import structlog

from detection.errors import InputError
from detection.rules.glob import matcher
from detection.subject import Subject

log = structlog.get_logger()

Scope = Literal["read", "ingest", "train", "admin"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)

EVERYTHING: Final = ("*",)

MOST_KEYS: Final = 10_000
_PREFIX: Final = "tm"
_ID_BYTES: Final = 6
_SECRET_BYTES: Final = 32
_MOST_CHARACTERS: Final = 100
_LONGEST_NAME: Final = 100
_MOST_SUBJECTS: Final = 100
# What the secret of an id that nobody has is compared with: to be refused takes as long as with one that somebody has.
_NO_DIGEST: Final = hashlib.sha256(b"").hexdigest()


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of one key; `subjects` are globs of `biller:ID` or `model:NAME/VERSION`, `*` of all.

    `per_second` is how many requests it may send in a second, None for any number. Times in milliseconds.
    """

    id: str
    name: str
    digest: str
    scopes: tuple[Scope, ...]
    subjects: tuple[str, ...] = EVERYTHING
    created_ms: int
    expires_ms: int | None = None
    per_second: int | None = None

    def is_valid(self, now_ms: int) -> bool:
        """Whether it has not expired."""
        return self.expires_ms is None or now_ms < self.expires_ms


class ApiKeys(Protocol):
    """The keys that are known; DependencyError while nobody can say."""

    async def all(self) -> dict[str, ApiKey]:
        """Every key by its id."""
        ...

    async def keep(self, key: ApiKey) -> None:
        """Keep this one, in place of one with the same id."""
        ...

    async def forget(self, key_id: str) -> bool:
        """Keep it no longer; whether it was there."""
        ...


class MemoryApiKeys:
    """Keys that are gone with their process."""

    def __init__(self) -> None:
        self.fields: dict[bytes, bytes] = {}

    async def all(self) -> dict[str, ApiKey]:
        return decode_keys(self.fields)

    async def keep(self, key: ApiKey) -> None:
        self.fields[key.id.encode()] = encode_key(key)

    async def forget(self, key_id: str) -> bool:
        return self.fields.pop(key_id.encode(), None) is not None


def new_key(
    name: str,
    scopes: Sequence[str],
    *,
    subjects: Sequence[str] = EVERYTHING,
    now_ms: int,
    expires_ms: int | None = None,
    per_second: int | None = None,
) -> tuple[ApiKey, str]:
    """What is to be kept of a new key, and the key, which is shown once; InputError that says what cannot be."""
    if not 1 <= len(name.strip()) <= _LONGEST_NAME:
        raise InputError(f"a key's name has 1 to {_LONGEST_NAME} characters")
    unknown = [one for one in scopes if one not in SCOPES]
    if unknown or not scopes:
        raise InputError(f"the scopes are {', '.join(SCOPES)}; given: {', '.join(scopes) or 'none'}")
    if not 1 <= len(subjects) <= _MOST_SUBJECTS or not all(is_subject_glob(one) for one in subjects):
        raise InputError("a key's subjects are '*', or globs such as 'biller:acme-*' and 'model:Llama/*'")
    if expires_ms is not None and expires_ms <= now_ms:
        raise InputError("a key expires in the future")
    if per_second is not None and per_second < 1:
        raise InputError("a rate is at least 1 request in a second")
    key_id, secret = secrets.token_hex(_ID_BYTES), secrets.token_urlsafe(_SECRET_BYTES)
    kept = ApiKey(
        id=key_id,
        name=name.strip(),
        digest=digest_of(secret),
        scopes=tuple(one for one in SCOPES if one in scopes),
        subjects=tuple(subjects),
        created_ms=now_ms,
        expires_ms=expires_ms,
        per_second=per_second,
    )
    return kept, f"{_PREFIX}_{key_id}_{secret}"


def is_subject_glob(glob: str) -> bool:
    return glob == "*" or glob.startswith(("biller:", "model:"))


def reaches(subjects: Sequence[str], subject: Subject) -> bool:
    """Whether one of the globs fits the subject."""
    return any(matcher(glob)(str(subject)) for glob in subjects)


def looks_like_a_key(text: str) -> bool:
    return text.startswith(f"{_PREFIX}_")


def key_of(text: str, known: Mapping[str, ApiKey], *, now_ms: int) -> ApiKey | None:
    """The key that is kept, if this is it and it has not expired; takes as long whatever is wrong with the text."""
    key_id, _, secret = text[len(_PREFIX) + 1 : _MOST_CHARACTERS].partition("_")
    kept = known.get(key_id)
    is_right = hmac.compare_digest(digest_of(secret), _NO_DIGEST if kept is None else kept.digest)
    return kept if kept is not None and is_right and kept.is_valid(now_ms) else None


def digest_of(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def encode_key(key: ApiKey) -> bytes:
    return msgspec.json.encode(key)


def decode_keys(fields: Mapping[bytes, bytes]) -> dict[str, ApiKey]:
    """The keys of a hash, without those that this version cannot read: one must not keep all the others out."""
    found: dict[str, ApiKey] = {}
    for name, text in fields.items():
        try:
            found[name.decode()] = msgspec.json.decode(text, type=ApiKey)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.warning("key.unreadable", id=name.decode(errors="replace"), reason=str(error))
    return found
