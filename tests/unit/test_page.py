"""The page's files: all from here, named by their content, compressed once, and refused if they are others."""

import base64
import gzip
import hashlib
import re
from importlib.metadata import Distribution
from pathlib import Path

import pytest

from api.page.assets import FOLDER, Asset, assets, imported, made
from api.page.chart_library import PINNED, chart_library
from detection.errors import SettingsError
from tests.memory_api import memory_api

MODULES = sorted(file.name for file in FOLDER.glob("*.js"))
TEMPLATE = b'<link href="{{address app.css}}" integrity="{{digest app.css}}">{{preloads}}'


async def test_all_that_the_page_names_comes_from_here_with_the_digest_that_it_names() -> None:
    async with memory_api() as api:
        page = await api.client.get("/")
        named = re.findall(r'(?:src|href|content)="(/page/[^"]+)"(?: data-integrity| integrity)="([^"]+)"', page.text)
        files = {address: await api.client.get(address) for address, _ in named}
    assert page.status_code == 200
    assert "{{" not in page.text
    assert not re.findall(r'(?:src|href|content)="(?:https?:)?//', page.text)
    names = {address.rpartition("/")[2] for address in files}
    assert {"main.js", "app.css", "overview.js", "table.js", "uPlot.js", "uPlot.css"} <= names
    for address, integrity in named:
        answer = files[address]
        assert answer.status_code == 200
        assert integrity == "sha256-" + base64.b64encode(hashlib.sha256(answer.content).digest()).decode()


async def test_what_only_some_views_need_is_not_fetched_with_the_first() -> None:
    async with memory_api() as api:
        page = await api.client.get("/")
    preloaded = re.findall(r'rel="modulepreload" href="/page/\w+/([\w.]+)"', page.text)
    assert {"main.js", "overview.js", "fleet.js", "dom.js"} <= set(preloaded)
    assert not {"subject.js", "chart.js", "alerts.js", "rules.js"} & set(preloaded)
    assert not re.findall(r'<script[^>]*src="[^"]*uPlot', page.text)


async def test_the_policy_lets_nothing_run_that_is_not_a_file_of_the_page() -> None:
    async with memory_api() as api:
        page = await api.client.get("/")
        script = await api.client.get(f"/page/{assets().version}/main.js")
    policy = dict(part.split(" ", 1) for part in page.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert "unsafe" not in page.headers["content-security-policy"]
    assert not re.findall(r"<script(?![^>]*src=)|<style|\son\w+=|\sstyle=", page.text)
    for answer in (page, script):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"


async def test_a_file_may_be_kept_for_ever_and_the_page_is_asked_for_again() -> None:
    async with memory_api() as api:
        page = await api.client.get("/")
        again = await api.client.get("/", headers={"If-None-Match": page.headers["etag"]})
        script = await api.client.get(f"/page/{assets().version}/main.js")
    assert (again.status_code, again.content) == (304, b"")
    assert page.headers["cache-control"] == "no-cache"
    assert script.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert script.headers["content-type"] == "text/javascript; charset=utf-8"


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip", "gzip"),
        ("br, gzip;q=0.5", "gzip"),
        ("GZIP", "gzip"),
        ("identity", None),
        ("br", None),
    ],
)
async def test_it_is_compressed_for_those_who_take_it(accepted: str, encoding: str | None) -> None:
    async with memory_api() as api:
        answer = await api.client.get(f"/page/{assets().version}/app.css", headers={"Accept-Encoding": accepted})
    assert answer.headers.get("content-encoding") == encoding
    assert answer.content == (FOLDER / "app.css").read_bytes()
    assert "Accept-Encoding" in answer.headers["vary"]


@pytest.mark.parametrize("path", ["{}/index.html", "{}/..%2Fassets.py", "{}/nothing.js", "0123456789abcdef/main.js"])
async def test_no_other_file_and_no_other_build_can_be_asked_for(path: str) -> None:
    async with memory_api() as api:
        answer = await api.client.get(f"/page/{path.format(assets().version)}")
    assert answer.status_code == 404


def test_every_file_changes_the_address_of_all() -> None:
    own = {"index.html": TEMPLATE, "app.css": b"a {}", "main.js": b"1"}
    page = made(own, {})
    assert f"/page/{page.version}/app.css" in page.index.body.decode()
    assert made({**own, "main.js": b"2"}, {}).version != page.version
    assert made({**own, "index.html": TEMPLATE + b" "}, {}).version == page.version
    assert made(dict(reversed(own.items())), {}) == page


def test_imports_are_followed_to_their_end_and_dynamic_ones_are_not() -> None:
    files = {
        "a.js": b"import { x } from './b.js';\nimport {\n  y,\n} from './c.js';\nconst v = () => import('./lazy.js');",
        "b.js": b"import * as c from './c.js';\n",
        "c.js": b"export const y = \"import nothing from './none.js'\";\n",
        "lazy.js": b"",
    }
    assert imported(("a.js",), {name: Asset.of(name, body) for name, body in files.items()}) == ["a.js", "b.js", "c.js"]


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_what_is_there_and_makes_no_markup_of_text(name: str) -> None:
    text = (FOLDER / name).read_text(encoding="utf-8")
    for other in re.findall(r"(?:from |import\()'\./([\w.]+)'", text):
        assert other in MODULES
    for danger in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
        "http://",
    ):
        assert danger not in text.replace("http://www.w3.org/2000/svg", "")


def test_the_first_view_is_small() -> None:
    page = assets()
    first = ["app.css", "views.css", "first.js", *imported(("main.js", "overview.js"), page.files)]
    size = len(page.index.compressed) + sum(len(page.files[name].compressed) for name in first)
    assert size < 100_000
    assert all(gzip.decompress(asset.compressed) == asset.body for asset in page.files.values())


def carrier_of(folder: Path, contents: dict[str, bytes]) -> Distribution:
    """An installed wheel with these files."""
    info = folder / "uplot_python-1.1.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: uplot-python\nVersion: 1.1.1\n")
    for path, body in contents.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(body)
    return Distribution.at(info)


def test_the_charting_library_is_the_very_one_or_none(tmp_path: Path) -> None:
    real = chart_library()
    contents = {path: real[name] for name, (path, _) in PINNED.items()}
    assert chart_library(carrier_of(tmp_path / "same", contents)) == real
    script = PINNED["uPlot.js"][0]
    changed = carrier_of(tmp_path / "changed", {**contents, script: contents[script] + b" "})
    with pytest.raises(SettingsError, match=rf"{script} is not the file that the page was built with.*make setup"):
        chart_library(changed)
    missing = carrier_of(tmp_path / "missing", {path: body for path, body in contents.items() if path != script})
    with pytest.raises(SettingsError, match=rf"{script} cannot be read.*make setup"):
        chart_library(missing)
