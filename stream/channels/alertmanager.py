"""Prometheus Alertmanager, API v2: told of every open alert again and again, as its convention is.

An alert that it is not told of for three intervals is over for it: so when all workers are gone, its people are told
that nothing fires any more, and nothing that we forgot fires for ever. What it groups, mutes and repeats is its own.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import orjson
import structlog

from detection.hours import SECOND_MS, iso
from detection.rules.notice import Notice
from detection.rules.platform import PLATFORM
from detection.subject import Subject
from stream.channels.channel import DeliveryError, Telling
from stream.channels.posting import Poster

log = structlog.get_logger()

# Intervals after which an alert that nobody tells of is over.
_INTERVALS: Final = 3


class AlertmanagerChannel:
    """All members of a cluster are told, which is how they want it; it is enough that one of them takes it.

    The others get it at the next interval, and what is over they find out by themselves after three.
    """

    at_once = 200
    parallel = 1

    def __init__(
        self,
        urls: Sequence[str],
        *,
        interval_seconds: float = 30.0,
        authorization: str = "",
        timeout_seconds: float = 10.0,
    ) -> None:
        self._urls = [f"{url.rstrip('/')}/api/v2/alerts" for url in urls]
        self._poster = Poster(timeout_seconds=timeout_seconds, authorization=authorization)
        # The whole call is given a little more, so that one member that hangs does not hide that another one answered.
        self.timeout_seconds = timeout_seconds + 5.0
        self.repeat_ms = int(interval_seconds * SECOND_MS)

    async def tell(self, tellings: Sequence[Telling]) -> None:
        body = orjson.dumps([posted(one, repeat_ms=self.repeat_ms) for one in tellings])
        now_ms = max(one.at_ms for one in tellings)
        answers = await asyncio.gather(
            *(self._poster.post(url, body, {}, now_ms=now_ms) for url in self._urls), return_exceptions=True
        )
        failures: list[str] = []
        for at, answer in enumerate(answers, start=1):
            if isinstance(answer, DeliveryError):
                failures.append(f"member {at}: {answer}")
            elif isinstance(answer, BaseException):
                raise answer
        if len(failures) == len(self._urls):
            raise DeliveryError("; ".join(failures))
        if failures:
            log.warning("alertmanager.member_failed", members=len(self._urls), failures=failures)

    async def aclose(self) -> None:
        await self._poster.aclose()


def posted(one: Telling, *, repeat_ms: int) -> dict[str, Any]:
    """The alert as Alertmanager takes it. Its labels are what it is recognised by, so nothing in them may change."""
    notice = one.notice
    # Event time may be ahead of the clock by some minutes, and an alert that begins after its end is refused.
    starts_ms = min(notice.opened_ms, one.at_ms)
    ends_ms = one.at_ms if one.occasion == "resolved" else one.at_ms + _INTERVALS * repeat_ms
    return {
        "labels": _labels(notice),
        "annotations": _filled(
            {
                "summary": one.line,
                "description": notice.description,
                "value": f"{notice.value:g}",
                "boundary": f"{notice.boundary:g}",
                "count": str(notice.count),
                "acknowledged_by": notice.acknowledged_by,
                "id": notice.id,
            }
        ),
        "startsAt": iso(starts_ms),
        "endsAt": iso(max(ends_ms, starts_ms)),
    }


def _labels(notice: Notice) -> dict[str, str]:
    return _filled(
        {
            "alertname": notice.rule,
            "subject": notice.subject,
            "metric": notice.metric,
            "severity": notice.severity,
            "owner": notice.owner,
            **_subject_labels(notice.subject),
        }
    )


def _subject_labels(text: str) -> dict[str, str]:
    if text == PLATFORM:
        return {}
    subject = Subject.parse(text)
    if subject.kind == "biller":
        return {"biller": subject.id}
    name, _, version = subject.id.partition("/")
    return {"name": name, "version": version}


def _filled(texts: dict[str, str]) -> dict[str, str]:
    """Alertmanager takes an empty label for none, and an empty annotation for noise."""
    return {name: text for name, text in texts.items() if text}
