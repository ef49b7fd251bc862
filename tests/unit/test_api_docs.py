"""The API's description can be read where there is no internet."""

import re

import pytest

from tests.memory_api import memory_api


async def test_the_page_and_all_that_it_names_come_from_the_api_itself() -> None:
    async with memory_api() as api:
        page = await api.client.get("/docs")
        named = re.findall(r'(?:src|href)="([^"]*)"', page.text) + re.findall(r"url: '([^']*)'", page.text)
        files = {url: await api.client.get(url) for url in named if url != "data:,"}
    assert page.status_code == 200
    assert "://" not in page.text
    assert {url.partition("?")[0] for url in files} == {
        "/docs/swagger-ui-bundle.js",
        "/docs/swagger-ui.css",
        "/openapi.json",
    }
    for url, file in files.items():
        assert file.status_code == 200
        kind = file.headers["content-type"].partition(";")[0]
        assert kind in {"text/javascript", "text/css", "application/json"}, url
        assert len(file.content) > 10_000


async def test_the_page_is_forbidden_to_reach_anywhere_else() -> None:
    async with memory_api() as api:
        page = await api.client.get("/docs")
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "http" not in policy
    assert '"validatorUrl": null' in page.text


@pytest.mark.parametrize("name", ["redoc.standalone.js", "..%2Fcore.py", "index.html"])
async def test_no_other_file_can_be_asked_for(name: str) -> None:
    async with memory_api() as api:
        response = await api.client.get(f"/docs/{name}")
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
