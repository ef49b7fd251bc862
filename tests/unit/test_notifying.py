"""What targets are told, and what they are not: the comparison of open alerts with what was told, round by round."""

import asyncio
from dataclasses import replace

import pytest

from detection.errors import DependencyError
from detection.rules.mute import Mute
from detection.rules.rule import Rule
from detection.subject import Subject
from state.notified import MemoryNotified
from tests.notifying import MINUTE, NOW, SECOND, Alerts, Recorder, Round, settled, until

B1, B2 = Subject.biller("B1"), Subject.biller("B2")


def rule(**fields: object) -> Rule:
    plain = {"id": "slow", "metric": "error-rate", "condition": "outside threshold"}
    return Rule(**{**plain, **fields})  # type: ignore[arg-type]  # plain fields, as a test writes them


async def test_an_alert_is_told_once_after_it_was_open_for_a_while_and_resolved_once() -> None:
    pager = Recorder()
    one = Round({"pager": pager})
    alert = one.alerts.open(B1)
    await one.pass_(10)
    assert pager.said() == []
    await one.pass_(60)
    assert pager.said() == ["opened biller:B1"]
    assert pager.told[0].line == alert.line
    one.alerts.end(alert)
    await one.pass_(60)
    assert pager.said() == ["opened biller:B1", "resolved biller:B1"]
    assert pager.told[1].line == alert.line.replace("ALERT", "RESOLVED")
    assert pager.told[1].notice.resolved_ms is not None
    memory = await one.memory.recall()
    assert memory.notified == {}


async def test_an_alert_that_is_over_within_the_wait_is_never_told() -> None:
    pager = Recorder()
    one = Round({"pager": pager})
    alert = one.alerts.open(B1)
    await one.pass_(9)
    one.alerts.end(alert)
    await one.pass_(30)
    assert pager.said() == []


async def test_an_end_that_is_remembered_is_told_with_its_own_time() -> None:
    pager = Recorder()
    one = Round({"pager": pager})
    alert = one.alerts.open(B1)
    await one.pass_(20)
    one.alerts.alerts[alert.id] = replace(alert, state="resolved", resolved_ms=NOW + 12_345, value=77.0)
    await one.pass_(5)
    assert pager.said() == ["opened biller:B1", "resolved biller:B1"]
    assert pager.told[1].notice.resolved_ms == NOW + 12_345
    assert pager.told[1].notice.value == 77.0


async def test_it_is_told_again_only_when_it_is_worse_than_was_told() -> None:
    pager = Recorder()
    one = Round({"pager": pager})
    alert = one.alerts.open(B1)
    await one.pass_(20)
    one.alerts.alerts[alert.id] = replace(alert, score=8.0, value=40.0)
    await one.pass_(20)
    assert pager.said() == ["opened biller:B1"]
    for told in (15.0, 31.0):
        one.alerts.worsen(alert, told=told)
        await one.pass_(20)
    assert pager.said() == ["opened biller:B1", "worse biller:B1", "worse biller:B1"]
    ids = [telling.id for telling in pager.told]
    assert len(set(ids)) == 3


async def test_a_rule_names_its_targets_and_the_default_ones_are_told_of_the_rest() -> None:
    pager, chat = Recorder(), Recorder()
    one = Round({"pager": pager, "chat": chat})
    one.alerts.by_id = {"slow": rule(notify=("chat",)), "lost": rule(id="lost", notify=("nobody",))}
    one.alerts.open(B1, rule="slow")
    one.alerts.open(B2, rule="fast")
    one.alerts.open(B2, rule="lost")
    await one.pass_(20)
    assert chat.said() == ["opened biller:B1"]
    assert pager.said() == ["opened biller:B2", "opened biller:B2"]


async def test_what_somebody_has_taken_on_before_it_was_told_is_told_only_if_it_gets_worse() -> None:
    pager = Recorder()
    one = Round({"pager": pager})
    alert = one.alerts.open(B1)
    one.alerts.acknowledge(alert)
    await one.pass_(30)
    assert pager.said() == []
    again = one.crashed()
    await again.pass_(30)
    assert pager.said() == []
    again.alerts.worsen(alert, told=15.0)
    await again.pass_(30)
    assert pager.said() == ["opened biller:B1"]
    again.alerts.end(alert)
    await again.pass_(5)
    assert pager.said() == ["opened biller:B1", "resolved biller:B1"]


async def test_nobody_hears_of_the_end_of_what_nobody_was_told_of() -> None:
    pager = Recorder()
    one = Round({"pager": pager})
    alert = one.alerts.open(B1)
    one.alerts.acknowledge(alert)
    await one.pass_(30)
    one.alerts.end(alert)
    await one.pass_(5)
    assert pager.said() == []
    assert (await one.memory.recall()).notified == {}


async def test_what_people_called_a_false_alert_is_not_told_to_others() -> None:
    pager = Recorder()
    one = Round({"pager": pager})
    alert = one.alerts.open(B1)
    one.alerts.alerts[alert.id] = replace(alert, opinion="false")
    await one.pass_(30)
    assert pager.said() == []


async def test_a_muted_rule_is_told_of_when_the_mute_is_over_and_its_end_at_once() -> None:
    pager = Recorder()
    one = Round({"pager": pager})
    mute = Mute(since="2025-11-21T20:01:00Z", until="2025-11-21T20:03:00Z")
    assert mute.holds(NOW + 1 * MINUTE)
    assert not mute.holds(NOW + 3 * MINUTE)
    one.alerts.by_id = {"slow": rule(mute=(mute,))}
    early = one.alerts.open(B1)
    await one.pass_(60)
    assert pager.said() == ["opened biller:B1"]
    one.alerts.open(B2)
    one.alerts.worsen(early, told=100.0)
    await one.pass_(60)
    assert pager.said() == ["opened biller:B1"]
    one.alerts.end(early)
    await one.pass_(30)
    assert pager.said() == ["opened biller:B1", "resolved biller:B1"]
    await one.pass_(40)
    assert pager.said() == ["opened biller:B1", "resolved biller:B1", "opened biller:B2"]


async def test_one_dead_target_holds_up_no_other_and_is_told_when_it_is_back() -> None:
    pager, chat = Recorder(), Recorder()
    one = Round({"pager": pager, "chat": chat})
    one.alerts.by_id = {"slow": rule(notify=("pager", "chat"))}
    pager.fails = lambda _: True
    first = one.alerts.open(B1)
    await one.pass_(60)
    one.alerts.open(B2)
    one.alerts.end(first)
    await one.pass_(240)
    assert chat.said() == ["opened biller:B1", "resolved biller:B1", "opened biller:B2"]
    # By then the pauses are about a minute long.
    assert 8 <= pager.attempts <= 40
    assert one.registry.get_sample_value("tidemark_notifications_pending", {"target": "pager"}) == 1
    oldest = one.registry.get_sample_value("tidemark_notifications_oldest_seconds", {"target": "pager"})
    assert oldest is not None
    assert 200 <= oldest <= 240
    pager.fails = lambda _: False
    await one.pass_(61)
    # Nothing of the first one: it opened and ended while nobody there could be told.
    assert pager.said() == ["opened biller:B2"]
    await one.pass_(1)
    assert one.registry.get_sample_value("tidemark_notifications_pending", {"target": "pager"}) == 0
    assert one.registry.get_sample_value("tidemark_notifications_oldest_seconds", {"target": "pager"}) == 0
    delivered = {"target": "pager", "result": "delivered"}
    assert one.registry.get_sample_value("tidemark_notifications_total", delivered) == 1
    failed = one.registry.get_sample_value("tidemark_notifications_total", {"target": "pager", "result": "failed"})
    assert failed == pager.attempts - 1


async def test_one_target_that_hangs_holds_up_no_other() -> None:
    pager, chat = Recorder(), Recorder()
    pager.hangs = asyncio.Event()
    one = Round({"pager": pager, "chat": chat})
    one.alerts.by_id = {"slow": rule(notify=("pager", "chat"))}
    alert = one.alerts.open(B1)
    await one.pass_(20)
    one.alerts.end(alert)
    await one.pass_(20)
    assert chat.said() == ["opened biller:B1", "resolved biller:B1"]
    assert pager.attempts == 1
    pager.hangs.set()
    await settled()
    await one.pass_(2)
    assert pager.said() == ["opened biller:B1", "resolved biller:B1"]


async def test_a_call_that_takes_too_long_is_given_up_and_made_again() -> None:
    pager = Recorder()
    pager.timeout_seconds = 0.05
    pager.hangs = asyncio.Event()
    one = Round({"pager": pager})
    one.alerts.open(B1)
    failed = {"target": "pager", "result": "failed"}
    await one.pass_(11)
    await until(lambda: one.registry.get_sample_value("tidemark_notifications_total", failed) == 1)
    pager.hangs = None
    await one.pass_(5)
    assert pager.said() == ["opened biller:B1"]


async def test_an_alert_that_a_target_refuses_holds_up_no_other() -> None:
    pager = Recorder()
    pager.fails = lambda telling: telling.notice.subject == "biller:B0"
    one = Round({"pager": pager})
    # Each of another metric, so that they are not the platform's.
    for number in range(5):
        one.alerts.open(Subject.biller(f"B{number}"), slug=f"metric-{number}")
    await one.pass_(20)
    assert sorted(pager.said()) == [f"opened biller:B{number}" for number in range(1, 5)]
    one.alerts.open(Subject.biller("B5"), slug="metric-5")
    await one.pass_(60)
    assert pager.said()[4:] == ["opened biller:B5"]


async def test_a_restart_in_between_tells_nothing_twice_and_resolves_what_resolved_meanwhile() -> None:
    pager, chat = Recorder(), Recorder()
    one = Round({"pager": pager, "chat": chat})
    one.alerts.by_id = {"slow": rule(notify=("pager", "chat"))}
    stays, ends = one.alerts.open(B1), one.alerts.open(B2)
    await one.pass_(20)
    told = ["opened biller:B1", "opened biller:B2"]
    other = await one.restart()
    await other.pass_(30)
    assert sorted(pager.said()) == sorted(chat.said()) == told
    other.alerts.end(ends)
    third = other.crashed(holder="worker 2")
    await third.pass_(30)
    assert pager.said()[2:] == chat.said()[2:] == ["resolved biller:B2"]
    third.alerts.end(stays)
    await third.pass_(30)
    assert pager.said()[3:] == chat.said()[3:] == ["resolved biller:B1"]


async def test_a_crash_between_telling_and_remembering_tells_again_with_the_same_id() -> None:
    class Forgetful(MemoryNotified):
        forgets = False

        async def keep(self, holder: str, changes: object) -> bool:
            if self.forgets:
                raise DependencyError("redis", "it went away just now")
            return await super().keep(holder, changes)  # type: ignore[arg-type]  # handed on as it came

    pager = Recorder()
    memory = Forgetful()
    one = Round({"pager": pager}, memory=memory)
    one.alerts.open(B1)
    await one.pass_(10)
    memory.forgets = True
    await one.pass_(5)
    assert pager.said() == ["opened biller:B1"]
    # It knows, although the store does not.
    again = one.crashed()
    memory.forgets = False
    await again.pass_(20)
    assert pager.said() == ["opened biller:B1"] * 2
    assert pager.told[0].id == pager.told[1].id


async def test_what_the_store_could_not_be_told_it_is_told_later() -> None:
    class Away(MemoryNotified):
        is_away = False

        async def keep(self, holder: str, changes: object) -> bool:
            if self.is_away:
                raise DependencyError("redis", "it is away")
            return await super().keep(holder, changes)  # type: ignore[arg-type]  # handed on as it came

    pager, memory = Recorder(), Away()
    one = Round({"pager": pager}, memory=memory)
    alert = one.alerts.open(B1)
    await one.pass_(10)
    memory.is_away = True
    await one.pass_(20)
    memory.is_away = False
    await one.pass_(1)
    again = one.crashed()
    await again.pass_(20)
    assert pager.said() == ["opened biller:B1"]
    assert set((await memory.recall()).notified) == {alert.id}


async def test_of_two_workers_one_notifies_and_the_other_goes_on_when_it_stops() -> None:
    pager = Recorder()
    one = Round({"pager": pager})
    other = Round({"pager": pager}, alerts=one.alerts, memory=one.memory, holder="worker 2")
    alert = one.alerts.open(B1)
    for _ in range(30):
        await one.pass_(1)
        await other.pass_(1)
    assert (one.notifier.is_holder, other.notifier.is_holder) == (True, False)
    assert pager.said() == ["opened biller:B1"]
    await one.notifier.aclose()
    one.alerts.end(alert)
    await other.pass_(1)
    assert other.notifier.is_holder
    assert pager.said() == ["opened biller:B1", "resolved biller:B1"]


async def test_a_worker_that_lost_the_lease_tells_no_more_and_overwrites_nothing() -> None:
    clock = [NOW]
    memory = MemoryNotified(lambda: clock[0])
    pager = Recorder()
    one = Round({"pager": pager}, memory=memory)
    one.alerts.open(B1)
    await one.pass_(20)
    # The first one's machine sleeps for a minute.
    clock[0] += MINUTE
    other = Round({"pager": pager}, alerts=one.alerts, memory=memory, holder="worker 2", now_ms=one.now_ms)
    await other.pass_(1)
    assert other.notifier.is_holder
    kept = dict(memory.fields)
    one.alerts.open(B2)
    await one.pass_(30)
    assert not one.notifier.is_holder
    assert pager.said() == ["opened biller:B1"]
    assert memory.fields == kept


async def test_a_store_that_lost_all_it_was_told_is_told_again_and_people_are_not() -> None:
    pager = Recorder()
    one = Round({"pager": pager})
    assert isinstance(one.memory, MemoryNotified)
    alert = one.alerts.open(B1)
    await one.pass_(20)
    one.memory.fields.clear()
    await one.memory.release("worker 1")
    await one.pass_(5)
    assert pager.said() == ["opened biller:B1"]
    assert set((await one.memory.recall()).notified) == {alert.id}


async def test_a_hint_that_was_lost_resolves_nothing() -> None:
    pager = Recorder()
    one = Round({"pager": pager})
    one.alerts.open(B1)
    await one.pass_(20)
    one.alerts.hides = frozenset({B1})
    await one.pass_(20)
    assert pager.said() == ["opened biller:B1"]


async def test_while_the_alerts_cannot_be_read_nothing_is_resolved() -> None:
    pager = Recorder()
    one = Round({"pager": pager})
    one.alerts.open(B1)
    await one.pass_(20)
    one.alerts.is_away = True
    await one.pass_(20)
    one.alerts.is_away = False
    await one.pass_(20)
    assert pager.said() == ["opened biller:B1"]


async def test_a_damaged_memory_of_one_alert_is_told_again_and_mended() -> None:
    pager = Recorder()
    one = Round({"pager": pager})
    assert isinstance(one.memory, MemoryNotified)
    first, second = one.alerts.open(B1), one.alerts.open(B2)
    await one.pass_(20)
    one.memory.fields[first.id.encode()] = b"{"
    one.memory.fields[b"nothing/at/all"] = b"{"
    again = one.crashed(holder="worker 2")
    await one.notifier.aclose()
    await again.pass_(20)
    assert sorted(pager.said()) == ["opened biller:B1", "opened biller:B1", "opened biller:B2"]
    memory = await one.memory.recall()
    assert set(memory.notified) == {first.id, second.id}
    assert memory.damaged == ()


async def test_a_channel_that_forgets_is_told_again_and_again_while_it_is_open_and_at_once_after_a_restart() -> None:
    manager = Recorder(repeat_ms=30 * SECOND)
    one = Round({"manager": manager})
    alert = one.alerts.open(B1)
    await one.pass_(11)
    assert manager.said() == ["opened biller:B1"]
    await one.pass_(60)
    assert manager.said()[1:] == ["firing biller:B1"] * 2
    again = one.crashed()
    await again.pass_(1)
    assert manager.said()[3:] == ["firing biller:B1"]
    again.alerts.acknowledge(alert)
    await again.pass_(30)
    assert manager.said()[4:] == ["firing biller:B1"]
    again.alerts.end(alert)
    await again.pass_(100)
    assert manager.said()[5:] == ["resolved biller:B1"]


async def test_the_end_of_an_alert_is_given_up_after_a_day() -> None:
    pager = Recorder()
    one = Round({"pager": pager})
    alert = one.alerts.open(B1)
    await one.pass_(20)
    one.alerts.end(alert)
    pager.fails = lambda _: True
    await one.pass_(10)
    assert set((await one.memory.recall()).notified) == {alert.id}
    one.now_ms += 24 * 60 * MINUTE
    await one.pass_(2)
    assert (await one.memory.recall()).notified == {}
    given_up = {"target": "pager", "result": "given_up"}
    assert one.registry.get_sample_value("tidemark_notifications_total", given_up) == 1


async def test_a_target_that_is_configured_no_more_is_forgotten() -> None:
    pager = Recorder()
    one = Round({"pager": pager})
    alert = one.alerts.open(B1)
    await one.pass_(20)
    await one.notifier.aclose()
    one.alerts.end(alert)
    other = Round({"chat": Recorder()}, alerts=one.alerts, memory=one.memory, now_ms=one.now_ms)
    await other.pass_(2)
    assert (await one.memory.recall()).notified == {}


@pytest.fixture
def platform() -> tuple[Round, Recorder]:
    """Two of twenty billers have told alerts from long ago; then six more get theirs within five minutes."""
    pager = Recorder()
    alerts = Alerts()
    return Round({"pager": pager}, alerts=alerts), pager


async def test_many_billers_at_once_are_one_alert_in_the_place_of_theirs(platform: tuple[Round, Recorder]) -> None:
    one, pager = platform
    one.alerts.open(B1, since_ms=NOW - 60 * MINUTE)
    await one.pass_(20)
    for number in range(10, 16):
        one.alerts.open(Subject.biller(f"B{number}"), since_ms=NOW + MINUTE)
    await one.pass_(30)
    assert pager.said() == ["opened biller:B1", "opened platform"]
    assert "exceeded at 6 of 20 billers" in pager.told[1].line
    assert pager.told[1].notice.severity == "critical"
    # One more, later: it is a member too.
    one.alerts.open(B2, since_ms=NOW + 30 * MINUTE)
    await one.pass_(30)
    # One that was told before it ended is told as resolved, whatever the platform does.
    one.alerts.end(next(alert for alert in one.alerts.alerts.values() if alert.subject == B1))
    await one.pass_(5)
    assert pager.said()[2:] == ["resolved biller:B1"]


async def test_when_the_platforms_alert_ends_members_that_are_still_open_are_told(
    platform: tuple[Round, Recorder],
) -> None:
    one, pager = platform
    members = [one.alerts.open(Subject.biller(f"B{number}"), since_ms=NOW + MINUTE) for number in range(10, 16)]
    await one.pass_(20)
    assert pager.said() == ["opened platform"]
    for alert in members[:3]:
        one.alerts.end(alert)
    again = one.crashed()
    await again.pass_(30)
    assert pager.said() == ["opened platform"]
    again.alerts.end(members[3])
    await again.pass_(30)
    assert sorted(pager.said()[1:]) == ["opened biller:B14", "opened biller:B15", "resolved platform"]


async def test_the_platforms_alert_is_told_again_when_it_has_doubled(platform: tuple[Round, Recorder]) -> None:
    one, pager = platform
    for number in range(10, 16):
        one.alerts.open(Subject.biller(f"B{number}"))
    await one.pass_(20)
    for number in range(16, 21):
        one.alerts.open(Subject.biller(f"B{number}"))
    await one.pass_(20)
    assert pager.said() == ["opened platform"]
    one.alerts.open(Subject.biller("B21"))
    await one.pass_(20)
    assert pager.said() == ["opened platform", "worse platform"]


async def test_the_platforms_alert_goes_to_whom_its_members_go_to(platform: tuple[Round, Recorder]) -> None:
    _, pager = platform
    chat, mail = Recorder(), Recorder()
    one = Round({"pager": pager, "chat": chat, "mail": mail})
    one.alerts.by_id = {
        "slow": rule(notify=("chat",)),
        "muted": rule(
            id="muted", notify=("mail",), mute=(Mute(since="2025-11-21T00:00:00Z", until="2025-11-22T00:00:00Z"),)
        ),
    }
    for number in range(10, 20):
        one.alerts.open(Subject.biller(f"B{number}"), rule="slow" if number < 13 else "muted")
    await one.pass_(20)
    assert chat.said() == ["opened platform"]
    assert pager.said() == mail.said() == []


async def test_a_platform_whose_members_are_all_muted_is_told_to_nobody(platform: tuple[Round, Recorder]) -> None:
    one, pager = platform
    one.alerts.by_id = {"slow": rule(mute=(Mute(since="2025-11-21T00:00:00Z", until="2025-11-22T00:00:00Z"),))}
    for number in range(10, 20):
        one.alerts.open(Subject.biller(f"B{number}"))
    await one.pass_(30)
    assert pager.said() == []
