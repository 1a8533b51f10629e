"""README and docs: links lead somewhere, and what they name exists."""

import configparser
import importlib.util
import re
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT))  # benchmarks is not installed
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
TEXTS = {page: page.read_text(encoding="utf-8") for page in PAGES}
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)\s]+)\)")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks(page: Path, language: str) -> list[str]:
    """The page's code in a language."""
    return [text for kind, text in BLOCK.findall(TEXTS[page]) if kind == language]


def anchors(page: Path) -> set[str]:
    """What a page's headings are called in links, as GitHub does it."""
    headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", TEXTS[page]), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_and_modules_exist(page: Path) -> None:
    """Relative links lead to a file, and to a heading of it; `python -m` names a module of this project."""
    for link in LINK.findall(TEXTS[page]):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert ROOT in (target, *target.parents), link
        assert not anchor or anchor in anchors(target), link
    for module in re.findall(r"python -m ([\w.]+)", TEXTS[page]):
        assert module in ("venv", "pip", "pytest") or importlib.util.find_spec(module), module


def test_the_named_test_command_is_what_ci_runs() -> None:
    assert any("make test" in block for block in blocks(ROOT / "README.md", "sh"))
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    tested = re.findall(r"tests/\w+", (ROOT / "Makefile").read_text())
    folders = {path.parent.relative_to(ROOT).as_posix() for path in ROOT.glob("tests/*/test_*.py")}
    assert sorted(tested) == sorted(folders)


def test_every_page_is_reached_from_the_index() -> None:
    reached, waiting = set(), [ROOT / "docs" / "index.md"]
    while waiting:
        page = waiting.pop()
        if page in TEXTS and page not in reached:
            reached.add(page)
            waiting += [(page.parent / link.partition("#")[0]).resolve() for link in LINK.findall(TEXTS[page])]
    assert {page for page in PAGES if page.parent != ROOT} <= reached
    assert ROOT / "README.md" in PAGES and ROOT / "docs" / "use" / "cli.md" in reached


def test_the_options_are_those_of_the_command_line() -> None:
    reference = runpy.run_path(str(ROOT / "docs" / "reference.py"))
    written = TEXTS[reference["PAGE"]]
    assert reference["page"](written) == written, "run: python docs/reference.py"
    assert written.count("`--engine ENGINE`") >= 2


def test_each_dependency_has_its_line_and_no_other() -> None:
    """What setup.cfg and the Makefile install, against the package columns of the tables."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    lists = [setup["options"]["install_requires"], *setup["options.extras_require"].values()]
    needed = {re.split(r"[<>=\[]", line)[0] for text in lists for line in text.split()}
    needed |= set(re.findall(r"--no-deps (\w+)==", (ROOT / "Makefile").read_text(encoding="utf-8")))
    runtime, extras = TEXTS[ROOT / "docs" / "dependencies.md"].split("## Extras")
    cells = re.findall(r"^\| ([^|]+) \|", runtime, re.MULTILINE)
    cells += re.findall(r"^\|[^|]+\| ([^|]+) \|", extras, re.MULTILINE)
    written = {name.split(" ")[0] for cell in cells for name in cell.split(", ")} - {"package"}
    assert written == needed - {"aethernet"}
