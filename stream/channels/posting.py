"""One POST over HTTP to somebody who need not be friendly: no redirects, no long answers, no secrets in errors."""

import asyncio
from email.utils import parsedate_to_datetime
from typing import Final

import httpx

from detection.hours import SECOND_MS
from stream.channels.channel import DeliveryError

# What is read of an answer; it only goes into the log, to say why something was refused.
_MOST_BYTES: Final = 2048
_MOST_SHOWN: Final = 200
# Who asks for more than this is asked sooner.
_MOST_WAIT_SECONDS: Final = 300.0


class Poster:
    """A client of one target: connections are kept, cookies of one target never meet another's."""

    def __init__(self, *, timeout_seconds: float, authorization: str = "") -> None:
        headers = {"user-agent": "tidemark", "content-type": "application/json"}
        if authorization:
            headers["authorization"] = authorization
        self._headers = headers
        self._timeout_seconds = timeout_seconds
        self._client: httpx.AsyncClient | None = None

    async def post(self, url: str, content: bytes, headers: dict[str, str], *, now_ms: int) -> None:
        """Returns when it was answered with 2xx; DeliveryError for everything else, a redirect included.

        A redirect would send what is secret in the body to an address that nobody configured.
        """
        try:
            # Of all of it: the client's own limits are for each piece, and an answer may drip.
            async with (
                asyncio.timeout(self._timeout_seconds),
                self._open().stream("POST", url, content=content, headers=headers) as response,
            ):
                answer = await _beginning(response)
        except TimeoutError:
            raise DeliveryError("timed out") from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError) as error:
            # Its text may repeat the URL, which may be the secret.
            raise DeliveryError(type(error).__name__) from None
        if not response.is_success:
            shown = "" if response.is_redirect else f": {answer[:_MOST_SHOWN]!r}"
            raise DeliveryError(
                f"HTTP {response.status_code}{shown}", wait_seconds=_asked_to_wait(response, now_ms=now_ms)
            )

    async def aclose(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    def _open(self) -> httpx.AsyncClient:
        # When it is needed: making one reads the certificates of the machine.
        if self._client is None:
            self._client = httpx.AsyncClient(
                headers=self._headers, timeout=self._timeout_seconds, follow_redirects=False
            )
        return self._client


async def _beginning(response: httpx.Response) -> str:
    """The first bytes of the answer as text. What follows is not read, and the connection is then not used again."""
    found = b""
    # As it came: to inflate it would be to trust its length.
    async for piece in response.aiter_raw(_MOST_BYTES):
        found += piece
        if len(found) >= _MOST_BYTES:
            break
    return found[:_MOST_BYTES].decode("utf-8", "replace")


def _asked_to_wait(response: httpx.Response, *, now_ms: int) -> float | None:
    """Seconds by the header Retry-After, which holds a number or a moment."""
    text = response.headers.get("retry-after", "")
    if not text:
        return None
    try:
        seconds = float(text) if text.isdecimal() else parsedate_to_datetime(text).timestamp() - now_ms / SECOND_MS
    except (ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), _MOST_WAIT_SECONDS)
