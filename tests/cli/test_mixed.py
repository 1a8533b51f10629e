"""Films of which parts are of another kind: each frame is made what the film began as, none is lost, and it is said."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from .conftest import Run, make_video, read
from .test_changes import parts
from .test_deinterlace import combed, combs

FAST = ("--preset", "ultrafast", "--crf", "1")
FIELDS = {"size": (64, 64), "interlaced": True, "picture": combed, "options": {"crf": "1"}}
WHOLE = {"size": (64, 64), "options": {"crf": "1"}}


def luma(path: Path) -> list[np.ndarray]:
    return [shown.reformat(format="gray").to_ndarray().astype(int) for shown in read(path).frames]


@pytest.mark.parametrize("segments", ["--no-resume", "--segment=0.4"])
def test_a_film_that_is_interlaced_in_parts(run: Run, tmp_path: Path, segments: str) -> None:
    """Its fields are kept by encoders which have them, wherever they begin; others take it, too, and it is said."""
    source = parts(tmp_path, WHOLE, FIELDS, WHOLE)
    for codec, interlaced, told in (("libx264", True, "and stays so"), ("libx265", False, "no longer marked so")):
        result = run(source, tmp_path / f"{codec}.mkv", *FAST, "--codec", codec, segments)
        assert result.code == 0, result.err
        after = read(tmp_path / f"{codec}.mkv")
        assert ([shown.interlaced_frame for shown in after.frames], after.size) == ([interlaced] * 60, (128, 128))
        assert told in result.err
        assert "--deinterlace flagged" in result.err
        assert combs(tmp_path / f"{codec}.mkv") > 0.5


def test_what_is_interlaced_is_found_late(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no look into the film had shown it: nothing done is lost, and a note says where, and what to do."""
    monkeypatch.setattr("vsaether.media.job.later_interlaced", lambda path, stream: False)
    result = run(parts(tmp_path, WHOLE, FIELDS), tmp_path / "out.mkv", *FAST)
    assert (result.code, len(read(tmp_path / "out.mkv").frames)) == (0, 40)
    assert "interlaced frames begin at 000021" in result.err
    assert "--deinterlace flagged" in result.err
    refused = run(parts(tmp_path, FIELDS), tmp_path / "hevc.mkv", "--codec", "libx265")
    assert (refused.code, "--deinterlace flagged" in refused.error) == (1, True)


@pytest.mark.parametrize("order", [(WHOLE, FIELDS, WHOLE), (FIELDS, WHOLE)])
@pytest.mark.parametrize("segments", ["--no-resume", "--segment=0.4"])
def test_only_interlaced_parts_are_deinterlaced(
    run: Run, tmp_path: Path, order: tuple[dict, ...], segments: str
) -> None:
    """By an encoder which has no fields, too; progressive frames are to the bit those of a run without the option."""
    source = parts(tmp_path, *order)
    options = ("--codec", "ffv1", "--backend", "ov", segments)
    assert run(source, tmp_path / "as-it-is.mkv", *options).code == 0
    result = run(source, tmp_path / "out.mkv", *options, "--deinterlace", "flagged")
    assert result.code == 0, result.err
    before, after = luma(tmp_path / "as-it-is.mkv"), luma(tmp_path / "out.mkv")
    assert len(after) == len(before) == 20 * len(order)
    assert read(tmp_path / "out.mkv").times == read(tmp_path / "as-it-is.mkv").times
    for place, each in enumerate(order):
        for number in range(20 * place, 20 * place + 20):
            same = np.array_equal(before[number], after[number])
            assert same == (each is WHOLE) or number in (20 * place, 20 * place + 19)
    assert combs(tmp_path / "out.mkv") < 0.5 < combs(tmp_path / "as-it-is.mkv")
    hevc = run(source, tmp_path / "hevc.mkv", *FAST, "--codec", "libx265", "--deinterlace", "flagged", segments)
    assert (hevc.code, len(read(tmp_path / "hevc.mkv").frames)) == (0, 20 * len(order)), hevc.err


def test_another_sample_format_is_converted(run: Run, tmp_path: Path) -> None:
    """All frames are there, in the format of the first."""
    deep = {"codec": "libx264", "pix_fmt": "yuv422p10le"}
    source = parts(tmp_path, {}, deep, {})
    result = run(source, tmp_path / "out.mkv", *FAST, "--segment", "0.5")
    assert result.code == 0, result.err
    after = read(tmp_path / "out.mkv")
    assert ({shown.format.name for shown in after.frames}, len(after.frames)) == ({"yuv420p"}, 60)
    assert result.err.count("the sample format changes from yuv420p to yuv422p10le at 000021") == 1


def test_other_colours_are_converted(run: Run, tmp_path: Path) -> None:
    """What is tagged otherwise looks the same in the end, and a note says so."""
    source = parts(tmp_path, {"tags": (1, 1, 1, 1)}, {"tags": (6, 1, 1, 2)})
    result = run(source, tmp_path / "out.mkv", "--codec", "ffv1")
    assert result.code == 0, result.err
    assert "the colours' tags change at 000021" in result.err
    after = read(tmp_path / "out.mkv")
    assert {(shown.colorspace, shown.color_range) for shown in after.frames} == {(1, 1)}
    assert len(after.frames) == 40
    first, second = luma(tmp_path / "out.mkv")[::20]
    assert np.abs(first - second).mean() > 3


def test_sound_that_changes_is_converted_to_its_end(run: Run, tmp_path: Path) -> None:
    """Other channels and another rate midway: all of it is there, in the format of the beginning."""
    files = []
    for name, rate, layout in (("a", 48000, "stereo"), ("b", 44100, "mono")):
        video = make_video(tmp_path / f"{name}.mkv", pts=[40 * i for i in range(25)])
        files.append(tmp_path / f"{name}.ts")
        with av.open(str(video)) as file, av.open(str(files[-1]), "w") as out:
            sound = out.add_stream("mp2", rate=rate, layout=layout)
            stream = out.add_stream_from_template(file.streams.video[0])
            channels = 1 if layout == "mono" else 2
            samples = (np.sin(np.arange(rate) / 20) * 8000).astype(np.int16).repeat(channels)[None]
            part = av.AudioFrame.from_ndarray(samples, "s16", layout)
            part.sample_rate, part.pts, part.time_base = rate, 0, Fraction(1, rate)
            pieces = av.AudioResampler("s16", layout, rate, frame_size=1152)
            for piece in [*pieces.resample(part), *pieces.resample(None)]:
                out.mux(sound.encode(piece))
            out.mux(sound.encode(None))
            for packet in file.demux(video=0):
                if packet.size:
                    packet.stream = stream
                    out.mux(packet)
    (tmp_path / "in.ts").write_bytes(b"".join(path.read_bytes() for path in files))
    result = run(tmp_path / "in.ts", tmp_path / "out.webm", "--encoder-options", "cpu-used=8,deadline=realtime")
    assert result.code == 0, result.err
    with av.open(str(tmp_path / "out.webm")) as file:
        heard = list(file.decode(audio=0))
    assert {(part.layout.name, part.sample_rate) for part in heard} == {("stereo", 48000)}
    assert abs(sum(part.samples for part in heard) / 48000 - 2) < 0.1
    loud = np.concatenate([part.to_ndarray() for part in heard], axis=1)
    assert np.abs(loud[:, 60000:80000]).max() > 0.1
