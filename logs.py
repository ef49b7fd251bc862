"""Structured logs for every process: an event name and fields, as JSON lines for machines or coloured for people."""

import logging
import sys

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

import tracing
from settings import Settings


def _with_trace(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Name the trace that the line belongs to, where it does to one."""
    traceparent = tracing.traceparent()
    if traceparent is not None:
        _, event["trace_id"], event["span_id"], _ = traceparent.split("-")
    return event


_SHARED: tuple[Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    _with_trace,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
)


def configure(settings: Settings) -> None:
    """Send this process's logs, and those of the libraries it uses, to stderr."""
    renderer: Processor = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level(settings))
    # What Faust and aiokafka say of each rebalance and metadata request is for their authors; and what HTTP clients say
    # of each request holds its URL, which is the secret of many a chat's webhook.
    for name in ("faust", "mode", "aiokafka", "kafka", "alembic", "httpx", "httpcore", "urllib3"):
        logging.getLogger(name).setLevel(max(level(settings), logging.WARNING))
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def level(settings: Settings) -> int:
    """The number of the configured level."""
    return logging.getLevelNamesMapping()[settings.log_level.upper()]
