"""Tokens of an identity provider that runs beside the test: who is believed, and who is not."""

import base64
import hmac
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import jwt
import orjson
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from tests.memory_api import MemoryApi, memory_api

AUDIENCE = "tidemark"


@dataclass
class Provider:
    """An identity provider: its signing keys by id, and what it was asked for."""

    url: str = ""
    keys: dict[str, ec.EllipticCurvePrivateKey] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    is_away: bool = False

    def sign(self, kid: str = "first", **claims: Any) -> str:
        now = int(time.time())
        given = {"iss": self.url, "aud": AUDIENCE, "sub": "kim", "exp": now + 60, "scope": "tidemark:read"} | claims
        left = {name: value for name, value in given.items() if value is not None}
        return jwt.encode(left, self.keys[kid], algorithm="ES256", headers={"kid": kid})

    def document(self, path: str) -> dict[str, Any]:
        if path == "/.well-known/openid-configuration":
            return {"issuer": self.url, "jwks_uri": f"{self.url}/jwks"}
        return {
            "keys": [
                ECAlgorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": kid, "use": "sig", "alg": "ES256"}
                for kid, key in self.keys.items()
            ]
        }


@pytest.fixture
def provider() -> Iterator[Provider]:
    found = Provider(keys={"first": ec.generate_private_key(ec.SECP256R1())})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append(self.path)
            body = orjson.dumps(found.document(self.path))
            self.send_response(503 if found.is_away else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield found
        server.shutdown()
        thread.join()


@asynccontextmanager
async def trusting(provider: Provider) -> AsyncIterator[MemoryApi]:
    async with memory_api(auth="on", oidc_issuer=provider.url, oidc_audience=AUDIENCE) as api:
        yield api


async def status(api: MemoryApi, token: str, path: str = "/thresholds", method: str = "GET") -> int:
    answer = await api.client.request(method, path, headers={"Authorization": f"Bearer {token}"})
    return answer.status_code


async def test_a_token_of_the_provider_may_do_what_its_scope_says(provider: Provider) -> None:
    async with trusting(provider) as api:
        assert await status(api, provider.sign()) == 200
        assert await status(api, provider.sign(), "/rules/x", "DELETE") == 403
        assert await status(api, provider.sign(scope="openid tidemark:admin"), "/rules/x", "DELETE") == 404
        for nothing in ("", "openid", "read", "tidemark:root", None):
            assert await status(api, provider.sign(scope=nothing)) == 403, nothing
    assert provider.asked == ["/.well-known/openid-configuration", "/jwks"], "they are asked for once"


async def test_a_token_reaches_the_subjects_that_it_names(provider: Provider) -> None:
    async with trusting(provider) as api:
        some = provider.sign(tidemark_subjects=["biller:own-*"])
        assert await status(api, some, "/metrics/predict/1/own-1", "POST") == 200
        assert await status(api, some, "/metrics/predict/1/foreign-1", "POST") == 403
        wrongs: list[object] = ["biller:own-*", ["own-*"], [1], {}]
        for wrong in wrongs:
            assert await status(api, provider.sign(tidemark_subjects=wrong)) == 403, wrong


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "somebody-else"},
        {"iss": "http://127.0.0.1:1"},
        {"exp": 1},
        {"nbf": 32_503_680_000},
        {"exp": None},
        {"aud": None},
        {"iss": None},
        {"sub": None},
    ],
    ids=str,
)
async def test_a_token_that_is_not_for_us_or_not_valid_now_is_refused(
    provider: Provider, claims: dict[str, Any]
) -> None:
    async with trusting(provider) as api:
        assert await status(api, provider.sign(**claims)) == 401


async def test_a_token_that_somebody_else_signed_is_refused(provider: Provider) -> None:
    token = provider.sign()
    provider.keys["first"] = ec.generate_private_key(ec.SECP256R1())
    async with trusting(provider) as api:
        assert await status(api, token) == 401
        assert await status(api, provider.sign()) == 200


def forge(claims: dict[str, Any], algorithm: str, secret: bytes | None) -> str:
    """By hand: the library would not."""
    parts = [{"alg": algorithm, "kid": "first", "typ": "JWT"}, claims]
    signed = b".".join(base64.urlsafe_b64encode(orjson.dumps(one)).rstrip(b"=") for one in parts)
    signature = b"" if secret is None else hmac.digest(secret, signed, "sha256")
    return (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


async def test_neither_no_signature_nor_a_shared_secret_is_taken(provider: Provider) -> None:
    claims = {"iss": provider.url, "aud": AUDIENCE, "sub": "x", "exp": int(time.time()) + 60, "scope": "tidemark:admin"}
    public = provider.keys["first"].public_key()
    known = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    async with trusting(provider) as api:
        for algorithm, secret in (("none", None), ("HS256", known)):
            forged = forge(claims, algorithm, secret)
            assert await status(api, forged) == 401
        for text in ("eyJ", "a.b.c", "." * 9000, "eyJhbGciOiJFUzI1NiJ9.e30.AA"):
            assert await status(api, text) == 401


async def test_a_provider_that_is_away_at_first_is_a_dependency_that_is_away(provider: Provider) -> None:
    provider.is_away = True
    async with trusting(provider) as api:
        answer = await api.client.get("/thresholds", headers={"Authorization": f"Bearer {provider.sign()}"})
    assert answer.status_code == 503
    assert answer.headers["Retry-After"]


async def test_without_a_provider_no_token_is_taken(provider: Provider) -> None:
    async with memory_api(auth="on") as api:
        assert await status(api, provider.sign()) == 401
    assert provider.asked == []
