"""What is measured on the clip: as long as wanted, and new in each frame."""

from itertools import islice

from benchmarks import clip


def test_nothing_repeats() -> None:
    """The clip has 100 frames; its first ones come again a code value lighter."""
    shown = [frame.to_ndarray() for frame in islice(clip.pictures(), 103)]
    assert len({each.tobytes() for each in shown}) == 103
    lighter = shown[100].astype(int) - shown[0]
    assert (lighter[:240] == (shown[0][:240] < 255)).all()
    assert not lighter[240:].any()
