"""Files of rules: every fault with its place, or rules that mean the same when they are written and read again."""

from pathlib import Path

import orjson
import yaml

from detection.errors import InvalidRuleError, TooLargeError
from detection.rules.draft import Draft, read_draft, read_rule
from detection.rules.rule import as_fields
from state.rule_files import rule_in, rules_in
from tests.contract.states import biller, model
from tests.fuzz.targets.living import judged_by

_EXAMPLE = Path(__file__).parents[3] / "examples" / "rules.yaml"


def check(data: bytes) -> None:
    """Raise for any other error than that of a rule, and for rules that cannot be kept or looked at."""
    try:
        rule_in(data, name="rule.yaml")
    except (InvalidRuleError, TooLargeError) as error:
        assert str(error).startswith("rule.yaml")
    try:
        draft = rules_in(data, name="rules.yaml")
    except (InvalidRuleError, TooLargeError) as error:
        assert str(error).startswith("rules.yaml") or not getattr(error, "faults", ())
        orjson.dumps([str(error), getattr(error, "faults", ())])
        return
    _kept(draft)
    for state in (biller(hours=3), model(hours=3)):
        judged_by(draft.rules, state)


def _kept(draft: Draft) -> None:
    plain = [as_fields(rule) for rule in draft.rules]
    assert [read_rule(orjson.loads(orjson.dumps(one))) for one in plain] == list(draft.rules)
    assert read_draft({"rules": plain, "defaults": draft.has_defaults}) == draft
    text = yaml.safe_dump({"rules": plain, "defaults": draft.has_defaults}, allow_unicode=True).encode()
    assert rules_in(text, name="again.yaml") == draft


def seeds() -> list[bytes]:
    """The example, rule by rule, and what YAML has that no rule needs."""
    example = _EXAMPLE.read_bytes()
    rules = yaml.safe_load(example)["rules"]
    single = [yaml.safe_dump({"rules": [rule]}, sort_keys=False).encode() for rule in rules]
    alone = [yaml.safe_dump(rule, sort_keys=False).encode() for rule in rules]
    others = [
        b"rules: []",
        b"defaults: false\nrules:\n- &a {id: a, metric: drift, condition: greater than, boundary: 0.5}\n- *a\n",
        b"a: &a [x,x,x]\nb: &b [*a,*a,*a]\nc: &c [*b,*b,*b]\nrules: *c\n",
        b"rules: !!python/object:os.system [ls]",
        b"rules: [{id: no, metric: drift, condition: lower than, boundary: .nan}]",
        b"rules: [{id: x, metric: '*', condition: lower than, boundary: 1e400, subject: '{B1}'}]",
        b"rules: [{id: x, metric: drift, mute: [{days: [mon], from: '22:00', to: '06:00', zone: Europe/Paris}]}]",
        b"? [a]\n: b", b"<<: {a: 1}", b"--- a\n--- b", b"[" * 400, b"{a: " * 400, b"\xff", b"%YAML 9.9\n---\n", b"\x00",
    ]  # fmt: skip
    return [example, *single, *alone, *others]
