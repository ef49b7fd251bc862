"""The description's links lead somewhere."""

from api.links import LINKS
from tests.memory_api import memory_api


async def test_every_link_names_an_operation_and_parameters_that_it_has() -> None:
    async with memory_api() as api:
        document = (await api.client.get("/openapi.json")).json()
    operations = {
        operation["operationId"]: operation for methods in document["paths"].values() for operation in methods.values()
    }
    for link in LINKS:
        (method, path), (to_method, to_path) = link.source, link.target
        for status in link.statuses:
            described = document["paths"][path][method]["responses"][status]["links"][link.name]
            target = operations[described["operationId"]]
            assert target is document["paths"][to_path][to_method]
            known = {parameter["name"]: parameter for parameter in target.get("parameters", [])}
            assert described["parameters"].keys() <= known.keys()
            needed = {name for name, parameter in known.items() if parameter["in"] == "path"}
            assert needed <= described["parameters"].keys()
            assert ("requestBody" in described) == (to_method == "post")
