"""A signed POST of JSON, after the Standard Webhooks specification (standardwebhooks.com), so that libraries verify it.

The headers `webhook-id`, `webhook-timestamp` and `webhook-signature` go with each attempt. The id is the same for every
attempt to tell the same, by whichever worker: what was told twice is recognised by it.
"""

import base64
import binascii
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from standardwebhooks import Webhook

from detection.hours import SECOND_MS, iso
from detection.rules.notice import as_plain
from stream.channels.channel import Telling
from stream.channels.posting import Poster

# What the specification asks of a secret's length, in bytes.
_SECRET_BYTES: Final = (24, 64)
_PREFIX: Final = "whsec_"


class WebhookChannel:
    """Tells one address; each of the `secrets` signs, so that they can be changed while both ends know two."""

    at_once = 1
    parallel = 8
    repeat_ms = None

    def __init__(
        self, url: str, *, secrets: Sequence[str] = (), authorization: str = "", timeout_seconds: float = 10.0
    ) -> None:
        self._url = url
        self._signers = [Webhook(secret) for secret in secrets]
        self._poster = Poster(timeout_seconds=timeout_seconds, authorization=authorization)
        self.timeout_seconds = timeout_seconds

    async def tell(self, tellings: Sequence[Telling]) -> None:
        for one in tellings:
            body = orjson.dumps(_message(one))
            # The receiver compares it with its own clock, by five minutes: it is that of this attempt.
            now = datetime.now(UTC)
            headers = {"webhook-id": one.id, "webhook-timestamp": str(int(now.timestamp()))}
            if self._signers:
                headers["webhook-signature"] = " ".join(
                    signer.sign(one.id, now, body.decode()) for signer in self._signers
                )
            await self._poster.post(self._url, body, headers, now_ms=int(now.timestamp() * SECOND_MS))

    async def aclose(self) -> None:
        await self._poster.aclose()


def check_secret(secret: str) -> None:
    """ValueError for what is no secret of the specification: `whsec_` and 24 to 64 bytes in base64."""
    least, most = _SECRET_BYTES
    try:
        length = len(base64.b64decode(secret.removeprefix(_PREFIX), validate=True))
    except binascii.Error:
        length = -1
    if not secret.startswith(_PREFIX) or not least <= length <= most:
        raise ValueError(f"a secret is `{_PREFIX}` and {least} to {most} random bytes in base64")


def _message(one: Telling) -> dict[str, Any]:
    return {
        "type": f"alert.{one.occasion}",
        "timestamp": iso(one.at_ms),
        "data": {**as_plain(one.notice), "line": one.line},
    }
