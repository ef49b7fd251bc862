"""`GET /`: the page that people look at; plain files, all of them from this process."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, FastAPI, Header, Request, Response
from starlette.exceptions import HTTPException

from api.access import GuardedRoute
from api.page.assets import Asset, Assets, assets

router = APIRouter(include_in_schema=False, route_class=GuardedRoute)

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Vary": "Accept-Encoding",
}
_ALWAYS_ASKED: Final = {"Cache-Control": "no-cache", "Content-Security-Policy": _POLICY}
# The address changes with the content.
_KEPT: Final = {"Cache-Control": "public, max-age=31536000, immutable"}


def install(app: FastAPI) -> None:
    """Read the page's files; SettingsError when the charting library is not the one that the page was built with."""
    app.state.assets = assets()


def _assets(request: Request) -> Assets:
    found: Assets = request.app.state.assets
    return found


Page = Annotated[Assets, Depends(_assets)]
Encodings = Annotated[str, Header(alias="Accept-Encoding")]
Known = Annotated[str, Header(alias="If-None-Match")]


@router.get("/")
async def index(page: Page, accept_encoding: Encodings = "", if_none_match: Known = "") -> Response:
    """The frame of the page, which names the files of its build."""
    return _answer(page.index, _ALWAYS_ASKED, accept_encoding, if_none_match)


@router.get("/page/{version}/{name}")
async def file(
    page: Page, version: str, name: str, accept_encoding: Encodings = "", if_none_match: Known = ""
) -> Response:
    """A file of this build. One of another build is not here: an open page of that build must be loaded again."""
    asset = page.files.get(name)
    if asset is None or version != page.version:
        raise HTTPException(404)
    return _answer(asset, _KEPT, accept_encoding, if_none_match)


def _answer(asset: Asset, headers: dict[str, str], encodings: str, known: str) -> Response:
    headers = {**_HEADERS, **headers, "ETag": asset.etag}
    if asset.etag in (one.strip().removeprefix("W/") for one in known.split(",")):
        return Response(status_code=304, headers=headers)
    if "gzip" not in encodings.lower():
        return Response(asset.body, media_type=asset.media_type, headers=headers)
    return Response(asset.compressed, media_type=asset.media_type, headers={**headers, "Content-Encoding": "gzip"})
