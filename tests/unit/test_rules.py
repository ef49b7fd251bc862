"""What a rule means, and which rules cannot be."""

import re
from typing import Any

import pytest

from detection.catalogue import ERROR_RATE, gauge
from detection.errors import InvalidRuleError
from detection.hours import parse_ms
from detection.rules.book import DEFAULT_RULES, MAX_RULES, RuleBook, in_force
from detection.rules.glob import literal_beginning, matcher
from detection.rules.mute import Mute
from detection.rules.rule import Floor, Recovery, Rule, Window, as_fields, rule_of
from detection.subject import Subject

MISTRAL = Subject.model("Mistral", "v1")
B1 = Subject.biller("B1")
LOW: dict[str, Any] = {"id": "low", "metric": "prediction_accuracy", "condition": "lower than", "boundary": 0.3}
LEARNED: dict[str, Any] = {"id": "learned", "metric": "*", "condition": "outside threshold"}


def ids(rules: tuple[Rule, ...]) -> list[str]:
    return [rule.id for rule in rules]


@pytest.mark.parametrize(
    ("glob", "text", "fits"),
    [
        ("*", "", True),
        ("Mistral/*", "Mistral/v1", True),
        ("Mistral/*", "Mistral-2/v1", False),
        ("v?", "v1", True),
        ("v?", "v12", False),
        ("a.c", "abc", False),
        ("[ab]", "a", False),
        ("[ab]*", "a1", False),
        ("[ab]*", "[ab]1", True),
        ("*-eu-*", "x-eu-1", True),
        ("mistral/*", "Mistral/v1", False),
    ],
)
def test_only_asterisk_and_question_mark_stand_for_others(glob: str, text: str, fits: bool) -> None:
    assert matcher(glob)(text) is fits


def test_a_glob_says_what_every_text_that_fits_begins_with() -> None:
    assert [literal_beginning(glob) for glob in ("Mistral/*", "v?x*", "*", "B1")] == ["Mistral/", "v", "", "B1"]


def test_a_rule_with_a_fixed_boundary_comes_back_from_its_fields() -> None:
    rule = rule_of({**LOW, "window": {"n": 2, "m": 3}, "recovery": {"value": 0.4, "n": 2}, "labels": {"Region": "eu*"}})
    assert rule.metric == "prediction-accuracy"
    assert rule_of(as_fields(rule)) == rule


def test_a_value_on_the_boundary_is_not_beyond_it() -> None:
    low = rule_of(LOW)
    assert (low.is_beyond(0.29), low.is_beyond(0.3), low.is_clear(0.3)) == (True, False, True)
    high = rule_of({**LOW, "condition": "higher than"})
    assert (high.is_beyond(0.31), high.is_beyond(0.3)) == (True, False)


def test_between_boundary_and_recovery_a_value_is_neither_beyond_nor_clear() -> None:
    rule = rule_of({**LOW, "recovery": {"value": 0.4}})
    assert [(rule.is_beyond(value), rule.is_clear(value)) for value in (0.2, 0.35, 0.4)] == [
        (True, False),
        (False, False),
        (False, True),
    ]


def test_the_bad_side_of_a_learned_boundary_is_the_metrics_own() -> None:
    rule = rule_of(LEARNED)
    assert (rule.direction(ERROR_RATE), rule.direction(gauge("prediction_accuracy"))) == ("above", "below")


@pytest.mark.parametrize(
    ("text", "slug"),
    [
        ("PREDICTION_ACCURACY", "prediction-accuracy"),
        ("ERROR_RATE_PERCENTAGE", "error-rate"),
        (" error-rate ", "error-rate"),
        ("error_*", "error-*"),
    ],
)
def test_a_metric_may_be_called_as_elsewhere(text: str, slug: str) -> None:
    assert rule_of({**LEARNED, "metric": text}).metric == slug


def test_only_a_rule_that_names_calls_means_how_many_there_are() -> None:
    assert not rule_of(LEARNED).selects_metric("calls")
    assert not rule_of({**LEARNED, "metric": "c*"}).selects_metric("calls")
    assert rule_of({**LEARNED, "metric": "calls"}).selects_metric("calls")


def test_labels_must_all_be_there_and_fit() -> None:
    rule = rule_of({**LOW, "labels": {"region": "eu*", "Tier": "gold"}})
    assert rule.selects_labels({"region": "eu-1", "Tier": "gold", "more": "x"})
    assert not rule.selects_labels({"region": "eu-1"})
    assert not rule.selects_labels({"region": "us-1", "Tier": "gold"})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"condition": "outside threshold"}, "boundary: `outside threshold` means what was learned"),
        ({"boundary": "learned"}, "boundary: `lower than` needs a number"),
        ({"window": {"n": 3, "m": 2}}, "window: 3 of 2 points can never be"),
        ({"recovery": {"value": 0.2}}, "recovery: with `lower than 0.3`, 0.2 would end an alert"),
        ({"floor": {"absolute": 1.0}}, "floor: how far"),
        ({"floor": {"absolute": float("inf")}}, "floor: inf is not finite"),
        ({"boundary": float("nan")}, "boundary: nan is not finite"),
        ({"recovery": {"value": float("inf")}}, "recovery: inf is not finite"),
        ({"min_count": 2}, "min_count: behind a single event"),
        ({"subject": "model:Mistral/*"}, "subject: no subject is like 'model:Mistral/*'; `kind` says"),
        ({"subject": "B1/x", "kind": "biller", "metric": "*"}, "subject: no biller is like"),
        ({"subject": "Mistral", "kind": "model"}, "subject: a model is NAME/VERSION: `Mistral/*`"),
        ({"kind": "biller"}, "metric: no biller has 'prediction-accuracy'"),
        ({"metric": "predict accuracy"}, "metric: no metric is like"),
        ({"labels": {"region": "x"}, "kind": "biller", "metric": "*"}, "labels: calls have none"),
        ({"id": "audit"}, "id: `audit` is taken"),
        ({"id": "Low"}, "id"),
        ({"window": {"n": 0}}, "window.n"),
        ({"windw": {}}, "windw"),
        ({"boundary": True}, "boundary"),
    ],
)
def test_a_rule_that_could_never_do_what_it_says_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRuleError, match=re.escape(said)):
        rule_of({**LOW, **change})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": {"region": "x"}}, "labels: they select single events"),
        ({"recovery": {"value": 1.0}}, "recovery: a learned boundary moves"),
    ],
)
def test_a_learned_boundary_takes_no_labels_and_no_fixed_recovery(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRuleError, match=re.escape(said)):
        rule_of({**LEARNED, **change})


def test_everything_that_contradicts_itself_is_said_at_once() -> None:
    with pytest.raises(InvalidRuleError, match=r"window: .*; recovery: "):
        rule_of({**LOW, "window": {"n": 3, "m": 2}, "recovery": {"value": 0.2}})


def muted(mute: Mute, *times: str) -> list[bool]:
    return [mute.holds(parse_ms(time)) for time in times]


def test_a_mute_window_over_midnight_belongs_to_the_day_of_its_beginning() -> None:
    mute = Mute(since="22:00", until="06:00", days=("sat",))
    # 2026-03-07 is a Saturday.
    times = ("2026-03-07T05:59:00Z", "2026-03-07T22:00:00Z", "2026-03-08T05:59:59.999Z", "2026-03-08T06:00:00Z")
    assert muted(mute, *times) == [False, True, True, False]


def test_a_mute_window_of_one_moment_of_the_day_is_the_whole_day() -> None:
    mute = Mute(since="00:00", until="00:00", days=("sun",))
    assert muted(mute, "2026-03-08T00:00:00Z", "2026-03-08T23:59:00Z", "2026-03-09T00:00:00Z") == [True, True, False]


def test_a_mute_window_follows_the_clocks_of_its_zone() -> None:
    mute = Mute(since="08:00", until="09:00", zone="Europe/Berlin")
    # Before and after clocks go forward on 2026-03-29.
    assert muted(mute, "2026-03-28T07:30:00Z", "2026-03-30T07:30:00Z") == [True, False]
    assert muted(mute, "2026-03-28T06:30:00Z", "2026-03-30T06:30:00Z") == [False, True]


def test_an_hour_that_no_clock_shows_mutes_nothing_and_one_that_comes_twice_mutes_twice() -> None:
    mute = Mute(since="02:00", until="03:00", zone="Europe/Berlin")
    forward = [f"2026-03-29T00:{minute:02d}:00Z" for minute in (0, 59)]
    assert muted(mute, *forward, "2026-03-29T01:00:00Z") == [False, False, False]
    # On 2026-10-25, 02:30 is at 00:30 and at 01:30 in UTC.
    assert muted(mute, "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:30:00Z") == [True, True, False]


def test_a_mute_window_between_two_moments_is_half_open() -> None:
    mute = Mute(since="2026-03-07T22:00:00+01:00", until="2026-03-08T00:00:00Z")
    times = ("2026-03-07T20:59:59Z", "2026-03-07T21:00:00Z", "2026-03-08T00:00:00Z")
    assert muted(mute, *times) == [False, True, False]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"since": "24:00", "until": "06:00"}, "`since` is neither"),
        ({"since": "22:00", "until": "6:00"}, "`until` is neither"),
        ({"since": "22:00", "until": "06:00", "zone": "Mars"}, "Mars"),
        ({"since": "22:00", "until": "06:00", "zone": "../etc/passwd"}, "no IANA time zone"),
        ({"since": "2026-03-07T22:00:00", "until": "2026-03-08T22:00:00Z"}, "no moment with its offset"),
        ({"since": "2026-03-08T22:00:00Z", "until": "2026-03-07T22:00:00Z"}, "ends before it begins"),
        ({"since": "2026-03-07T22:00:00Z", "until": "06:00"}, "'06:00' is no moment"),
        ({"since": "2026-03-07T22:00:00Z", "until": "2026-03-08T22:00:00Z", "days": ["sat"]}, "`days` belong"),
        ({"since": "22:00", "until": "06:00", "days": ["saturday"]}, "saturday"),
    ],
)
def test_a_mute_window_that_is_none_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRuleError, match=re.escape(said)):
        rule_of({**LOW, "mute": [fields]})


def test_without_a_rule_everything_learned_is_watched() -> None:
    book = RuleBook(in_force(()))
    assert ids(book.for_subject(B1)) == ["biller-failures", "biller-latency", "biller-silent"]
    assert ids(book.for_subject(MISTRAL)) == ["model-threshold"]
    assert ids(book.for_series(B1, "error-rate")) == ["biller-failures"]
    assert ids(book.for_series(B1, "calls")) == ["biller-silent"]
    assert ids(book.for_series(MISTRAL, "drift")) == ["model-threshold"]


def test_a_written_rule_takes_the_place_of_the_default_with_its_id() -> None:
    mine = Rule(id="biller-failures", metric="error-rate", kind="biller", condition="outside threshold")
    assert ids(in_force([mine])) == ["biller-failures", "biller-latency", "biller-silent", "model-threshold"]
    assert mine in in_force([mine])
    assert in_force([mine], has_defaults=False) == (mine,)


def test_rules_of_one_subject_a_glob_and_a_kind_are_found_together_in_the_order_of_their_ids() -> None:
    rules = [
        rule_of({**LEARNED, "id": "d-all"}),
        rule_of({**LEARNED, "id": "c-exact", "subject": "B1"}),
        rule_of({**LEARNED, "id": "b-glob", "subject": "B*"}),
        rule_of({**LEARNED, "id": "a-glob", "subject": "?1", "kind": "biller"}),
        rule_of({**LEARNED, "id": "model", "kind": "model"}),
        rule_of({**LEARNED, "id": "off", "is_enabled": False}),
        rule_of({**LEARNED, "id": "other", "subject": "B10"}),
    ]
    book = RuleBook(rules, 7)
    assert ids(book.for_subject(B1)) == ["a-glob", "b-glob", "c-exact", "d-all"]
    assert ids(book.for_subject(Subject.biller("B12"))) == ["b-glob", "d-all"]
    assert ids(book.for_subject(MISTRAL)) == ["d-all", "model"]
    assert book.for_subject(B1) is book.for_subject(B1)
    assert (book.revision, len(book), book.rule("off") is not None) == (7, 7, True)


def test_a_rule_that_names_a_biller_does_not_mean_a_model_of_that_name() -> None:
    rule = rule_of({**LEARNED, "subject": "Mistral/v1", "kind": "model"})
    assert RuleBook([rule]).for_subject(MISTRAL) == (rule,)
    biller = rule_of({**LEARNED, "subject": "B1", "kind": "biller"})
    assert RuleBook([biller]).for_subject(B1) == (biller,)


def test_a_book_finds_what_asking_every_rule_would_find() -> None:
    rules = [
        rule_of({**LEARNED, "id": f"r{at}", "subject": glob, **({"kind": kind} if kind else {})})
        for at, (glob, kind) in enumerate(
            (glob, kind)
            for glob in ("*", "B1", "B1*", "B*", "*1", "Mistral/*", "Mis*", "?*", "B?", "*/v1", "Mistral/v1")
            for kind in ("biller", "model", None)
            if not (kind == "biller" and "/" in glob) and not (kind == "model" and glob in {"B1", "B?"})
        )
    ]
    book = RuleBook(rules)
    for subject in (B1, MISTRAL, Subject.biller("X1"), Subject.biller("Mistral"), Subject.model("B1", "v1")):
        expected = sorted(rule.id for rule in rules if rule.selects_subject(subject))
        assert ids(book.for_subject(subject)) == expected


def test_a_book_remembers_no_more_than_so_many_metrics() -> None:
    book = RuleBook(DEFAULT_RULES)
    for at in range(5000):
        assert ids(book.for_series(MISTRAL, f"gauge-{at}")) == ["model-threshold"]
    (selection,) = {id(one): one for one in [book._of(MISTRAL)]}.values()
    assert len(selection._by_slug) <= 1024


def test_a_book_is_refused_as_a_whole() -> None:
    with pytest.raises(InvalidRuleError, match="two rules are called learned"):
        RuleBook([rule_of(LEARNED), rule_of(LEARNED)])
    many = [rule_of({**LEARNED, "id": f"r{at}"}) for at in range(MAX_RULES + 1)]
    with pytest.raises(InvalidRuleError, match="1,001 rules"):
        RuleBook(many)


def test_the_defaults_are_rules_like_others() -> None:
    for rule in DEFAULT_RULES:
        assert rule_of(as_fields(rule)) == rule
    assert DEFAULT_RULES[0].recovery == Recovery(n=5)
    assert DEFAULT_RULES[0].window == Window()
    assert DEFAULT_RULES[0].floor == Floor(absolute=20.0, relative=0.3)
