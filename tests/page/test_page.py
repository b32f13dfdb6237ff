"""The page's files: how they are served, with which headers, and what they must not contain."""

import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from services.control_plane.app import create_app
from services.control_plane.http import security_headers
from services.control_plane.routes import page_files
from services.redis.access import RedisAccess
from tests.support.control_plane import is_problem
from tests.support.repository import ROOT

FILES = sorted(path.name for path in page_files.FOLDER.iterdir())
MODULES = [name for name in FILES if name.endswith(".js")]
INDEX = (page_files.FOLDER / "index.html").read_text()


def path_of(name: str) -> str:
    return "/" if name == "index.html" else f"/page/{name}"


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_sent_to_anyone_under_a_strict_policy_and_asked_for_again_by_its_etag(client, name):
    answer = client.get(path_of(name))
    assert answer.status_code == 200
    assert answer.content == (page_files.FOLDER / name).read_bytes()
    assert answer.headers["content-type"] == page_files.MEDIA_TYPES[Path(name).suffix]
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["content-security-policy"] == page_files.POLICY
    assert all(answer.headers[header] == value for header, value in security_headers.ALWAYS.items())

    tag = answer.headers["etag"]
    for known in (tag, f'"old", W/{tag}', "*"):
        again = client.get(path_of(name), headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert again.headers["content-security-policy"] == page_files.POLICY
    assert client.get(path_of(name), headers={"If-None-Match": '"old"'}).status_code == 200
    head = client.head(path_of(name))
    assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", tag)


def test_the_policy_lets_the_page_load_its_own_files_and_talk_to_its_own_server_only():
    directives = {
        name: value for name, _, value in (p.strip().partition(" ") for p in page_files.POLICY.split(";"))
    }
    assert directives.pop("default-src") == "'none'"
    own = {name for name, source in directives.items() if source == "'self'"}
    assert own == {"script-src", "style-src", "img-src", "connect-src"}
    assert {name for name, source in directives.items() if source == "'none'"} == {
        "base-uri",
        "form-action",
        "frame-ancestors",
    }


@pytest.mark.parametrize(
    "path",
    [
        "/page/nothing.js",
        "/page/index.html",
        "/page/",
        "/page/%2e%2e",
        "/page/..%2fpage.py",
        "/page/%2e%2e/page.py",
        "/page/..%5cpage.py",
        "/page/%2fetc%2fpasswd",
        "/page/app.js%00.css",
        "/page/app.js/",
        "/page/./../page.py",
        "/page.py",
        "/page/__pycache__",
    ],
)
def test_nothing_else_is_sent(client, path):
    answer = client.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    assert answer.json()["title"] == "Not Found"


def test_another_method_is_refused(client):
    is_problem(client.post("/page/app.js"), 405)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/healthz", 200), ("GET", "/v1/runs", 401), ("GET", "/nothing", 404), ("PUT", "/healthz", 405)],
)
def test_every_answer_of_the_api_has_the_headers(client, method, path, status):
    answer = client.request(method, path)
    assert answer.status_code == status
    assert all(answer.headers[name] == value for name, value in security_headers.ALWAYS.items())
    assert all(answer.headers[name] == value for name, value in security_headers.UNLESS_SET.items())


def test_a_body_that_is_too_long_and_a_failure_that_nobody_foresaw_have_them_as_well(redis_access):
    app = create_app(redis_access)
    with TestClient(app, raise_server_exceptions=False) as client:
        long = client.put("/v1/runs/any/entropy-target", content=b" " * 20_000)
        app.state.redis = None
        failed = client.get("/readyz")
    assert (long.status_code, failed.status_code) == (413, 500)
    for answer in (long, failed):
        assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert answer.headers["x-frame-options"] == "DENY"


def test_the_page_is_no_part_of_the_api():
    paths = create_app(RedisAccess("redis://unused")).openapi()["paths"]
    assert not [path for path in paths if path == "/" or path.startswith("/page")]


def test_every_file_is_packaged_and_has_a_media_type():
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = setup["package-data"]["*"]
    assert len(FILES) > 10
    for name in FILES:
        assert any(fnmatch(name, pattern) for pattern in patterns), name
        assert Path(name).suffix in page_files.MEDIA_TYPES, name


def test_the_page_loads_each_of_its_files_and_no_other():
    linked = set(re.findall(r'(?:href|src)="page/([^"]+)"', INDEX))
    assert linked == set(FILES) - {"index.html"}
    imported = {
        found
        for name in MODULES
        for found in re.findall(r'(?:from|import\()\s*"\./([^"]+)"', (page_files.FOLDER / name).read_text())
    }
    assert imported == set(MODULES) - {"app.js"}


def test_the_markup_has_no_code_and_no_style_of_its_own():
    assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=|javascript:", INDEX)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_short_and_puts_no_data_into_markup(name):
    text = (page_files.FOLDER / name).read_text()
    assert text.startswith("// @ts-check\n// ")
    assert len(text.splitlines()) < 300
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text
    )
    assert not re.search(r"localStorage|document\.cookie|setAttribute\(.style", text)
    assert set(re.findall(r"https?://[^\s\"'`]+", text)) <= {"http://www.w3.org/2000/svg"}
