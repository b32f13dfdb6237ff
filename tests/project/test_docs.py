"""The pages say what is: paths, commands, routes and fields that they name exist."""

import importlib.util
import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest

from services.cli.main import make_parser
from services.control_plane.app import create_app
from services.redis.access import RedisAccess
from tests.support.repository import ROOT
from trainer.config.fields import describe_fields
from trainer.config.load import load_config

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FOLDERS = [
    path.name for path in ROOT.iterdir() if path.is_dir() and path.name not in ("runs", ".venv", ".git")
]
FILES = [path.name for path in ROOT.iterdir() if path.is_file()]
BLOCKS = {field.path.split(".")[0] for field in describe_fields() if "." in field.path}

CODE = re.compile(r"^```(\w*)\n(.*?)^```$|^((?: {4}\S[^\n]*\n)+)|`([^`\n]+)`", re.MULTILINE | re.DOTALL)


def code(page: Path) -> list[str]:
    """Every line of code on a page: fenced, indented by four spaces, or inline; pictures left out."""
    return [
        line.strip()
        for language, fenced, indented, inline in CODE.findall(page.read_text())
        if language != "mermaid"
        for line in (fenced or indented or inline).splitlines()
    ]


def named_paths(page: Path) -> set[str]:
    """Paths of the repository that a page names, anywhere in its text."""
    folders, files = "|".join(map(re.escape, FOLDERS)), "|".join(map(re.escape, FILES))
    words = re.findall(rf"(?<![\w./~-])((?:{folders})/[\w./<>-]*|(?:{files})\b)", page.read_text())
    return {word.rstrip(".") for word in words if "<" not in word}


def scope_commands(page: Path) -> list[list[str]]:
    """Arguments of every `scope` command line on a page."""
    lines = [re.sub(r"^(\$ )?(\.venv/bin/)?", "", line) for line in code(page)]
    return [shlex.split(line)[1:] for line in lines if line.startswith("scope ")]


def module(name: str) -> ModuleType:
    """A script of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def test_configuration_page_is_up_to_date() -> None:
    generator = module("generate_configuration")
    assert generator.PAGE.read_text() == generator.page(), (
        "run .venv/bin/python docs/generate_configuration.py"
    )


def test_configuration_page_has_a_row_for_every_field() -> None:
    rows = re.findall(r"^\| `([\w.]+)` \|", (ROOT / "docs" / "configuration.md").read_text(), re.MULTILINE)
    assert rows == [field.path for field in describe_fields()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_on_a_page_exists(page: Path) -> None:
    paths = named_paths(page)
    assert paths
    assert sorted(path for path in paths if not (ROOT / path).exists()) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_between_pages_leads_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"(?<!!)\[[^\]]*\]\((?!https?:)([^)#]*)#?([^)]*)\)", page.read_text()):
        linked = page.parent / target if target else page
        assert linked.exists(), target
        headings = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE)
        assert not anchor or anchor in [heading.lower().replace(" ", "-") for heading in headings]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_picture_of_a_page_is_there(page: Path) -> None:
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page.read_text())
    assert all((page.parent / picture).is_file() for picture in pictures)
    assert pictures or page.name != "README.md"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_scope_command_on_a_page_parses(page: Path) -> None:
    for arguments in scope_commands(page):
        try:
            options = make_parser().parse_args(arguments)
        except SystemExit:
            pytest.fail(f"scope {shlex.join(arguments)} is no command line")
        config = getattr(options, "config", None)
        # A page may tell its reader to write the file first; another test follows that page.
        if config is not None and f"`{config}` beside" not in page.read_text():
            load_config(ROOT / config, options.overrides)


def test_readme_shows_commands_to_train_resume_watch_and_move_the_target() -> None:
    shown = {tuple(arguments[:2]) for arguments in scope_commands(ROOT / "README.md")}
    assert {
        ("train", "deploy/configs/countdown-cpu.yaml"),
        ("train", "--resume"),
        ("status",),
        ("stop",),
        ("entropy", "get"),
        ("entropy", "set"),
        ("serve", "--redis-url"),
    } <= shown


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_make_target_on_a_page_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {line.split()[1] for line in code(page) if line.startswith("make ")}
    assert named <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_configuration_field_on_a_page_exists(page: Path) -> None:
    fields = {field.path for field in describe_fields()}
    fields |= {path.rpartition(".")[0] for path in fields}
    overrides = {
        line.split("=")[0].removeprefix("--set ") for line in code(page) if line.startswith("--set ")
    }
    named = {
        line
        for line in code(page)
        if re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", line)
        and line.split(".")[0] in BLOCKS
        and not line.endswith(".json")
    }
    assert (named | overrides) - {"ray.util.metrics", "a.b"} <= fields


def test_every_route_of_the_control_plane_is_on_the_architecture_page_and_no_other() -> None:
    described = create_app(RedisAccess("redis://127.0.0.1:1/0")).openapi()["paths"]
    routes = {f"{method.upper()} {path}" for path, methods in described.items() for method in methods}
    named = {
        line
        for line in code(ROOT / "docs" / "architecture.md")
        if re.match(r"(GET|PUT|PATCH|POST|DELETE) /", line)
    }
    assert named == routes


def test_every_box_of_the_architecture_picture_names_an_existing_file() -> None:
    (picture,) = re.findall(
        r"```mermaid\n(.*?)```", (ROOT / "docs" / "architecture.md").read_text(), re.DOTALL
    )
    boxes = dict(re.findall(r"^\s*(\w+)\[\"(.*)\"\]$", picture, re.MULTILINE))
    arrows = re.findall(r"^\s*(\w+) (?:<?-->|-\.? .* \.?->|-- .* -->) (\w+)$", picture, re.MULTILINE)
    lines = [line for line in picture.splitlines()[1:] if line.strip()]
    assert len(lines) == len(boxes) + len(arrows), "a line is neither a box nor an arrow"
    assert {name for arrow in arrows for name in arrow} == boxes.keys()
    for label in boxes.values():
        assert (ROOT / label.rsplit("<br/>", 1)[1]).is_file(), label


def test_every_package_has_a_file_on_the_architecture_page() -> None:
    named = named_paths(ROOT / "docs" / "architecture.md")
    folders = {str(Path(path).parent) for path in named}
    packages = {
        str(path.parent.relative_to(ROOT))
        for room in ("services", "trainer")
        for path in (ROOT / room).rglob("*.py")
    }
    assert packages <= folders
