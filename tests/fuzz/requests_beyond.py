"""What Schemathesis cannot know by itself: how a body of lines or of a table is sent."""

from typing import Any

import schemathesis


def as_text(_context: Any, value: object) -> bytes:
    """The description says of these bodies that they are text, so text is what is drawn."""
    return value if isinstance(value, bytes) else str(value).encode(errors="surrogatepass")


# Called, not written above the function: where Schemathesis is not installed, a decorator would have no type.
schemathesis.serializer("application/x-ndjson", "text/csv")(as_text)
