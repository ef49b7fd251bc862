"""`GET /docs`: Swagger UI from this process itself, for networks without a way out."""

from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse
from starlette.exceptions import HTTPException

from api.access import GuardedRoute

router = APIRouter(route_class=GuardedRoute)

# Only the package's files are used: its own app would register pages of its own beside ours.
_CARRIER: Final = "fastapi-offline"
_FILES: Final = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}
_FOLDER: Final = Path(str(files(_CARRIER.replace("-", "_")).joinpath("static")))
_VERSION: Final = version(_CARRIER)
_HEADERS: Final = {
    # The page starts itself with a script of its own; nothing comes from elsewhere, and nothing goes there.
    "Content-Security-Policy": "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' "
    "'unsafe-inline'; img-src 'self' data:; font-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'",
    "Cache-Control": "no-cache",
}


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> Response:
    """Every endpoint, with examples that can be sent."""
    page = get_swagger_ui_html(
        openapi_url="/openapi.json",
        title=request.app.title,
        swagger_js_url=f"/docs/swagger-ui-bundle.js?{_VERSION}",
        swagger_css_url=f"/docs/swagger-ui.css?{_VERSION}",
        swagger_favicon_url="data:,",
        # Without this it shows the description to a validator on the internet.
        swagger_ui_parameters={"validatorUrl": None},
    )
    page.headers.update(_HEADERS)
    return page


@router.get("/docs/{name}", include_in_schema=False)
async def docs_file(name: str) -> Response:
    """A file of Swagger UI; the page asks for it by its version, so it may be kept."""
    media_type = _FILES.get(name)
    if media_type is None:
        raise HTTPException(404)
    headers = {"Cache-Control": "public, max-age=31536000, immutable"}
    return FileResponse(_FOLDER / name, media_type=media_type, headers=headers)
