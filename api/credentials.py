"""Who asks: an API key that Redis knows, or a token that the organisation's own identity provider has signed.

    Authorization: Bearer tm_ID_SECRET      an API key (`tidemark keys`); `X-API-Key: ...` means the same
    Authorization: Bearer eyJ...            a JWT (RFC 7519) of TIDEMARK_OIDC_ISSUER for TIDEMARK_OIDC_AUDIENCE

All keys are read together, every few seconds, so that no request waits for Redis to find out who asks. A key that is
taken back is let in for so long at most; while Redis is away, those that were known are for some minutes.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import httpx
import jwt
import structlog
from limits import RateLimitItemPerSecond
from limits.aio.storage import Storage
from limits.aio.strategies import FixedWindowRateLimiter
from starlette.types import Scope

from api.access import Caller
from api.connections import Connections
from api.problems import FORBIDDEN, TOO_MANY_REQUESTS, UNAUTHENTICATED, RefusedError
from detection.errors import DependencyError
from state.api_keys import EVERYTHING, SCOPES, ApiKey, ApiKeys, is_subject_glob, key_of, looks_like_a_key

log = structlog.get_logger()

_KEYS_SECONDS: Final = 5.0
# A key that is not known may have been made just now; who guesses must not keep Redis busy.
_KEYS_AGAIN_SECONDS: Final = 1.0
_KEYS_WITHOUT_REDIS_SECONDS: Final = 300.0
_KEYS_TIMEOUT_SECONDS: Final = 1.0

# Asymmetric alone: who may check a token cannot make one. RFC 8725, section 3.1, wants them named.
_ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA")
_SIGNERS_SECONDS: Final = 3600.0
# A token whose signer is not known makes us ask again, but not with every request.
_SIGNERS_AGAIN_SECONDS: Final = 30.0
_PROVIDER_TIMEOUT_SECONDS: Final = 5.0
_LEEWAY_SECONDS: Final = 30
_LONGEST_TOKEN: Final = 8192


class Tokens(Protocol):
    """What checks tokens."""

    async def caller(self, token: str) -> Caller | None:
        """Who the token says it is, None for one that is not to be believed; DependencyError."""
        ...


class Gate:
    """Lets requests in: a `api.access.Admit`."""

    def __init__(
        self, keys: ApiKeys, *, tokens: Tokens | None, counts: Storage | None, wall_ms: Callable[[], int]
    ) -> None:
        self._keys = _Known(keys)
        self._tokens = tokens
        self._limiter = None if counts is None else FixedWindowRateLimiter(counts)
        self._wall_ms = wall_ms

    async def __call__(self, scope: Scope) -> Caller:
        """Who asks; RefusedError (401, 429), or DependencyError while nobody can say."""
        text = _credential(scope)
        found = await self._found(text) if text else None
        if found is None:
            raise RefusedError(
                UNAUTHENTICATED,
                "send an API key as `Authorization: Bearer tm_...`; `tidemark keys create` makes one"
                if not text
                else "the key or token is not known, has expired, or was taken back",
            )
        await self._limit(found)
        return found

    async def _found(self, text: str) -> Caller | None:
        if looks_like_a_key(text):
            key = key_of(text, await self._keys.all(_KEYS_SECONDS), now_ms=self._wall_ms())
            key = key or key_of(text, await self._keys.all(_KEYS_AGAIN_SECONDS), now_ms=self._wall_ms())
            return None if key is None else _caller(key)
        return None if self._tokens is None else await self._tokens.caller(text)

    async def _limit(self, found: Caller) -> None:
        if found.per_second is None or self._limiter is None:
            return
        try:
            is_in = await self._limiter.hit(RateLimitItemPerSecond(found.per_second), found.id)
        except DependencyError as error:
            # Who is known goes on while Redis is away: events need Kafka alone.
            log.warning("rate.not_counted", reason=error.reason)
            return
        if not is_in:
            raise RefusedError(TOO_MANY_REQUESTS, f"more than {found.per_second} requests in a second")


class _Known:
    """All keys, as they were so many seconds ago at most."""

    def __init__(self, keys: ApiKeys) -> None:
        self._keys = keys
        self._found: dict[str, ApiKey] = {}
        self._read_at = float("-inf")
        self._asked_at = float("-inf")
        self._reading = asyncio.Lock()
        self._away: DependencyError | None = None

    async def all(self, seconds: float) -> Mapping[str, ApiKey]:
        if time.monotonic() - self._asked_at > seconds:
            # Many requests find them old at once: one reads, the others wait for it.
            async with self._reading:
                if time.monotonic() - self._asked_at > seconds:
                    await self._read()
        if self._away is not None:
            raise self._away
        return self._found

    async def _read(self) -> None:
        try:
            async with asyncio.timeout(_KEYS_TIMEOUT_SECONDS):
                self._found = await self._keys.all()
        except (DependencyError, TimeoutError) as error:
            log.warning("keys.not_read", reason=str(error) or type(error).__name__)
            if time.monotonic() - self._read_at > _KEYS_WITHOUT_REDIS_SECONDS:
                self._found = {}
                self._away = DependencyError("redis", "the API keys cannot be read")
        else:
            self._read_at, self._away = time.monotonic(), None
        finally:
            # Whatever came of it: nobody asks again at once, and nobody waits for more than one attempt.
            self._asked_at = time.monotonic()


def _caller(key: ApiKey) -> Caller:
    return Caller(key.id, key.name, frozenset(key.scopes), key.subjects, key.per_second)


def _credential(scope: Scope) -> str:
    """The key or token of the request, empty where there is none."""
    for name, value in scope["headers"]:
        if name == b"authorization":
            kind, _, text = value.decode("latin-1").partition(" ")
            return text.strip() if kind.lower() == "bearer" else ""
        if name == b"x-api-key":
            found: str = value.decode("latin-1").strip()
            return found
    return ""


class OidcTokens:
    """Tokens of one issuer for one audience (OpenID Connect Core 1.0, RFC 9068).

    What they may do is in `scope`, as `tidemark:read` and the like; `tidemark_subjects`, where it is there, lists the
    globs of subjects that they reach.
    """

    def __init__(self, issuer: str, audience: str, *, client: httpx.AsyncClient) -> None:
        self._issuer = issuer
        self._audience = audience
        self._client = client
        self._signers: dict[str, jwt.PyJWK] = {}
        self._read_at = float("-inf")
        self._asked_at = float("-inf")
        self._reading = asyncio.Lock()

    async def caller(self, token: str) -> Caller | None:
        if len(token) > _LONGEST_TOKEN:
            return None
        try:
            signer = await self._signer(jwt.get_unverified_header(token).get("kid", ""))
            if signer is None:
                return None
            claims = jwt.decode(
                token,
                signer,
                algorithms=_ALGORITHMS,
                audience=self._audience,
                issuer=self._issuer,
                leeway=_LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.PyJWTError as error:
            log.info("token.refused", reason=type(error).__name__)
            return None
        return _caller_of(claims)

    async def _signer(self, kid: str) -> jwt.PyJWK | None:
        now = time.monotonic()
        is_old = kid not in self._signers or now - self._read_at > _SIGNERS_SECONDS
        if is_old and now - self._asked_at > _SIGNERS_AGAIN_SECONDS:
            async with self._reading:
                if self._asked_at < now:
                    await self._read()
        if not self._signers:
            raise DependencyError("identity provider", "its signing keys cannot be read")
        return self._signers.get(kid)

    async def _read(self) -> None:
        try:
            about = await self._json(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
            found = jwt.PyJWKSet.from_dict(await self._json(about["jwks_uri"]))
        except (httpx.HTTPError, ValueError, KeyError, TypeError, jwt.PyJWTError) as error:
            self._asked_at = time.monotonic()
            log.warning("signers.not_read", reason=f"{type(error).__name__}: {error}")
            return
        self._signers = {one.key_id: one for one in found.keys if one.key_id}
        self._read_at = self._asked_at = time.monotonic()

    async def _json(self, url: str) -> Any:
        response = await self._client.get(url, timeout=_PROVIDER_TIMEOUT_SECONDS)
        return response.raise_for_status().json()


def _caller_of(claims: Mapping[str, Any]) -> Caller:
    given = claims.get("scope", "")
    texts = given.split() if isinstance(given, str) else []
    scopes = frozenset(one for one in SCOPES if f"tidemark:{one}" in texts)
    subjects = claims.get("tidemark_subjects", list(EVERYTHING))
    if not isinstance(subjects, list) or not all(isinstance(one, str) and is_subject_glob(one) for one in subjects):
        raise RefusedError(FORBIDDEN, "tidemark_subjects is not a list of globs such as 'biller:acme-*'")
    name = claims.get("email") or claims.get("client_id") or claims["sub"]
    return Caller(f"sub:{claims['sub']}", str(name), scopes, tuple(subjects))


def gate_of(parts: Connections, *, client: httpx.AsyncClient) -> Gate | None:
    """The gate that the settings ask for, None where nobody is asked who asks."""
    settings = parts.settings
    if settings.auth == "off":
        return None
    issuer = settings.oidc_issuer
    tokens = OidcTokens(issuer, settings.oidc_audience, client=client) if issuer else None
    return Gate(parts.api_keys, tokens=tokens, counts=parts.counts, wall_ms=parts.wall_ms)
