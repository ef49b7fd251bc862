"""A collector for tests: it takes traces by OTLP over HTTP, as a real one does, and keeps them as trees."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Sent
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from tests.receiver import Received, Receiver


@dataclass(frozen=True, slots=True)
class Seen:
    """One span as it arrived, with its parts in the order in which they began."""

    service: str
    sent: Sent
    parts: "list[Seen]" = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.sent.name

    @property
    def trace_id(self) -> str:
        return self.sent.trace_id.hex()

    @property
    def attributes(self) -> dict[str, str | int | bool | float]:
        return {one.key: getattr(one.value, one.value.WhichOneof("value") or "") for one in self.sent.attributes}

    @property
    def links(self) -> list[tuple[str, str]]:
        """Trace and span of each."""
        return [(one.trace_id.hex(), one.span_id.hex()) for one in self.sent.links]

    @property
    def is_failed(self) -> bool:
        return self.sent.status.code == Status.STATUS_CODE_ERROR

    def all(self, name: str) -> "list[Seen]":
        """Every span of this name in here, however deep."""
        found = [self] if self.name == name else []
        return found + [one for part in self.parts for one in part.all(name)]

    def shape(self) -> dict[str, object]:
        """The names of the parts, each with the names of its own."""
        return {part.name: part.shape() for part in self.parts}


class Collector(Receiver):
    """Runs within the block."""

    def roots(self) -> list[Seen]:
        """Spans whose parent did not come from here, oldest first."""
        seen = {one.sent.span_id: one for request in self.requests for one in _spans(request)}
        roots: list[Seen] = []
        for one in sorted(seen.values(), key=lambda span: span.sent.start_time_unix_nano):
            parent = seen.get(one.sent.parent_span_id)
            (roots if parent is None else parent.parts).append(one)
        return roots


def _spans(request: Received) -> Iterator[Seen]:
    assert request.path == "/v1/traces"
    assert request.headers["content-type"] == "application/x-protobuf"
    for resource in ExportTraceServiceRequest.FromString(request.body).resource_spans:
        names = {one.key: one.value.string_value for one in resource.resource.attributes}
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Seen(names["service.name"], span)
