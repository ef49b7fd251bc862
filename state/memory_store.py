"""The twin of the Redis store for tests of the pure parts: the same fields, through the same codec, in a dict."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Collection, Iterable, Mapping, Sequence

from detection.cohorts import Cohort
from detection.hours import iso
from detection.policy import Policy
from detection.rules.alert import Alert, Transition
from detection.subject import Subject
from detection.subject_state import SubjectState
from detection.windows import Window
from state.as_stored import AsStored, StoredTexts
from state.codec import (
    HEAD_FIELDS,
    decode,
    decode_alerts,
    decode_models,
    encode,
    head,
    slugs_of,
)
from state.cohort_codec import DUE, REFRESHED, decode_cohorts, encode_cohorts, is_due
from state.counts_codec import decode_counts
from state.keys import CLOCK, COHORTS, LOG, PROGRESS, models_key, outbox_key, series_key, subject_key
from state.outbox_codec import PUBLISHED, decode_alert_history, decode_announcements, decode_outbox, outbox_fields
from state.readable_series import answer_fields, held
from state.redis_progress import decode_lives, decode_progress, encode_progress, fields_of_topic
from state.series_fields import ANSWER_FIELDS
from state.store import Announcements, Head, LearnedHour, LogLife, Reached, is_owned
from state.survey import Lately, Survey, Tally
from state.survey_codec import read_lately, survey_commands, survey_of, tally_commands, tally_of


class MemoryStore:
    """A `state.store.StateStore` that forgets everything with its process.

    `hashes` holds what Redis would, byte for byte: names and values by key.
    """

    def __init__(self, policy: Policy) -> None:
        self.hashes: dict[str, dict[bytes, bytes]] = {}
        self._policy = policy
        self._index: list[str] = []

    async def load(self, subjects: Sequence[Subject]) -> dict[Subject, SubjectState]:
        found = {}
        for subject in subjects:
            fields = self._fields(subject_key(subject))
            if fields:
                series = {
                    slug: self._fields(series_key(subject, slug)) for slug in slugs_of(subject, fields.get(b"metrics"))
                }
                found[subject] = decode(subject, fields, series, self._fields(models_key(subject)), self._policy)
        return found

    async def load_counts(self, subjects: Sequence[Subject]) -> dict[Subject, SubjectState]:
        found = {}
        for subject in subjects:
            fields = self._fields(subject_key(subject))
            if fields:
                found[subject] = decode_counts(subject, fields) or (await self.load([subject]))[subject]
        return found

    async def load_models(self, states: Sequence[SubjectState]) -> list[Subject]:
        moved = []
        for state in states:
            if state.has_models:
                continue
            if state.about and self._fields(subject_key(state.subject)).get(b"rev") == b"%d" % state.rev:
                decode_models(state, self._fields(models_key(state.subject)), self._policy)
            else:
                moved.append(state.subject)
        return moved

    async def save(self, states: Sequence[SubjectState]) -> list[Subject]:
        refused = []
        for state in states:
            subject = state.subject
            write = encode(state, self._policy)
            if self._fields(subject_key(subject)).get(b"rev", b"0") != write.expected_rev:
                refused.append(subject)
                continue
            for key, _ in write.series:
                for name in write.removed:
                    self._fields(key).pop(name, None)
            for key, flat in write.hashes:
                self.hashes.setdefault(key, {}).update(zip(flat[::2], flat[1::2], strict=True))
            if state.rev == 0:
                insort(self._index, str(subject))
            write.apply_to(state)
        return refused

    async def confirm(self, states: Sequence[SubjectState]) -> list[Subject]:
        return [one.subject for one in states if self._fields(subject_key(one.subject)).get(b"rev") != b"%d" % one.rev]

    async def heads(self, subjects: Sequence[Subject]) -> list[Head]:
        found = []
        for subject in subjects:
            fields = self._fields(subject_key(subject))
            values = [fields.get(name.encode()) for name in HEAD_FIELDS]
            one = head(subject, values, len(self._fields(outbox_key(subject))))
            if one is not None:
                found.append(one)
        return found

    async def unrelayed(self, subjects: Sequence[Subject]) -> list[Subject]:
        return [subject for subject in subjects if self._fields(outbox_key(subject))]

    async def behind(self, subjects: Sequence[Subject], *, places: Collection[str], hour: int) -> list[Subject]:
        return [
            head.subject
            for head in await self.heads(subjects)
            if is_owned(head, places) and (head.published_hour < hour or head.is_outdated)
        ]

    async def subjects(self, *, after: str = "", limit: int = 1000, prefix: str = "") -> list[Subject]:
        start = max(bisect_right(self._index, after) if after else 0, bisect_left(self._index, prefix))
        end = bisect_left(self._index, prefix + "\x7f") if prefix else len(self._index)
        return [Subject.parse(text) for text in self._index[start : min(end, start + limit)]]

    async def count_subjects(self, *, prefix: str = "") -> int:
        return sum(text.startswith(prefix) for text in self._index)

    async def answers(self, subjects: Sequence[Subject]) -> dict[Subject, dict[str, dict[str, str]]]:
        found: dict[Subject, dict[str, dict[str, str]]] = {}
        for subject in subjects:
            metrics = self._fields(subject_key(subject)).get(b"metrics")
            for slug in slugs_of(subject, metrics):
                series = self._fields(series_key(subject, slug))
                fields = answer_fields([series.get(name.encode()) for name in ANSWER_FIELDS])
                if fields is not None:
                    found.setdefault(subject, {})[slug] = fields
        return found

    async def as_stored(self, subjects: Sequence[Subject]) -> StoredTexts:
        found = []
        for subject in subjects:
            own = self._fields(subject_key(subject))
            series = []
            for slug in sorted(slugs_of(subject, own.get(b"metrics"))):
                fields = self._fields(series_key(subject, slug))
                values = [fields.get(name.encode()) for name in ANSWER_FIELDS]
                if values[0] is not None:
                    series.append((slug, held(values)))
            found.append(AsStored(subject, series, own.get(b"minutes")))
        return StoredTexts.of(found)

    async def lately(self, subjects: Sequence[Subject]) -> dict[Subject, Lately]:
        found = {}
        for subject in subjects:
            one = read_lately(subject, self._fields(subject_key(subject)).get(b"minutes"))
            if one is not None:
                found[subject] = one
        return found

    async def alerts(self, subjects: Sequence[Subject]) -> dict[Subject, dict[str, Alert]]:
        stored = {subject: self._fields(subject_key(subject)).get(b"alerts") for subject in subjects}
        return {subject: decode_alerts(subject, data) for subject, data in stored.items() if data}

    async def surveys(self, subjects: Sequence[Subject]) -> dict[Subject, Survey]:
        found = {}
        for subject in subjects:
            slugs = slugs_of(subject, self._fields(subject_key(subject)).get(b"metrics"))
            one = survey_of(subject, slugs, self._replies(survey_commands(subject, slugs)))
            if one is not None:
                found[subject] = one
        return found

    async def tallies(self, subjects: Sequence[Subject]) -> dict[Subject, Tally]:
        found = {}
        for subject in subjects:
            slugs = slugs_of(subject, self._fields(subject_key(subject)).get(b"metrics"))
            one = tally_of(self._replies(tally_commands(subject, slugs)))
            if one is not None:
                found[subject] = one
        return found

    def _replies(self, commands: Sequence[Sequence[str]]) -> list[list[bytes | None]]:
        """What Redis would answer to these."""
        return [
            [self._fields(key).get(name.encode()) for name in names] if command == "HMGET" else [*self._fields(key)]
            for command, key, *names in commands
        ]

    async def glance(self, subject: Subject, slug: str) -> AsStored:
        series = self._fields(series_key(subject, slug))
        values = [series.get(name.encode()) for name in ANSWER_FIELDS]
        minutes = self._fields(subject_key(subject)).get(b"minutes")
        return AsStored(subject, [] if values[0] is None else [(slug, held(values))], minutes)

    async def outbox(self, subjects: Sequence[Subject]) -> dict[Subject, dict[int, Window]]:
        found = await self.learned_hours(subjects)
        return {subject: {hour: one.window for hour, one in hours.items()} for subject, hours in found.items()}

    async def learned_hours(self, subjects: Sequence[Subject]) -> dict[Subject, dict[int, LearnedHour]]:
        found = {subject: decode_outbox(subject, self._fields(outbox_key(subject))) for subject in subjects}
        return {subject: hours for subject, hours in found.items() if hours}

    async def relayed(self, hours: Mapping[Subject, Sequence[int]]) -> None:
        for subject, relayed in hours.items():
            outbox = self.hashes.get(outbox_key(subject), {})
            for name in outbox_fields(relayed):
                outbox.pop(name.encode(), None)
            # As in Redis, where a hash without fields is no key.
            if not outbox:
                self.hashes.pop(outbox_key(subject), None)

    async def alert_history(self, subjects: Sequence[Subject]) -> dict[Subject, dict[str, Transition]]:
        read = {one: decode_alert_history(one, self._fields(outbox_key(one))) for one in subjects}
        return {subject: found for subject, found in read.items() if found}

    async def alert_history_kept(self, names: Mapping[Subject, Iterable[str]]) -> None:
        for subject, kept in names.items():
            outbox = self.hashes.get(outbox_key(subject), {})
            for name in kept:
                outbox.pop(name.encode(), None)
            if not outbox:
                self.hashes.pop(outbox_key(subject), None)

    async def announcements(self, subjects: Sequence[Subject]) -> dict[Subject, Announcements]:
        read = {one: decode_announcements(one, self._fields(outbox_key(one))) for one in subjects}
        return {subject: found for subject, found in read.items() if found is not None}

    async def announced(self, told: Mapping[Subject, Announcements]) -> None:
        for subject, one in told.items():
            outbox = self.hashes.get(outbox_key(subject), {})
            for name in one.alerts:
                outbox.pop(name.encode(), None)
            if outbox.get(PUBLISHED) == one.published:
                del outbox[PUBLISHED]
            if not outbox:
                self.hashes.pop(outbox_key(subject), None)

    async def advance_clock(self, ms: int) -> int:
        shown = await self.clock()
        if ms > shown:
            self.hashes[CLOCK] = {b"ms": b"%d" % ms, b"time": iso(ms).encode()}
        return max(ms, shown)

    async def clock(self) -> int:
        return int(self._fields(CLOCK).get(b"ms", b"-1"))

    async def progress(self) -> dict[str, Reached]:
        return decode_progress(self._fields(PROGRESS))

    async def advance_progress(self, known: Mapping[str, int], reached: Mapping[str, Reached]) -> dict[str, int]:
        progress = await self.progress()
        stored = {source: progress[source].offset if source in progress else 0 for source in known}
        if all(stored[source] >= offset for source, offset in known.items()):
            moved = {
                source: one for source, one in reached.items() if source not in progress or one.offset > stored[source]
            }
            self.hashes.setdefault(PROGRESS, {}).update(encode_progress(moved))
        return stored

    async def log_lives(self) -> dict[str, LogLife]:
        return decode_lives(self._fields(LOG))

    async def note_recreated(self, topic: str, *, now_ms: int) -> None:
        self._count_in_log(topic, "recreated", "noticed", now_ms)

    async def renew_log(self, topic: str, *, now_ms: int) -> int:
        life = self._count_in_log(topic, "life", "renewed", now_ms)
        progress = self._fields(PROGRESS)
        for source in fields_of_topic(progress, topic):
            del progress[source]
        return life

    def _count_in_log(self, topic: str, counter: str, time: str, now_ms: int) -> int:
        fields = self.hashes.setdefault(LOG, {})
        name = f"{topic}:{counter}".encode()
        count = int(fields.get(name, b"0")) + 1
        fields |= {name: b"%d" % count, f"{topic}:{time}".encode(): iso(now_ms).encode()}
        return count

    async def claim_cohorts(self, *, now_ms: int, due_ms: int) -> bool:
        fields = self.hashes.setdefault(COHORTS, {})
        if not is_due(fields.get(DUE.encode()), now_ms):
            return False
        fields |= {DUE.encode(): b"%d" % due_ms, REFRESHED.encode(): iso(now_ms).encode()}
        return True

    async def keep_cohorts(self, cohorts: Iterable[Cohort], *, now_ms: int, due_ms: int) -> None:
        fields = encode_cohorts(cohorts, coverage=self._policy.coverage, now_ms=now_ms, due_ms=due_ms)
        self.hashes[COHORTS] = {name.encode(): value for name, value in fields.items()}

    async def cohorts(self) -> list[Cohort]:
        return decode_cohorts(self._fields(COHORTS))

    async def ping(self) -> None:
        return None

    def _fields(self, key: str) -> dict[bytes, bytes]:
        return self.hashes.get(key, {})
