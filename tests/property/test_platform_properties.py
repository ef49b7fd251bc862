"""When alerts of many billers are one alert of the platform, held against the definition, alert by alert."""

import random
from dataclasses import replace
from itertools import pairwise

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from detection.hours import MINUTE_MS
from detection.rules.alert import Alert, State
from detection.rules.platform import Grouping, PlatformAlert, notice_of_platform, regroup
from detection.subject import Subject
from tests.alerts import SINCE_MS, alert_of

SLUGS = ("error-rate", "average-response-time")


@st.composite
def alert_sets(draw: st.DrawFn) -> list[Alert]:
    """Alerts of a few billers and a model, of two metrics and two rules, opened within half an hour."""
    chosen = draw(
        st.lists(
            st.tuples(st.integers(0, 12), st.sampled_from(SLUGS), st.sampled_from(["slow", "fast"])),
            unique=True,
            max_size=40,
        )
    )
    found = []
    for number, slug, rule in chosen:
        subject = Subject.model("Llama", "v1") if number == 12 else Subject.biller(f"B{number}")
        opened_ms = SINCE_MS + draw(st.integers(0, 30)) * MINUTE_MS
        states: list[State] = ["open", "open", "open", "open", "pending"]
        state = draw(st.sampled_from(states))
        found.append(
            replace(
                alert_of(subject, slug, rule=rule, since_ms=opened_ms),
                state=state,
                opened_ms=None if state == "pending" else opened_ms,
                worst=draw(st.floats(1.0, 100.0)),
            )
        )
    return found


groupings = st.builds(
    Grouping,
    share=st.floats(0.05, 1.0),
    least=st.integers(2, 8),
    within_ms=st.integers(0, 20).map(lambda minutes: minutes * MINUTE_MS),
)
actives = st.integers(0, 60)


def openings(alerts: list[Alert], slug: str) -> list[tuple[int, str]]:
    return sorted(
        (one.opened_ms, one.subject.id)
        for one in alerts
        if one.state == "open" and one.subject.kind == "biller" and one.slug == slug and one.opened_ms is not None
    )


@given(alert_sets(), actives, groupings)
def test_it_opens_when_enough_billers_open_close_together_and_never_else(
    alerts: list[Alert], active: int, grouping: Grouping
) -> None:
    found = regroup({}, alerts, active=active, grouping=grouping)
    for slug in SLUGS:
        times = openings(alerts, slug)
        fullest = max(
            (
                len({biller for at_ms, biller in times if start_ms <= at_ms <= start_ms + grouping.within_ms})
                for start_ms, _ in times
            ),
            default=0,
        )
        assert (slug in found) == (fullest >= max(grouping.least, grouping.share * active))
        if slug in found:
            one = found[slug]
            assert one.opened_ms - one.since_ms <= grouping.within_ms
            assert one.billers == len({biller for at_ms, biller in times if at_ms >= one.since_ms}) <= one.active


@given(alert_sets(), actives, groupings, st.randoms(use_true_random=False))
def test_the_order_of_the_alerts_changes_nothing(
    alerts: list[Alert], active: int, grouping: Grouping, chance: random.Random
) -> None:
    shuffled = alerts.copy()
    chance.shuffle(shuffled)
    found = regroup({}, alerts, active=active, grouping=grouping)
    assert regroup({}, shuffled, active=active, grouping=grouping) == found
    assert regroup(found, shuffled, active=active, grouping=grouping) == found


@given(alert_sets(), actives, groupings)
def test_it_covers_alerts_of_billers_that_are_open_and_nothing_else(
    alerts: list[Alert], active: int, grouping: Grouping
) -> None:
    for slug, one in regroup({}, alerts, active=active, grouping=grouping).items():
        covered = [alert for alert in alerts if one.covers(alert)]
        assert {alert.slug for alert in covered} == {slug}
        assert {alert.state for alert in covered} == {"open"}
        assert {alert.subject.kind for alert in covered} == {"biller"}
        assert len({alert.subject for alert in covered}) == one.billers


@given(alert_sets(), actives, groupings, st.randoms(use_true_random=False))
def test_it_is_over_when_fewer_than_half_of_what_opens_it_are_left_and_not_before(
    alerts: list[Alert], active: int, grouping: Grouping, chance: random.Random
) -> None:
    known = regroup({}, alerts, active=active, grouping=grouping)
    left = alerts.copy()
    chance.shuffle(left)
    while known:
        for one in known.values():
            assert 2 * one.billers >= grouping.needed(active)
        before = known
        left = left[1:]
        known = regroup(before, left, active=active, grouping=grouping)
        for slug in before.keys() - known.keys():
            remaining = {alert.subject for alert in left if before[slug].covers(alert)}
            assert 2 * len(remaining) < grouping.needed(active)


@given(alert_sets(), actives, groupings)
def test_it_keeps_its_id_and_is_told_again_only_when_it_has_doubled(
    alerts: list[Alert], active: int, grouping: Grouping
) -> None:
    history: list[PlatformAlert] = []
    known: dict[str, PlatformAlert] = {}
    times = sorted(SINCE_MS if one.opened_ms is None else one.opened_ms for one in alerts)
    for now_ms in times:
        seen = [one for one in alerts if (one.opened_ms or now_ms) <= now_ms and one.slug == SLUGS[0]]
        known = regroup(known, seen, active=active, grouping=grouping)
        history += known.values()
    for before, after in pairwise(history):
        assert after.id == before.id
        assert after.billers >= before.billers
        assert after.told == (after.billers if after.billers >= 2 * before.told else before.told)


@given(alert_sets(), actives, groupings)
def test_a_restart_in_between_changes_nothing(alerts: list[Alert], active: int, grouping: Grouping) -> None:
    for one in regroup({}, alerts, active=active, grouping=grouping).values():
        stored = msgspec.json.encode(one)
        assert msgspec.json.decode(stored, type=PlatformAlert) == one
        notice = notice_of_platform(one, grouping)
        assert notice.id == one.id
        assert f"{one.billers} of {one.active} billers" in notice.line
