"""One contract for the book of rules, in Redis, in a cluster and in memory."""

from collections.abc import AsyncIterator

import orjson
import pytest

from detection.errors import ConflictError, DependencyError, UnreadableStateError
from detection.rules.draft import Draft
from detection.rules.mute import Mute
from detection.rules.rule import Recovery, Rule, Window
from state.keys import RULES
from state.memory_rules import MemoryRules
from state.redis_rules import RedisRules
from state.rule_store import (
    Author,
    RuleStore,
    StoredBook,
    change_rules,
    delete,
    put,
    replace_all,
)
from tests.contract.redis_servers import Cluster

ANN = Author("ann", 1_763_726_400_000)
FILE = Author("deploy", 1_763_726_460_000, "file")
ACCURACY = Rule(
    id="accuracy",
    metric="prediction_accuracy",
    condition="lower than",
    boundary=0.3,
    kind="model",
    labels={"region": "eu*"},
    window=Window(n=2, m=3),
    recovery=Recovery(value=0.35, n=2),
    notify=("ops",),
    mute=(Mute(since="22:00", until="06:00", days=("sat",), zone="Europe/Berlin"),),
)
SLOW = Rule(id="slow", metric="inference_time", condition="higher than", boundary=500.0)


class Rules:
    """A store, and a way past it."""

    def __init__(self, store: RuleStore) -> None:
        self.store = store

    async def spoil(self, name: bytes, value: bytes) -> None:
        if isinstance(self.store, MemoryRules):
            self.store.fields[name] = value
        else:
            assert isinstance(self.store, RedisRules)
            await self.store._ask(("HSET", RULES, name, value))


@pytest.fixture(params=["memory", "redis", "cluster"])
async def rules(request: pytest.FixtureRequest) -> AsyncIterator[Rules]:
    if request.param == "memory":
        yield Rules(MemoryRules())
        return
    url: str
    if request.param == "redis":
        url = request.getfixturevalue("redis_url")
    else:
        cluster: Cluster = request.getfixturevalue("cluster")
        url = cluster.url
    store = RedisRules.connect(url)
    await store._ask(("DEL", RULES))
    yield Rules(store)
    await store.aclose()


async def test_a_store_without_rules_has_the_defaults(rules: Rules) -> None:
    book = await rules.store.rules()
    assert (book.revision, await rules.store.revision()) == (0, 0)
    assert [one.rule.id for one in book.in_force()] == [
        "biller-failures",
        "biller-latency",
        "biller-silent",
        "model-threshold",
    ]
    assert {one.source for one in book.in_force()} == {"default"}


async def test_a_rule_comes_back_as_it_was_put(rules: Rules) -> None:
    written, _ = await change_rules(rules.store, lambda book: put(book, ACCURACY, ANN))
    stored = await rules.store.rules()
    assert stored == written
    assert stored.rules["accuracy"].rule == ACCURACY
    assert (stored.rules["accuracy"].by, stored.rules["accuracy"].revision) == ("ann", 1)
    assert await rules.store.revision() == 1


async def test_the_same_rule_again_is_no_change(rules: Rules) -> None:
    await change_rules(rules.store, lambda book: put(book, ACCURACY, ANN))
    book, revision = await change_rules(rules.store, lambda book: put(book, ACCURACY, FILE))
    assert revision is None
    assert book.revision == 1


async def test_a_change_of_a_book_that_was_changed_since_is_refused_and_writes_nothing(rules: Rules) -> None:
    first, second = put(StoredBook(), ACCURACY, ANN), put(StoredBook(), SLOW, ANN)
    assert first is not None
    assert second is not None
    assert await rules.store.revise(first)
    assert not await rules.store.revise(second)
    assert list((await rules.store.rules()).rules) == ["accuracy"]
    assert [one.rule_id for one in await rules.store.waiting()] == ["accuracy"]


async def test_two_who_change_at_once_both_get_their_change(rules: Rules) -> None:
    await change_rules(rules.store, lambda book: put(book, ACCURACY, ANN))
    stale = await rules.store.rules()
    await change_rules(rules.store, lambda book: put(book, SLOW, ANN))
    seen = []

    def late(book: StoredBook) -> object:
        seen.append(book.revision)
        return delete(stale if len(seen) == 1 else book, "accuracy", ANN)

    book, _ = await change_rules(rules.store, late)  # type: ignore[arg-type]  # what it returns is a revision
    assert seen == [2, 2]
    assert list(book.rules) == ["slow"]
    assert await rules.store.rules() == book


async def test_who_is_never_fast_enough_is_told(rules: Rules) -> None:
    stale = put(StoredBook(), SLOW, ANN)
    await change_rules(rules.store, lambda book: put(book, ACCURACY, ANN))
    with pytest.raises(ConflictError, match="somebody else"):
        await change_rules(rules.store, lambda _book: stale)


async def test_a_deleted_rule_is_gone_and_a_default_is_back(rules: Rules) -> None:
    mine = Rule(id="model-threshold", metric="drift", condition="outside threshold", is_enabled=False)
    await change_rules(rules.store, lambda book: put(book, mine, ANN))
    assert (await rules.store.rules()).book().rule("model-threshold") == mine
    await change_rules(rules.store, lambda book: delete(book, "model-threshold", ANN))
    book = await rules.store.rules()
    found = book.find("model-threshold")
    assert found is not None
    assert (found.source, found.rule.is_enabled, dict(book.rules)) == ("default", True, {})


async def test_a_file_takes_back_what_files_wrote_and_leaves_the_rest(rules: Rules) -> None:
    other = Rule(id="other", metric="drift", condition="higher than", boundary=1.0)
    await change_rules(rules.store, lambda book: put(book, other, ANN))
    await change_rules(rules.store, lambda book: replace_all(book, Draft((ACCURACY, SLOW)), FILE, file="a"))
    book, _ = await change_rules(rules.store, lambda book: replace_all(book, Draft((ACCURACY,), False), FILE, file="b"))
    assert {name: one.source for name, one in book.rules.items()} == {"accuracy": "file", "other": "api"}
    assert await rules.store.rules() == book
    assert (book.has_defaults, book.file) == (False, "b")
    assert [one.rule.id for one in book.in_force()] == ["accuracy", "other"]


async def test_a_file_wins_for_a_rule_that_it_names(rules: Rules) -> None:
    await change_rules(rules.store, lambda book: put(book, SLOW, ANN))
    await change_rules(rules.store, lambda book: replace_all(book, Draft((SLOW,)), FILE))
    book, _ = await change_rules(rules.store, lambda book: replace_all(book, Draft(()), FILE))
    assert dict(book.rules) == {}


async def test_a_whole_book_takes_the_place_of_everything(rules: Rules) -> None:
    await change_rules(rules.store, lambda book: replace_all(book, Draft((ACCURACY,)), FILE, file="a"))
    book, _ = await change_rules(rules.store, lambda book: replace_all(book, Draft((SLOW,)), ANN))
    assert {name: one.source for name, one in book.rules.items()} == {"slow": "api"}
    assert await rules.store.rules() == book


async def test_every_change_waits_for_its_audit_until_that_has_it(rules: Rules) -> None:
    changed = Rule(id="slow", metric="inference_time", condition="higher than", boundary=600.0)
    await change_rules(rules.store, lambda book: put(book, SLOW, ANN))
    await change_rules(rules.store, lambda book: replace_all(book, Draft((changed, ACCURACY), False), FILE))
    await change_rules(rules.store, lambda book: delete(book, "slow", ANN))
    waiting = await rules.store.waiting()
    assert [(one.revision, one.rule_id, one.action, one.by) for one in waiting] == [
        (1, "slow", "created", "ann"),
        (2, "accuracy", "created", "deploy"),
        (2, "slow", "changed", "deploy"),
        (2, "_defaults", "changed", "deploy"),
        (3, "slow", "deleted", "ann"),
    ]
    assert waiting[2].before is not None
    assert waiting[2].after is not None
    assert (waiting[2].before["boundary"], waiting[2].after["boundary"]) == (500.0, 600.0)
    assert waiting[4].after is None
    await rules.store.audited({1, 2})
    assert [one.revision for one in await rules.store.waiting()] == [3]
    assert [one.rule_id for one in await rules.store.waiting()] == ["slow"]


async def test_changes_are_refused_when_a_thousand_wait_for_their_audit(rules: Rules) -> None:
    await rules.spoil(b"_revision", b"1000")
    for at in range(1, 1001):
        change = {"revision": at, "at": "2026-03-01T10:00:00Z", "rule": "x", "action": "deleted", "by": "ann"}
        await rules.spoil(b"_change:%010d" % at, orjson.dumps([{**change, "before": None, "after": None}]))
    with pytest.raises(DependencyError, match="postgres: 1,000 changes"):
        await change_rules(rules.store, lambda book: put(book, SLOW, ANN))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"slow", b"{"),
        (b"slow", b"{}"),
        (b"slow", b'{"source":"moon","revision":1,"changed":"2026-03-01T10:00:00Z","by":"","rule":{}}'),
        (b"_revision", b"many"),
        (b"_defaults", b"perhaps"),
    ],
)
async def test_what_nobody_can_have_written_names_its_field(rules: Rules, name: bytes, value: bytes) -> None:
    await change_rules(rules.store, lambda book: put(book, ACCURACY, ANN))
    await rules.spoil(name, value)
    with pytest.raises(UnreadableStateError, match=f"{RULES} {name.decode()}: damaged"):
        await rules.store.rules()


async def test_a_rule_under_the_name_of_another_one_is_damaged(rules: Rules) -> None:
    await change_rules(rules.store, lambda book: put(book, SLOW, ANN))
    about = {"source": "api", "revision": 1, "changed": "2026-03-01T10:00:00Z", "by": ""}
    fields = {"id": "quick", "metric": "x", "condition": "outside threshold"}
    await rules.spoil(b"slow", orjson.dumps({**about, "rule": fields}))
    with pytest.raises(UnreadableStateError, match="quick"):
        await rules.store.rules()


async def test_a_thousand_rules_are_written_in_one_step(rules: Rules) -> None:
    many = tuple(Rule(id=f"r{at}", metric="x", condition="higher than", boundary=1.0) for at in range(1000))
    book, _ = await change_rules(rules.store, lambda book: replace_all(book, Draft(many, False), FILE))
    assert len(book.rules) == 1000
    assert await rules.store.rules() == book
    await change_rules(rules.store, lambda book: replace_all(book, Draft(), FILE))
    assert (await rules.store.rules()).rules == {}
