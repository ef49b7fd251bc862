"""The twin of the rules in Redis for tests: the same fields, through the same codec, in a dict."""

from collections.abc import Collection

from state.rule_store import (
    CHANGE,
    REVISION,
    Revision,
    RuleChange,
    StoredBook,
    decode_book,
    decode_changes,
    encode_revision,
)


class MemoryRules:
    """A `state.rule_store.RuleStore` that forgets everything with its process; `fields` holds what Redis would."""

    def __init__(self) -> None:
        self.fields: dict[bytes, bytes] = {}

    async def rules(self) -> StoredBook:
        return decode_book(self.fields)

    async def revision(self) -> int:
        return int(self.fields.get(REVISION, b"0"))

    async def revise(self, revision: Revision) -> bool:
        if await self.revision() != revision.book.revision - 1:
            return False
        for name in revision.removed:
            self.fields.pop(name.encode(), None)
        self.fields |= encode_revision(revision)
        return True

    async def waiting(self) -> list[RuleChange]:
        return decode_changes(self.fields)

    async def audited(self, revisions: Collection[int]) -> None:
        for one in revisions:
            self.fields.pop(CHANGE + b"%010d" % one, None)
