"""The models of one subject, made of their records when somebody asks for one: most writes never do."""

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Self

from detection.catalogue import metric_of
from detection.kernel.row import next_hour_of
from detection.policy import Policy
from detection.series_model import SeriesModel

# Of models that are put in as objects, where it is not asked for: to make one for each subject takes too long.
_NO_POLICY = Policy()


class Models(MutableMapping[str, SeriesModel]):
    """Models by the slug of their metric; a series that nothing was learned of is not in it.

    `record` and `put_record` are the way past the objects, for whoever handles the bytes of many series at once.
    """

    __slots__ = ("_live", "_policy", "_records", "_subject")

    def __init__(self) -> None:
        self._live: dict[str, SeriesModel] = {}
        self._records: dict[str, bytes] = {}
        self._policy = _NO_POLICY
        self._subject = ""

    @classmethod
    def of_records(cls, records: Mapping[str, bytes], policy: Policy, subject: str) -> Self:
        """Models of what `SeriesModel.to_bytes` gave, read when they are asked for; an empty record is none."""
        models = cls()
        models._records = {slug: record for slug, record in records.items() if record}
        models._policy, models._subject = policy, subject
        return models

    def record(self, slug: str) -> bytes:
        """The bytes of the model, empty where there is none."""
        live = self._live.get(slug)
        return self._records.get(slug, b"") if live is None else live.to_bytes()

    def put_record(self, slug: str, record: bytes) -> None:
        """The model is these bytes from now on."""
        self._live.pop(slug, None)
        self._records[slug] = record

    def next_hour(self, slug: str) -> int:
        """The hour after the last one that the model has learned, 0 before the first."""
        live = self._live.get(slug)
        return next_hour_of(self._records[slug]) if live is None else live.next_hour or 0

    def __getitem__(self, slug: str) -> SeriesModel:
        """The model; UnreadableStateError for a record that is none."""
        live = self._live.get(slug)
        if live is None:
            record = self._records[slug]
            live = self._live[slug] = SeriesModel.from_bytes(metric_of(slug), record, self._policy, self._subject)
            del self._records[slug]
        return live

    def __setitem__(self, slug: str, model: SeriesModel) -> None:
        self._records.pop(slug, None)
        self._live[slug] = model

    def __delitem__(self, slug: str) -> None:
        if self._live.pop(slug, None) is None:
            del self._records[slug]

    def __iter__(self) -> Iterator[str]:
        yield from [*self._live, *self._records]

    def __len__(self) -> int:
        return len(self._live) + len(self._records)

    def __repr__(self) -> str:
        return f"Models({sorted(self)})"
