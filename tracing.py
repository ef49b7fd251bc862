"""Traces: what a batch of events, or a request, went through, as spans for an OpenTelemetry collector.

Off unless TIDEMARK_OTLP_ENDPOINT is set; then nothing of OpenTelemetry's SDK is even imported. The code that is timed
says `with tracing.span("load")`: without an active span that is one look at a context variable. There are spans of
batches, parts of a write and requests, never of single events.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from threading import Thread
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Link, Tracer
    from opentelemetry.trace import Span as Recorded

    from settings import Settings

Value = str | int | float | bool
Attributes = Mapping[str, Value]
Kind = Literal["internal", "server", "producer", "consumer"]

# The header of the W3C's Trace Context, of HTTP requests and of Kafka records alike.
TRACEPARENT: Final = "traceparent"

# A collector that does not answer within this gets the next spans instead.
_EXPORT_SECONDS: Final = 5.0
# `00-<trace>-<span>-<flags>`
_TRACEPARENT_PARTS: Final = 4


class Span:
    """One timed piece of work that is being recorded; what is not sampled has no span at all."""

    __slots__ = ("_recorded", "_tracer")

    def __init__(self, tracer: "Tracer", recorded: "Recorded") -> None:
        self._tracer = tracer
        self._recorded = recorded

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return self._recorded.is_recording()

    @property
    def traceparent(self) -> str:
        """As the W3C's Trace Context writes it."""
        context = self._recorded.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def begin(
        self,
        name: str,
        *,
        kind: Kind = "internal",
        started_ns: int | None = None,
        links: Sequence[str] = (),
        attributes: Attributes | None = None,
    ) -> "Span":
        """A part of this one, which the caller ends; `links` are traceparents of what it follows from."""
        # Here, like everywhere in this class, they have long been imported by `connect`.
        from opentelemetry.trace import SpanKind, set_span_in_context  # noqa: PLC0415

        part = self._tracer.start_span(
            name,
            context=set_span_in_context(self._recorded),
            kind=SpanKind[kind.upper()],
            links=_links(links),
            start_time=started_ns,
            attributes=attributes,
        )
        return Span(self._tracer, part)

    def link(self, other: "Span") -> None:
        """Say that the other one belongs to this as well."""
        self._recorded.add_link(other._recorded.get_span_context())  # noqa: SLF001  # of the same class

    def set(self, attributes: Attributes) -> None:
        """Say more of it."""
        self._recorded.set_attributes(attributes)

    def rename(self, name: str) -> None:
        """Call it by what was found out meanwhile."""
        self._recorded.update_name(name)

    def fail(self, reason: str) -> None:
        """Mark it as failed."""
        from opentelemetry.trace import StatusCode  # noqa: PLC0415

        self._recorded.set_status(StatusCode.ERROR, reason)

    def end(self, *, ended_ns: int | None = None) -> None:
        self._recorded.end(end_time=ended_ns)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Inside, this is what `span` adds to, and what logs and sent records name; does not end it."""
        token = _ACTIVE.set(self)
        try:
            yield
        finally:
            _ACTIVE.reset(token)

    @contextmanager
    def timed(self) -> Iterator["Span"]:
        """Active inside, failed by what is raised, ended at the end."""
        try:
            with self.active():
                yield self
        except BaseException as error:
            self.fail(f"{type(error).__name__}: {error}")
            raise
        finally:
            self.end()


_ACTIVE: ContextVar[Span | None] = ContextVar("tidemark_span", default=None)
_NOTHING: Final = nullcontext()


def span(name: str, *, kind: Kind = "internal", **attributes: Value) -> AbstractContextManager[Span | None]:
    """Time what is done inside as a part of the active span; does nothing where none is active."""
    active = _ACTIVE.get()
    if active is None:
        return _NOTHING
    return active.begin(name, kind=kind, attributes={f"tidemark.{key}": attributes[key] for key in attributes}).timed()


def traceparent() -> str | None:
    """The active span, for whoever continues its trace elsewhere; None where none is active."""
    active = _ACTIVE.get()
    # A library's task that was started inside outlives the span, and is no part of it any more.
    return active.traceparent if active is not None and active.is_open else None


class Traces:
    """Where traces of this process begin, and the way to their collector."""

    def __init__(self, provider: "TracerProvider") -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("tidemark")

    def begin(
        self,
        name: str,
        *,
        kind: Kind = "internal",
        parent: str | None = None,
        started_ns: int | None = None,
        attributes: Attributes | None = None,
    ) -> Span | None:
        """The first span of ours in a trace, which the caller ends; None where the trace is not sampled.

        `parent` is the traceparent of the caller, who has decided then whether it is.
        """
        from opentelemetry.context import Context  # noqa: PLC0415  # see Span.begin
        from opentelemetry.trace import NonRecordingSpan, SpanKind, set_span_in_context  # noqa: PLC0415

        context = Context()
        if links := _links([parent] if parent else []):
            context = set_span_in_context(NonRecordingSpan(links[0].context), context)
        recorded = self._tracer.start_span(
            name, context=context, kind=SpanKind[kind.upper()], start_time=started_ns, attributes=attributes
        )
        return Span(self._tracer, recorded) if recorded.is_recording() else None

    def close(self) -> None:
        """Send what is left, for some seconds at most; blocks."""
        # A collector that takes the connection and says nothing would hold up each part of what is left.
        sending = Thread(target=self._provider.shutdown, name="traces", daemon=True)
        sending.start()
        sending.join(_EXPORT_SECONDS)


def connect(settings: "Settings", process: Literal["api", "worker"]) -> Traces | None:
    """The traces of this process, None where none are wanted. Its first spans are sent seconds later, by a thread.

    Headers, certificates and limits are read from OpenTelemetry's own variables, `OTEL_EXPORTER_OTLP_...`.
    """
    if settings.otlp_endpoint is None:
        return None
    from importlib.metadata import version  # noqa: PLC0415  # all of these take a third of a second to load

    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased  # noqa: PLC0415

    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(settings.trace_share)),
        resource=Resource.create({"service.name": f"tidemark-{process}", "service.version": version("tidemark")}),
        # We close it where what is traced has come to its end.
        shutdown_on_exit=False,
    )
    endpoint = settings.otlp_endpoint.rstrip("/") + "/v1/traces"
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, timeout=_EXPORT_SECONDS)))
    return Traces(provider)


def _links(traceparents: Sequence[str]) -> "list[Link]":
    """What these name, without those that are none: anybody may have written them."""
    from opentelemetry.trace import Link, SpanContext, TraceFlags  # noqa: PLC0415  # see Span.begin

    found = []
    for one in traceparents:
        parts = one.split("-")
        try:
            version, trace_id, span_id, flags = (int(part, 16) for part in parts[:_TRACEPARENT_PARTS])
        except ValueError:
            continue
        context = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))
        if context.is_valid and version != 0xFF:
            found.append(Link(context))
    return found
