"""Changes of rules on their way from Redis to PostgreSQL, both real."""

from collections.abc import AsyncIterator

import orjson
import pytest
from msgspec import structs

from detection.errors import DependencyError
from detection.rules.rule import Rule
from local.stack import Stack
from state.database import Database
from state.keys import RULES
from state.migrate import migrate
from state.redis_rules import RedisRules
from state.rule_audit import PostgresRuleAudit, relay_changes
from state.rule_store import Author, change_rules, delete, put
from tests.databases import new_database

RULE = Rule(id="accuracy", metric="prediction_accuracy", condition="lower than", boundary=0.3)
DATABASE = 12


@pytest.fixture
async def rules(stack: Stack) -> AsyncIterator[RedisRules]:
    store = RedisRules.connect(stack.valkey.url.rsplit("/", 1)[0] + f"/{DATABASE}")
    await store._ask(("DEL", RULES))
    yield store
    await store.aclose()


@pytest.fixture
async def database(stack: Stack) -> AsyncIterator[Database]:
    with new_database(stack, "audit") as url:
        migrate(url)
        async with Database(url) as opened:
            yield opened


async def test_a_change_reaches_the_audit_once_however_often_it_is_relayed(
    rules: RedisRules, database: Database
) -> None:
    audit = PostgresRuleAudit(database)
    await change_rules(rules, lambda book: put(book, RULE, Author("ann", 1_763_726_400_123)))
    await change_rules(rules, lambda book: delete(book, "accuracy", Author("bob", 1_763_726_400_456)))
    waiting = await rules.waiting()
    await audit.keep(waiting)
    assert await relay_changes(rules, audit) == 2
    assert await relay_changes(rules, audit) == 0
    assert await audit.read(limit=10) == list(reversed(waiting))
    first, second = await audit.read(limit=1), await audit.read(before=(1_763_726_400_456, "accuracy", 2), limit=10)
    assert [one.revision for one in (*first, *second)] == [2, 1]
    assert await audit.read(rule_id="other", limit=10) == []


async def test_a_change_waits_for_an_audit_that_is_away(rules: RedisRules) -> None:
    async with Database("postgresql://postgres@127.0.0.1:1/postgres", timeout_seconds=0.5) as away:
        await change_rules(rules, lambda book: put(book, RULE, Author("ann", 1_763_726_400_000)))
        with pytest.raises(DependencyError, match="postgres"):
            await relay_changes(rules, PostgresRuleAudit(away))
    assert [one.rule_id for one in await rules.waiting()] == ["accuracy"]


async def test_a_boundary_that_postgresql_writes_with_all_its_digits_comes_back_as_the_number_it_was(
    rules: RedisRules, database: Database
) -> None:
    audit = PostgresRuleAudit(database)
    steep = structs.replace(RULE, boundary=1e300)
    await change_rules(rules, lambda book: put(book, steep, Author("ann", 1_763_726_400_123)))
    waiting = await rules.waiting()
    await relay_changes(rules, audit)
    found = await audit.read(limit=10)
    assert found == waiting
    assert orjson.loads(orjson.dumps(found[0].after))["boundary"] == 1e300
