"""What the API answers, for commands that read it: one document, or a stream of lines; errors are the caller's."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from cli import credentials
from detection.errors import DependencyError, InputError, OperatorError

if TYPE_CHECKING:
    import httpx

_TIMEOUT_SECONDS: Final = 30.0

Query = Mapping[str, Any]

Url = Annotated[str, typer.Option(help="Where the API is served.")]


def get(url: str, path: str, query: Query | None = None) -> Any:
    """The answer as JSON; InputError, DependencyError or OperatorError with the problem's own words."""
    import httpx

    with _asking(url):
        response = httpx.get(
            url.rstrip("/") + path, params=query, headers=credentials.headers(), timeout=_TIMEOUT_SECONDS
        )
    _require_success(response)
    try:
        return response.json()
    except ValueError as error:
        raise OperatorError(f"{url} does not answer as Tidemark's API does") from error


def lines(url: str, path: str, query: Query | None = None) -> Iterator[dict[str, Any]]:
    """The objects of an NDJSON answer, as they come; errors as for `get`, also in the middle of it."""
    import httpx
    import orjson

    headers = {"Accept": "application/x-ndjson"} | credentials.headers()
    with (
        _asking(url),
        httpx.stream(
            "GET", url.rstrip("/") + path, params=query, headers=headers, timeout=_TIMEOUT_SECONDS
        ) as response,
    ):
        if not response.is_success:
            response.read()
        _require_success(response)
        for line in response.iter_lines():
            if line:
                try:
                    yield orjson.loads(line)
                except ValueError as error:
                    raise OperatorError(f"{url} does not answer as Tidemark's API does") from error


def _require_success(response: "httpx.Response") -> None:
    from cli.predict import refusal

    if not response.is_success:
        raise refusal(response)


@contextmanager
def _asking(url: str) -> Iterator[None]:
    import httpx

    try:
        yield
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise InputError(f"--url {url}: {error}") from error
    except httpx.HTTPError as error:
        raise DependencyError("api", f"{url}: {str(error) or type(error).__name__}") from error
