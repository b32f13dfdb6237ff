"""The documentation matches the code: names exist, generated pages are up to date, and the site builds."""

import ast
import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from services.cli.main import make_parser
from services.control_plane.app import create_app
from services.records.step_record import StepRecord
from services.redis.access import RedisAccess
from services.redis.keys import RunKeys
from tests.support.repository import ROOT
from trainer.config.fields import describe_fields
from trainer.config.load import load_config


def load_generator() -> ModuleType:
    """Import docs/generate_reference.py, which is not in a package."""
    spec = importlib.util.spec_from_file_location(
        "generate_reference", ROOT / "docs" / "generate_reference.py"
    )
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


generator = load_generator()


DOCS = ROOT / "docs"
README, ARCHITECTURE = ROOT / "README.md", DOCS / "architecture.md"
REFERENCE = DOCS / "reference"
PAGES = [README, *sorted(DOCS.rglob("*.md"))]
FOLDERS = [
    path.name
    for path in ROOT.iterdir()
    if path.is_dir() and path.name not in ("runs", "site", ".venv", ".git")
]
FILES = [path.name for path in ROOT.iterdir() if path.is_file()]
NAMES = [["COMMAND", "--help"], ["--version"]]
NAMES += [words[:i] for name, *_ in generator.commands() for words in [name.split()] for i in (1, 2)]
"""the ways a page may name a command without its required arguments"""
BLOCKS = {field.path.split(".")[0] for field in describe_fields() if "." in field.path}

CODE = re.compile(r"^```(\w*)\n(.*?)^```$|^((?: {4}\S[^\n]*\n)+)|`([^`\n]+)`", re.MULTILINE | re.DOTALL)

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def code(page: Path) -> list[str]:
    """Every line of code on a page: fenced, indented by four spaces, or inline."""
    return [
        line.strip()
        for _, fenced, indented, inline in CODE.findall(page.read_text())
        for line in (fenced or indented or inline).splitlines()
    ]


def named_paths(page: Path) -> set[str]:
    """Paths of the repository that a page names anywhere in its text."""
    folders, files = "|".join(map(re.escape, FOLDERS)), "|".join(map(re.escape, FILES))
    words = re.findall(rf"(?<![\w./~-])((?:{folders})/[\w./<>-]*|(?:{files})\b)", page.read_text())
    return {word.rstrip(".") for word in words if "<" not in word}


def named_modules(page: Path) -> set[str]:
    """Dotted names in code that begin with a package of the repository."""
    return {
        name
        for line in code(page)
        for name in re.findall(r"(?<![\w./-])(?:services|trainer|benchmarks|tests)(?:\.\w+)+", line)
    }


def module_exists(name: str) -> bool:
    """Whether a dotted name is a module, or a name that occurs in a module's source."""
    *parents, last = name.split(".")
    path, parent = ROOT.joinpath(*parents, last), ROOT.joinpath(*parents)
    if path.is_dir() or path.with_suffix(".py").is_file():
        return True
    sources = [file for file in (parent.with_suffix(".py"), parent / "__init__.py") if file.is_file()]
    return any(re.search(rf"\b{last}\b", file.read_text()) for file in sources)


def scope_commands(page: Path) -> list[list[str]]:
    """Arguments of every `scope` command line on a page, except in headings about a command."""
    lines = [re.sub(r"^(\$ )?(\.venv/bin/)?", "", line) for line in code(page)]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("scope ")]


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub and the site generate them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def first_column(page: Path, heading: str) -> list[str]:
    """Names in backticks in the first column of the tables under a heading."""
    _, section = page.read_text().split(f"\n{heading}\n", 1)
    section = re.split(rf"^#{{1,{heading.count('#')}}} ", section, maxsplit=1, flags=re.MULTILINE)[0]
    rows = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row)]


# --- generated files


@pytest.mark.parametrize("page", generator.PAGES, ids=lambda page: page.name)
def test_generated_page_is_up_to_date(page: Path) -> None:
    assert page.read_text() == generator.PAGES[page](), "run .venv/bin/python docs/generate_reference.py"


def test_configuration_page_has_a_row_for_every_field() -> None:
    rows = re.findall(r"^\| `([\w.]+)` \|", (REFERENCE / "configuration.md").read_text(), re.MULTILINE)
    assert rows == [field.path for field in describe_fields()]


def test_every_argument_of_the_command_line_is_explained() -> None:
    silent = [
        f"scope {name}: {action.dest}"
        for name, parser, _ in generator.commands()
        for action in generator.arguments(parser)
        if not action.help
    ]
    assert not silent


def test_architecture_has_every_package_with_the_first_sentence_of_its_docstring() -> None:
    rows = dict(
        re.findall(r"^\| `((?:services|trainer)/.*?)` \| (.*) \|$", ARCHITECTURE.read_text(), re.MULTILINE)
    )
    packages = {
        file.parent
        for room in ("services", "trainer")
        for file in (ROOT / room).rglob("*.py")
        if file.parent != ROOT / room
    }
    assert rows.keys() == {f"{package.relative_to(ROOT)}/" for package in packages}
    for name, sentence in rows.items():
        docstring = ast.get_docstring(ast.parse((ROOT / name / "__init__.py").read_text())) or ""
        assert " ".join(docstring.split()).startswith(sentence), name
        assert sentence.endswith("."), name


# --- names on the pages


@each_page
def test_every_path_on_a_page_exists(page: Path) -> None:
    assert sorted(path for path in named_paths(page) if not (ROOT / path).exists()) == []


@each_page
def test_every_module_on_a_page_exists(page: Path) -> None:
    assert sorted(name for name in named_modules(page) if not module_exists(name)) == []


@each_page
def test_every_link_between_pages_leads_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"(?<!!)\[[^\]]*\]\((?!https?:)([^)#]*)#?([^)]*)\)", page.read_text()):
        linked = page.parent / target if target else page
        assert linked.is_file(), target
        assert not anchor or anchor in anchors(linked), f"{target}#{anchor}"


@each_page
def test_every_picture_of_a_page_is_there(page: Path) -> None:
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page.read_text())
    assert all((page.parent / picture).is_file() for picture in pictures)
    assert pictures or page != README


@each_page
def test_every_scope_command_on_a_page_parses(page: Path) -> None:
    for arguments in scope_commands(page):
        if arguments in NAMES:
            continue
        try:
            options = make_parser().parse_args(arguments)
        except SystemExit:
            pytest.fail(f"scope {shlex.join(arguments)} is no command line")
        config = getattr(options, "config", None)
        # A page may tell its reader to write the file first; another test follows that page.
        if config is not None and f"`{config}` beside" not in page.read_text():
            load_config(ROOT / config, options.overrides)


@each_page
def test_every_make_target_on_a_page_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {line.split()[1] for line in code(page) if line.startswith("make ")}
    assert named <= targets


@each_page
def test_every_configuration_field_on_a_page_exists(page: Path) -> None:
    fields = {field.path for field in describe_fields()}
    fields |= {path.rpartition(".")[0] for path in fields}
    overrides = {
        line.split("=")[0].removeprefix("--set ") for line in code(page) if line.startswith("--set ")
    } - {"a.b", "A.B", "A"}
    named = {
        line
        for line in code(page)
        if re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", line)
        and line.split(".")[0] in BLOCKS
        and not line.endswith(".json")
    }
    assert (named | overrides) - {"ray.util.metrics"} <= fields


@each_page
def test_the_controlled_quantity_has_one_name(page: Path) -> None:
    assert not re.search(r"set[- ]?points?\b", page.read_text(), re.IGNORECASE)


def test_every_box_of_the_loop_names_an_existing_file() -> None:
    picture = (DOCS / "images" / "loop.svg").read_text()
    boxes = re.findall(r'<text class="path"[^>]*>([^<]+)</text>', picture)
    assert len(boxes) == picture.count("<rect ") - 1, "a box has no path (one rectangle is the background)"
    assert [box for box in boxes if not (ROOT / box).is_file()] == []


# --- coverage of the reference


def test_every_route_of_the_control_plane_is_on_its_page_and_no_other() -> None:
    described = create_app(RedisAccess("redis://127.0.0.1:1/0")).openapi()["paths"]
    routes = {f"{method.upper()} {path}" for path, methods in described.items() for method in methods}
    assert set(first_column(REFERENCE / "http-api.md", "## Routes")) == routes


def test_every_kind_of_problem_is_on_the_page_of_the_interface() -> None:
    sources = "".join(file.read_text() for file in (ROOT / "services" / "control_plane").rglob("*.py"))
    kinds = set(re.findall(r'kind="([a-z-]+)"', sources)) | {"no-entropy-control", "target-out-of-range"}
    errors = (REFERENCE / "http-api.md").read_text().split("\n## Errors\n", 1)[1]
    assert {kind for kind in kinds if f"`{kind}`" not in errors} == set()


def test_every_field_of_the_step_record_is_on_its_page_and_no_other() -> None:
    fields = {field.name for field in msgspec.structs.fields(StepRecord)}
    named = first_column(REFERENCE / "run-directory.md", "## Step record")
    assert sorted(named) == sorted(fields)


def test_every_key_of_a_run_is_on_the_page_of_the_protocol_and_no_other() -> None:
    keys = RunKeys("r")
    per_role = ("cursor", "leases", "lease_owners", "seen", "seen_attempts")
    names = {getattr(keys, name) for name, value in vars(RunKeys).items() if isinstance(value, property)}
    names |= {getattr(keys, name)("<role>") for name in per_role} | {keys.idempotency("<name>")}
    named = first_column(REFERENCE / "replay-protocol.md", "## Keys")
    assert sorted(named) == sorted(name.removeprefix("scope:{r}:") for name in names)


def test_every_script_of_the_replay_queue_is_on_the_page_of_the_protocol() -> None:
    scripts = {path.stem for path in (ROOT / "services" / "replay" / "lua").glob("*.lua")}
    section = (REFERENCE / "replay-protocol.md").read_text().split("\n## Scripts\n", 1)[1]
    assert {name for name in scripts if f"`{name}`" not in section} == set()


# --- the README


@pytest.mark.parametrize(
    ("page", "most"), [(README, 120), (ARCHITECTURE, 250)], ids=["README", "architecture"]
)
def test_page_is_short(page: Path, most: int) -> None:
    assert len(page.read_text().splitlines()) <= most


def test_readme_names_every_room() -> None:
    rooms = {
        f"{room}/{folder.name}/"
        for room in ("services", "trainer")
        for folder in (ROOT / room).iterdir()
        if (folder / "__init__.py").is_file()
    }
    assert rooms <= named_paths(README)


def test_readme_leads_to_the_files_that_are_asked_for_first() -> None:
    assert {
        "trainer/loss/objective.py",
        "services/generation/generator.py",
        "services/replay/lua/lease.lua",
        "services/driver/generator_pool.py",
        "docs/explanation/reliability.md",
        "trainer/entropy_control/__init__.py",
        "services/control_plane/routes/entropy_target.py",
    } <= named_paths(README)


def test_readme_shows_commands_to_train_resume_watch_and_move_the_target() -> None:
    shown = {shlex.join(arguments) for arguments in scope_commands(README)}
    for begin in ("train deploy/", "train --resume", "status", "stop", "entropy get", "entropy set", "serve"):
        assert any(line.startswith(begin) for line in shown), begin


# --- the site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation as `make docs` builds it, from a copy."""
    tree = tmp_path_factory.mktemp("documentation")
    shutil.copytree(DOCS, tree / "docs")
    shutil.copy(ROOT / "mkdocs.yml", tree)
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    built = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return tree / "site"


def test_site_has_every_page(site: Path) -> None:
    pages = {str(page.relative_to(DOCS).with_suffix(".html")) for page in DOCS.rglob("*.md")}
    assert pages <= {str(page.relative_to(site)) for page in site.rglob("*.html")}


def test_site_loads_nothing_from_another_host(site: Path) -> None:
    loading = re.compile(
        r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"?(?:https?:)?//|<link\b[^>]*\bhref=\"?(?:https?:)?//"
    )
    outside = {
        f"{page.relative_to(site)}: {tag}"
        for page in site.rglob("*.html")
        for tag in loading.findall(page.read_text())
        if "canonical" not in tag
    }
    assert outside == set()
    assert not any("fonts.googleapis" in sheet.read_text() for sheet in site.rglob("*.css"))
