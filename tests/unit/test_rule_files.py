"""Rules as people write them in YAML: every fault, with its line."""

from pathlib import Path

import pytest

from detection.errors import InputError, InvalidRuleError, SettingsError, TooLargeError
from detection.rules.draft import Draft, read_draft
from state.memory_rules import MemoryRules
from state.rule_files import apply_once, load_rules, rules_in, rules_of_setting
from state.rule_store import Author, change_rules, delete
from state.yaml_tree import MAX_BYTES, parse

EXAMPLE = Path(__file__).parents[2] / "examples" / "rules.yaml"

FAULTY = """\
defualts: false
rules:
  - id: low
    metric: prediction_accuracy
    condition: lower then
    window: {n: 0, k: 1}
  - id: low
    metric: x
    condition: higher than
    boundary: 3
    mute:
      - since: 22:00
        until: 6 o'clock
    window:
      n: 3
      m: 2
    is_enabled: no
  - metric: x
    condition: outside threshold
    severity: warn
"""


def said(text: str) -> list[str]:
    with pytest.raises(InvalidRuleError) as raised:
        rules_in(text.encode(), name="rules.yaml")
    return str(raised.value).splitlines()


def test_every_fault_is_said_at_once_with_its_line_and_column() -> None:
    assert said(FAULTY) == [
        "rules.yaml:1:1: `defualts` is no field of the file, did you mean `defaults`?",
        (
            "rules.yaml:5:5: condition: 'lower then' is none of lower than, higher than, outside threshold, "
            "did you mean `lower than`?"
        ),
        "rules.yaml:6:14: window.n: expected a whole number >= 1",
        "rules.yaml:6:20: `k` is no field of a window",
        "rules.yaml:7:5: id: low is the id of an earlier rule",
        (
            "rules.yaml:12:9: mute[0]: mute from '22:00' until \"6 o'clock\": `until` is neither a time of day such as "
            "'22:00' nor a moment such as '2026-11-21T22:00:00Z'"
        ),
        "rules.yaml:14:5: window: 3 of 2 points can never be",
        "rules.yaml:17:5: is_enabled: expected true or false, got a text",
        "rules.yaml:18:5: `id` is missing",
        "rules.yaml:20:5: severity: 'warn' is none of info, warning, critical, did you mean `warning`?",
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "rules.yaml:1:1: nothing is in it"),
        ("- a", "rules.yaml:1:1: `rules:` with a list of rules is needed, not a list"),
        ("rules: low", "rules.yaml:1:1: rules: a list of rules is needed, not a text"),
        ("rules:\n- 3", "rules.yaml:2:3: the fields of a rule are needed, not a whole number"),
        ("rules: [", "rules.yaml:2:1: did not find expected node content"),
        ("rules: []\nrules: []", "rules.yaml:2:1: `rules` is here already, in line 1"),
        ("rules: []\n---\nrules: []", "rules.yaml:3:1: one document is taken, and this is the second"),
        ("rules: !!python/name:os.system []", "rules.yaml:1:8: the tag tag:yaml.org,2002:python/name:os.system"),
        ("rules: *x", "rules.yaml:1:8: *x stands for nothing that is complete before it"),
        ("rules: &x [*x]", "rules.yaml:1:12: *x stands for nothing that is complete before it"),
        ("<<: {rules: []}", "rules.yaml:1:1: merge keys are not taken"),
        ("3: []", "rules.yaml:1:1: the name of a field is a text"),
        ("rules: \x07", "rules.yaml:1: control characters are not allowed"),
        ("rules: " + "[" * 50, "rules.yaml:1:24: more than 16 levels deep"),
    ],
)
def test_what_is_not_a_file_of_rules_is_refused_with_its_line(text: str, fault: str) -> None:
    (line,) = said(text)
    assert line.startswith(fault)


def test_lines_of_aliases_that_stand_for_a_thousand_million_values_are_refused_at_once() -> None:
    bomb = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
    bomb += "".join(f"a{at}: &a{at} [{', '.join([f'*a{at - 1}'] * 10)}]\n" for at in range(1, 9))
    (line,) = said(bomb)
    assert "more than 100,000 values" in line


def test_more_than_a_megabyte_is_not_looked_at() -> None:
    with pytest.raises(TooLargeError, match=r"rules\.yaml: 1,000,001 bytes"):
        parse(b"#" * (MAX_BYTES + 1), name="rules.yaml")


def test_what_is_not_utf_8_is_refused_with_its_line() -> None:
    with pytest.raises(InvalidRuleError, match=r"rules\.yaml:2: not UTF-8"):
        rules_in(b"rules: []\n# \xff", name="rules.yaml")


def test_only_the_core_schema_is_read() -> None:
    text = "[yes, no, on, 22:00, 2026-03-01, true, 0.3, 1e3, -7, .inf, ~, '3', 0x1F, 1_000]"
    assert parse(text.encode(), name="x").value == [
        *("yes", "no", "on", "22:00", "2026-03-01", True, 0.3, 1000.0, -7, float("inf"), None, "3", "0x1F", "1_000")
    ]


def test_an_alias_stands_for_its_value() -> None:
    text = """\
rules:
  - {id: a, metric: x, condition: higher than, boundary: 1, mute: &nights [{since: 22:00, until: 06:00}]}
  - {id: b, metric: x, condition: higher than, boundary: 2, mute: *nights}
"""
    first, second = rules_in(text.encode(), name="rules.yaml").rules
    assert first.mute == second.mute
    assert first.mute


def test_plain_values_are_refused_with_the_way_to_each_fault() -> None:
    with pytest.raises(InvalidRuleError) as raised:
        read_draft({"rules": [{"id": "a", "metric": "x", "condition": "higher than", "boundary": "3"}]})
    assert str(raised.value) == "rules[0].boundary: '3' is none of a number, learned"
    assert raised.value.faults[0][0] == ("rules", 0, "boundary")


def test_the_example_is_right() -> None:
    draft = load_rules(EXAMPLE).draft
    assert [rule.id for rule in draft.rules] == ["low-accuracy", "slow-inference", "biller-errors"]
    assert draft.has_defaults
    accuracy = draft.rules[0]
    assert (accuracy.metric, accuracy.condition, accuracy.boundary) == ("prediction-accuracy", "lower than", 0.3)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.yaml: No such file"):
        load_rules(tmp_path / "nothing.yaml")
    with pytest.raises(SettingsError, match=r"TIDEMARK_RULES: .*nothing\.yaml"):
        rules_of_setting(tmp_path / "nothing.yaml")
    assert rules_of_setting(None) is None


async def test_a_worker_that_starts_again_does_not_undo_what_was_changed_since(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text("rules: [{id: a, metric: x, condition: higher than, boundary: 1}]")
    store, file = MemoryRules(), load_rules(path)
    assert await apply_once(store, file, at_ms=1) is not None
    await change_rules(store, lambda book: delete(book, "a", Author("ann", 2)))
    assert await apply_once(store, file, at_ms=3) is None
    assert (await store.rules()).rules == {}
    path.write_text("rules: [{id: a, metric: x, condition: higher than, boundary: 2}]")
    assert await apply_once(store, load_rules(path), at_ms=4) is not None
    one = (await store.rules()).rules["a"]
    assert (one.rule.boundary, one.source, one.by) == (2.0, "file", "TIDEMARK_RULES")


def test_nothing_written_is_a_book_of_defaults() -> None:
    assert read_draft({}) == Draft()
