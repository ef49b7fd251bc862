"""How a target that does not take everything at once is told: pauses, order, and how many calls at a time."""

import random

from prometheus_client import CollectorRegistry

import metrics
from detection.rules.notice import notice_of
from detection.subject import Subject
from stream.channels.channel import DeliveryError, Telling
from stream.channels.targets import Target
from stream.delivery import Delivery
from tests.alerts import alert_of
from tests.notifying import NOW, SECOND, Recorder, settled


def telling(number: int) -> Telling:
    return Telling(notice_of(alert_of(Subject.biller(f"B{number}"), "error-rate")), "opened", NOW)


class Bench:
    """A delivery, and what is left to tell: what was delivered is not offered again."""

    def __init__(self, channel: Recorder, *, seed: int = 1) -> None:
        self.left: dict[str, Telling] = {}
        self.now_ms = NOW
        self.delivery = Delivery(
            Target("pager", channel, is_default=True),
            metrics.instruments(CollectorRegistry()),
            delivered=self._delivered,
            randomness=random.Random(seed),
        )

    async def _delivered(self, name: str, tellings: list[Telling]) -> None:
        for one in tellings:
            del self.left[one.notice.id]

    def add(self, *tellings: Telling) -> None:
        self.left |= {one.notice.id: one for one in tellings}

    async def pass_(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now_ms += SECOND
            self.delivery.offer(self.left.values(), now_ms=self.now_ms)
            await settled()


def attempts_of(channel: Recorder, number: int) -> list[int]:
    """Keeps, from now on, which attempt was about this biller; it fails."""
    found: list[int] = []

    def fails(one: Telling) -> bool:
        if one.notice.subject == f"biller:B{number}":
            found.append(channel.attempts)
            return True
        return False

    channel.fails = fails
    return found


async def test_a_refused_alert_is_tried_again_later_and_later_although_others_arrive() -> None:
    channel = Recorder()
    bench = Bench(channel)
    attempts = attempts_of(channel, 0)
    bench.add(telling(0))
    for number in range(1, 121):
        bench.add(telling(number))
        await bench.pass_(1)
    # Pauses of 1, 2, 4, 8, 16, 32 and 60 seconds at most, and half of that at least.
    assert 5 <= len(attempts) <= 10
    assert len(channel.told) == 120


async def test_what_never_failed_goes_before_what_did() -> None:
    channel = Recorder()
    channel.parallel = 1
    bench = Bench(channel)
    attempts_of(channel, 0)
    bench.add(telling(0))
    await bench.pass_(1)
    channel.fails = lambda _: False
    bench.add(telling(1), telling(2))
    await bench.pass_(3)
    assert channel.said() == ["opened biller:B1", "opened biller:B2", "opened biller:B0"]


async def test_calls_that_fail_together_are_one_reason_to_wait() -> None:
    channel = Recorder()
    channel.parallel = 8
    bench = Bench(channel)
    channel.fails = lambda _: True
    bench.add(*(telling(number) for number in range(16)))
    await bench.pass_(3)
    assert channel.attempts > 8
    channel.fails = lambda _: False
    await bench.pass_(8)
    assert len(channel.told) == 16


async def test_a_target_that_is_down_is_tried_with_one_call() -> None:
    channel = Recorder()
    channel.parallel = 8
    bench = Bench(channel)
    channel.fails = lambda _: True
    bench.add(*(telling(number) for number in range(50)))
    await bench.pass_(300)
    # Eight at first, one more that says it was not by chance, then one at a time, up to a minute apart.
    assert 8 + 4 <= channel.attempts <= 8 + 1 + 20
    channel.fails = lambda _: False
    await bench.pass_(61)
    assert len(channel.told) == 50


async def test_who_asks_for_time_gets_it() -> None:
    class Busy(Recorder):
        async def tell(self, tellings: object) -> None:
            self.attempts += 1
            raise DeliveryError("HTTP 429", wait_seconds=100)

    channel = Busy()
    bench = Bench(channel)
    bench.add(telling(0))
    await bench.pass_(1)
    bench.add(telling(1))
    await bench.pass_(99)
    assert channel.attempts == 1
    await bench.pass_(2)
    assert channel.attempts == 2


async def test_what_has_not_begun_and_is_offered_no_more_is_not_told() -> None:
    channel = Recorder()
    bench = Bench(channel)
    channel.fails = lambda _: True
    bench.add(telling(0))
    await bench.pass_(1)
    channel.fails = lambda _: False
    bench.left.clear()
    await bench.pass_(100)
    assert channel.told == []
    assert bench.delivery.pending == 0


async def test_a_defect_of_a_channel_is_a_failure_and_not_the_end() -> None:
    class Defective(Recorder):
        async def tell(self, tellings: object) -> None:
            self.attempts += 1
            if self.attempts == 1:
                raise ZeroDivisionError

    channel = Defective()
    bench = Bench(channel)
    bench.add(telling(0))
    await bench.pass_(5)
    assert channel.attempts == 2
    assert bench.left == {}
