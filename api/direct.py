"""A route that hands its endpoint the request and the path's parameters, and nothing else."""

from collections.abc import Callable, Coroutine
from inspect import getclosurevars
from typing import Any

from fastapi import Request, Response

from api.access import GuardedRoute


class DirectRoute(GuardedRoute):
    """For endpoints that are asked most often: solving dependencies would take a sixth of the time of their answer.

    The API's description is made of the endpoint's signature as ever. Path parameters arrive as the texts they are.
    What would have to be solved (a dependency, a query parameter, a header, a body) is a TypeError: when the route is
    made, or at its first request where it comes from an app or router around it.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        # The route's own `dependant` lacks what the app and the routers around it add, such as who may ask at all.
        needs = getclosurevars(super().get_route_handler()).nonlocals["dependant"]
        if needs.dependencies or needs.query_params or needs.header_params or needs.cookie_params or needs.body_params:
            raise TypeError(f"{self.path}: a direct route takes the request and parameters of its path, nothing else")
        endpoint = self.endpoint
        names = {parameter.alias: parameter.name for parameter in needs.path_params}

        async def handle(request: Request) -> Response:
            given = {names[alias]: text for alias, text in request.path_params.items()}
            response: Response = await endpoint(request=request, **given)
            return response

        return handle
