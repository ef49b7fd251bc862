"""Hours of event time, and the slot of the week they fall on where the subject lives."""

import pytest

from detection.hours import HOUR_MS, iso, iso_hour, parse_ms, slot_of


def hour(text: str) -> int:
    return parse_ms(text) // HOUR_MS


def test_slot_zero_is_monday_midnight() -> None:
    assert slot_of(hour("2026-11-23T00:00:00Z"), "UTC") == 0
    assert slot_of(hour("2026-11-22T23:00:00Z"), "UTC") == 167
    assert slot_of(0, "UTC") == 3 * 24


def test_a_zone_counts_its_own_hours() -> None:
    assert slot_of(hour("2026-11-22T23:00:00Z"), "Europe/Berlin") == 0
    assert slot_of(hour("2026-11-23T04:00:00Z"), "America/New_York") == 6 * 24 + 23


def test_utc_by_its_name_or_as_a_zone_is_the_same() -> None:
    assert [slot_of(one, "UTC") for one in range(490_000, 490_200)] == [
        slot_of(one, "Etc/UTC") for one in range(490_000, 490_200)
    ]


def test_a_slot_is_jumped_over_when_clocks_go_forward_and_seen_twice_when_they_go_back() -> None:
    spring = [slot_of(hour("2026-03-29T00:00:00Z") + one, "Europe/Berlin") % 24 for one in range(3)]
    autumn = [slot_of(hour("2026-10-25T00:00:00Z") + one, "Europe/Berlin") % 24 for one in range(3)]
    assert spring == [1, 3, 4]
    assert autumn == [2, 2, 3]


@pytest.mark.parametrize("ms", [0, 1, 999, 1_787_431_560_000, 4_102_444_799_999])
def test_a_time_is_written_and_read_alike(ms: int) -> None:
    assert parse_ms(iso(ms)) == ms


def test_an_offset_is_read_and_a_time_without_one_refused() -> None:
    assert parse_ms("2026-03-01T11:00:00+01:00") == parse_ms("2026-03-01T10:00:00Z")
    with pytest.raises(ValueError, match="offset"):
        parse_ms("2026-03-01T10:00:00")


def test_an_hour_is_written_as_its_start() -> None:
    assert iso_hour(hour("2026-03-01T10:59:59Z")) == "2026-03-01T10:00:00Z"
