"""README and docs: links lead somewhere, what they name exists, and the cheap commands run as they are printed."""

import configparser
import importlib.util
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import vapoursynth as vs
from PIL import Image

from vsaether.cli import main

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT))  # benchmarks is not installed
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md"))]
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)\s]+)\)")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks(page: Path, language: str) -> list[str]:
    """The page's code in a language."""
    return [text for kind, text in BLOCK.findall(page.read_text(encoding="utf-8")) if kind == language]


def anchors(page: Path) -> set[str]:
    """What a page's headings are called in links, as GitHub does it."""
    headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_there_are_pages() -> None:
    assert {"README.md", "docs/index.md", "docs/use/cli.md"} <= {p.relative_to(ROOT).as_posix() for p in PAGES}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_and_modules_exist(page: Path) -> None:
    """Relative links lead to a file, and to a heading of it; `python -m` names a module of this project."""
    text = page.read_text(encoding="utf-8")
    for link in LINK.findall(text):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert ROOT in (target, *target.parents), link
        assert not anchor or anchor in anchors(target), link
    for module in re.findall(r"python -m ([\w.]+)", text):
        if module not in ("venv", "pip", "pytest"):
            assert importlib.util.find_spec(module), module


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
        if page.suffix == ".md" and page not in reached:
            reached.add(page)
            links = LINK.findall(page.read_text(encoding="utf-8"))
            waiting += [(page.parent / link.partition("#")[0]).resolve() for link in links if link[0] != "#"]
    assert {p for p in PAGES if p.parent != ROOT} <= reached


def test_the_options_are_those_of_the_command_line() -> None:
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs" / "reference.py")
    assert spec is not None and spec.loader is not None
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    written = reference.PAGE.read_text(encoding="utf-8")
    assert reference.page(written) == written, "run: python docs/reference.py"
    assert written.count("`--engine ENGINE`") >= 2


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what README's commands read, small: the working directory."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(2):
        Image.new("RGB", (24, 16), (number, 80, 160)).save(folder / f"{number}.png")
    shutil.copy(folder / "0.png", "picture.png")
    assert main(["upscale", "frames", "in.mkv", "--engine", "tiny_2x_int8"]) == 0
    assert main(["upscale", "frames", "in.mp4", "--engine", "tiny_2x_int8"]) == 0
    (tmp_path / "season").mkdir()
    shutil.copy("in.mkv", "season/1.mkv")
    return tmp_path


@pytest.mark.parametrize("page", ["README.md", "docs/use/cli.md"])
def test_the_commands_run_as_they_are_printed(
    inputs: Path, page: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of vsaether; what needs an engine of one's own is left out, and so is what takes minutes."""
    lines = [line for block in blocks(ROOT / page, "sh") for line in block.splitlines()]
    commands = [shlex.split(line, comments=True) for line in lines if line.startswith("vsaether ")]
    commands = [words for words in commands if not any("engines/" in word for word in words)]
    assert len(commands) >= 4
    for words in commands:
        assert main(words[1:]) == 0, (words, capsys.readouterr().err)
    assert (inputs / "out.mkv").stat().st_size > 0


def test_the_script_runs_as_it_is_printed(inputs: Path) -> None:
    (script,) = blocks(ROOT / "README.md", "python")
    names: dict[str, vs.VideoNode] = {}
    try:
        exec(compile(script, "README.md", "exec"), names)
        output = vs.get_output()
        assert isinstance(output, vs.VideoOutputTuple)
        with output.clip.get_frame(0) as frame:
            assert (frame.width, frame.height) == (4 * 24, 4 * 16)  # in.mkv is twice the pictures' size
    finally:
        vs.clear_outputs()


def test_each_dependency_has_its_line_and_no_other() -> None:
    """What setup.cfg and the Makefile install, against the package columns of the tables."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    lists = [setup["options"]["install_requires"], *setup["options.extras_require"].values()]
    needed = {re.split(r"[<>=\[]", line.strip())[0] for text in lists for line in text.strip().splitlines()}
    needed |= set(re.findall(r"--no-deps (\w+)==", (ROOT / "Makefile").read_text(encoding="utf-8")))
    runtime, extras = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8").split("## Extras")
    cells = re.findall(r"^\| ([^|]+) \|", runtime, re.MULTILINE) + re.findall(
        r"^\|[^|]+\| ([^|]+) \|", extras, re.MULTILINE
    )
    written = {name.split(" ")[0] for cell in cells for name in cell.split(", ")} - {"package"}
    assert written == needed - {"aethernet"}
