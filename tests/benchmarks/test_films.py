"""What measures films: the clip is new in each frame, and a page keeps what was not measured again."""

from itertools import islice
from pathlib import Path

from benchmarks import clip, films


def test_nothing_repeats() -> None:
    """The clip has 100 frames; its first ones come again a code value lighter."""
    shown = [frame.to_ndarray() for frame in islice(clip.pictures(), 103)]
    assert len({each.tobytes() for each in shown}) == 103
    lighter = shown[100].astype(int) - shown[0]
    assert (lighter[:240] == (shown[0][:240] < 255)).all()
    assert not lighter[240:].any()


def test_a_section_takes_the_place_of_its_like() -> None:
    committed = (Path(films.__file__).resolve().parents[1] / films.PAGE).read_text("utf-8")
    new = films.with_section(committed, "Killed", "| kills |\n|---|\n| 3 |\n")
    assert new.count("## ") == committed.count("## ") and new.count("## Killed\n\n| kills |\n") == 1
    old = committed.split("\n## ")
    assert all(section.strip() in new for section in old if not section.startswith("Killed"))
    assert films.with_section(new, "Another", "text").endswith("\n\n## Another\n\ntext\n")
