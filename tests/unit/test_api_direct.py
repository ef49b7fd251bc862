"""A direct route never leaves out in silence what it does not do."""

from typing import Annotated

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Header, Path, Request, Response

from api.direct import DirectRoute


async def test_parameters_of_the_path_arrive_by_their_names() -> None:
    router = APIRouter(route_class=DirectRoute)

    @router.get("/{firstPart}/{second}")
    async def parts(request: Request, second: str, first: Annotated[str, Path(alias="firstPart")]) -> Response:
        return Response(f"{first} and {second}")

    app = FastAPI()
    app.state.admit = None
    app.include_router(router)
    assert await answer_of(app, "/one/two") == "one and two"
    named = {parameter["name"] for parameter in app.openapi()["paths"]["/{firstPart}/{second}"]["get"]["parameters"]}
    assert named == {"firstPart", "second"}


async def allowed() -> None:
    raise AssertionError("it is never asked")


async def plain(request: Request) -> Response:
    return Response()


async def needs_dependency(_: Annotated[None, Depends(allowed)]) -> Response:
    return Response()


async def needs_query(limit: int) -> Response:
    return Response()


async def needs_header(key: Annotated[str, Header()]) -> Response:
    return Response()


@pytest.mark.parametrize("endpoint", [needs_dependency, needs_query, needs_header])
def test_what_would_have_to_be_solved_is_refused(endpoint: object) -> None:
    router = APIRouter(route_class=DirectRoute)
    with pytest.raises(TypeError, match="direct route"):
        router.add_api_route("/", endpoint)  # type: ignore[arg-type]  # they are endpoints, of different parameters


def test_a_dependency_of_the_whole_router_is_refused() -> None:
    router = APIRouter(route_class=DirectRoute, dependencies=[Depends(allowed)])
    with pytest.raises(TypeError, match="direct route"):
        router.add_api_route("/", plain)


async def test_a_dependency_given_where_the_router_is_included_is_not_left_out() -> None:
    router = APIRouter(route_class=DirectRoute)
    router.add_api_route("/", plain)
    included = FastAPI()
    included.include_router(router, dependencies=[Depends(allowed)])
    whole = FastAPI(dependencies=[Depends(allowed)])
    whole.include_router(router)
    for app in (included, whole):
        with pytest.raises(TypeError, match="direct route"):
            await answer_of(app, "/")


async def answer_of(app: FastAPI, path: str) -> str:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://tidemark") as client:
        return (await client.get(path)).text
