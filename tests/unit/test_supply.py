"""What may come in: licences that are allowed, and vulnerabilities that nobody has to fear."""

import tomllib
from pathlib import Path

import pytest

from supply.licences import LOCKS, Package, expression, packages, refusal

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "licence",
    ["MIT", "MPL-2.0 AND (Apache-2.0 OR MIT)", "Apache-2.0 WITH LLVM-exception", "GPL-3.0-only OR MIT"],
)
def test_a_licence_that_leaves_a_way_is_taken(licence: str) -> None:
    assert refusal(Package("anything", "1", licence)) is None


@pytest.mark.parametrize(
    "licence",
    [
        "GPL-3.0-only",
        "AGPL-3.0-only AND MIT",
        "GPL-2.0-only AND (MIT OR Apache-2.0)",
        "MIT WITH other",
        "",
        "LGPL-3.0-only",
    ],
)
def test_a_licence_that_nobody_has_allowed_is_refused_with_the_package_named(licence: str) -> None:
    assert "anything 1" in str(refusal(Package("anything", "1", licence)))


def test_a_lesser_licence_is_taken_from_the_packages_that_are_named_alone() -> None:
    assert refusal(Package("psycopg", "3", "LGPL-3.0-only")) is None
    assert refusal(Package("psycopg", "3", "GPL-3.0-only")) is not None


def test_every_installed_package_of_the_image_has_a_licence_that_is_understood() -> None:
    found = list(packages(LOCKS / "runtime.txt"))
    assert len(found) > 90
    assert [said for one in found if (said := refusal(one)) is not None] == []


def test_every_package_whose_licence_asks_for_a_notice_is_in_it() -> None:
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    lesser = {one.name for one in packages(LOCKS / "runtime.txt") if one.licence.startswith("LGPL")}
    assert lesser
    assert {name for name in lesser if name not in notice} == set()


def test_every_vulnerability_that_is_let_pass_has_a_reason_and_a_last_day() -> None:
    text = (ROOT / "supply" / "accepted.toml").read_text(encoding="utf-8")
    for entry in tomllib.loads(text).get("vulnerability", []):
        assert entry.keys() == {"id", "package", "reason", "until"}


def test_a_package_that_says_nothing_of_its_licence_stops_the_report() -> None:
    from email.message import Message

    from supply.licences import LicenceError

    with pytest.raises(LicenceError, match="silent"):
        expression("silent", Message())  # type: ignore[arg-type]
