"""Chat, e-mail, pagers and a hundred more, through the library apprise: one service a target, named by its URL."""

import asyncio
import contextlib
import threading
from collections.abc import Sequence
from typing import Final

import apprise

from detection.hours import iso
from detection.rules.notice import Notice
from stream.channels.channel import DeliveryError, Telling

_MOOD: Final = {
    "info": apprise.NotifyType.INFO,
    "warning": apprise.NotifyType.WARNING,
    "critical": apprise.NotifyType.FAILURE,
}


class ServiceChannel:
    """Tells one service. The library blocks, so each call has a thread, which is left behind when it takes too long.

    Such a thread keeps its place among the parallel ones until it ends: a service that hangs cannot fill the process.
    """

    at_once = 1
    parallel = 2
    repeat_ms = None

    def __init__(self, url: str, *, timeout_seconds: float = 30.0) -> None:
        """ValueError, without the URL, for one that the library cannot read."""
        self._service = _service(url)
        self.timeout_seconds = timeout_seconds
        self._threads = 0

    async def tell(self, tellings: Sequence[Telling]) -> None:
        for one in tellings:
            if self._threads >= self.parallel:
                raise DeliveryError("earlier calls still hang")
            await self._in_thread(one)

    async def aclose(self) -> None:
        """Nothing is held; threads that hang are left to end with the process."""

    async def _in_thread(self, one: Telling) -> None:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[None] = loop.create_future()

        def finish(failure: DeliveryError | None) -> None:
            self._threads -= 1
            if answer.done():
                return
            if failure is None:
                answer.set_result(None)
            else:
                answer.set_exception(failure)

        def work() -> None:
            failure = None
            try:
                if not self._notify(one):
                    failure = DeliveryError("the service did not take it; the log of apprise says why")
            except Exception as error:  # noqa: BLE001  # whatever one of a hundred services raises, it was not told
                failure = DeliveryError(type(error).__name__)
            # The loop may be closed by the time that a call which hung comes back.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(finish, failure)

        self._threads += 1
        # A daemon: the process need not wait for it to end.
        threading.Thread(target=work, name="tidemark-service", daemon=True).start()
        await answer

    def _notify(self, one: Telling) -> bool:
        mood = apprise.NotifyType.SUCCESS if one.occasion == "resolved" else _MOOD[one.notice.severity]
        taken = self._service.notify(
            body=_body(one), title=_title(one), notify_type=mood, body_format=apprise.NotifyFormat.TEXT
        )
        return bool(taken)


def _service(url: str) -> apprise.Apprise:
    asset = apprise.AppriseAsset(app_id="Tidemark", app_desc="Tidemark", async_mode=False)
    service = apprise.Apprise(asset=asset)
    if not service.add(url) or len(service) != 1:
        raise ValueError("not the URL of one service that apprise knows")
    return service


def _title(one: Telling) -> str:
    severity = "resolved" if one.occasion == "resolved" else one.notice.severity
    return f"[{severity}] {one.notice.metric} of {one.notice.subject}"


def _body(one: Telling) -> str:
    notice = one.notice
    lines = [one.line, "", notice.description, f"rule {notice.rule}", _times(notice), f"id {notice.id}"]
    if notice.owner:
        lines.append(f"owner {notice.owner}")
    return "\n".join(line for at, line in enumerate(lines) if line or at == 1)


def _times(notice: Notice) -> str:
    opened = f"opened {iso(notice.opened_ms)}"
    return opened if notice.resolved_ms is None else f"{opened}, resolved {iso(notice.resolved_ms)}"
