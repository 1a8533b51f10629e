"""``vsaether upscale`` on videos: all that a file holds besides the samples is there again."""

import struct
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from vsaether.media.encode import VideoEncoder
from vsaether.media.images import read_image

from ..conftest import MakeEngine
from .conftest import FONT, VFR, Run, fields, make_video, read

FAST = ("--preset", "ultrafast")
MILLISECOND = Fraction(1, 1000)


@pytest.fixture
def rich(tmp_path: Path) -> Path:
    """VFR, with sound, subtitles, chapters, an attachment and metadata."""
    return make_video(
        tmp_path / "in.mkv",
        pts=VFR,
        audio="aac",
        subtitle=True,
        attachment=True,
        chapters=True,
        metadata={"TITLE": "A title", "DIRECTOR": "Someone"},
        options={"bf": "2"},
    )


def test_everything_in_a_matroska_file_is_kept(run: Run, rich: Path, tmp_path: Path) -> None:
    """Frames, VFR timestamps, packets, languages, chapters, attachments and metadata are those of the input."""
    result = run(rich, tmp_path / "out.mkv", *FAST)
    assert result.code == 0, result.err
    before, after = read(rich), read(tmp_path / "out.mkv")
    assert after.times == before.times == [time * MILLISECOND for time in VFR]
    assert after.packets == before.packets
    assert {index: len(packets) for index, packets in after.packets.items()}[2] == 2
    assert after.kinds == before.kinds
    assert after.chapters == before.chapters
    assert len(after.chapters) == 2
    assert after.attachments == before.attachments
    assert after.attachments == [("font.ttf", "application/x-truetype-font", FONT)]
    assert after.metadata == before.metadata
    assert (after.metadata["title"], after.metadata["DIRECTOR"]) == ("A title", "Someone")
    assert after.size == (128, 96)


def test_the_last_line_tells_what_was_done(run: Run, rich: Path, tmp_path: Path) -> None:
    """Engine, precision, backend, frames, fps and files are named."""
    result = run(rich, tmp_path / "out.mkv", *FAST)
    for text in ("toy_2x_fp32", "fp32", "ov", "12 of 128x96", "fps", str(rich), str(tmp_path / "out.mkv")):
        assert text in result.out
    assert "12/12 frames" in result.err


def test_a_precision_computed_in_another_way_is_told_at_the_end(
    run: Run, rich: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The summary does not say less than the warning did."""
    import vsaether

    monkeypatch.setattr(vsaether.backends.OpenVINO, "note", classmethod(lambda _, precision: "in another way"))
    result = run(rich, tmp_path / "out.mkv", *FAST)
    assert "precision   fp32; in another way" in result.out


def test_an_input_that_is_cut_off_is_told_at_the_end(run: Run, tmp_path: Path) -> None:
    """What is there is upscaled; how much is missing is said, unless only a part was asked for."""
    whole = make_video(tmp_path / "whole.mp4", container_options={"movflags": "faststart"}, options={"g": "1"})
    data = whole.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) * 2 // 3])
    result = run(tmp_path / "cut.mp4", tmp_path / "cut.mkv", *FAST)
    assert result.code == 0, result.err
    there = len(read(tmp_path / "cut.mkv").frames)
    assert 0 < there < 12
    assert f"the input ends early: {there} of 12 frames" in result.out
    for source, arguments in ((whole, ()), (tmp_path / "cut.mp4", ("--limit", "2"))):
        result = run(source, tmp_path / "out.mkv", "--overwrite", *arguments, *FAST)
        assert result.code == 0, result.err
        assert "early" not in result.out


def test_packets_lie_in_order_of_time(run: Run, tmp_path: Path) -> None:
    """Sound stays beside the picture in the file, though the encoder holds back half a minute of frames."""
    source = make_video(tmp_path / "in.mkv", pts=[1000 * i for i in range(60)], audio="aac")
    assert run(source, tmp_path / "out.mkv").code == 0
    order = read(tmp_path / "out.mkv").order
    assert {index for _, index in order} == {0, 1}
    assert max(earlier - later for (earlier, _), (later, _) in pairwise(order)) < 2


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".ts"])
def test_other_containers_keep_times_and_sound(run: Run, tmp_path: Path, suffix: str) -> None:
    """The same container on both sides keeps timestamps and sound to the bit."""
    source = make_video(tmp_path / f"in{suffix}", pts=VFR, audio="aac", metadata={"title": "T", "com.maker.key": "V"})
    result = run(source, tmp_path / f"out{suffix}", *FAST)
    assert result.code == 0, result.err
    before, after = read(source), read(tmp_path / f"out{suffix}")
    assert after.times == before.times
    assert after.packets == before.packets
    if suffix != ".ts":
        assert after.metadata["title"] == "T"


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_chapters_of_an_mp4_are_kept(run: Run, tmp_path: Path, suffix: str) -> None:
    """The track in which it keeps them is no stream which another container would have to carry."""
    source = make_video(tmp_path / "in.mp4", audio="aac", chapters=True)
    before = read(source)
    assert "data" in [kind for kind, _, _ in before.kinds]
    result = run(source, tmp_path / f"out{suffix}", *FAST)
    assert result.code == 0, result.err
    assert read(tmp_path / f"out{suffix}").chapters == before.chapters
    assert len(before.chapters) == 2


def test_a_colon_is_no_protocol(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg takes what stands before a colon for the name of a protocol, unless the path is absolute."""
    monkeypatch.chdir(tmp_path)
    make_video(tmp_path / "a:b.mkv")
    for source, output in (("a:b.mkv", "c:d.mp4"), ("a:b.mkv", "e:%03d.png"), ("e:001.png", "f:g.png")):
        result = run(source, output, "--limit", 1, "--overwrite")
        assert result.code == 0, result.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a:b.mkv", "c:d.mp4", "e:001.png", "f:g.png"]


def test_an_mpeg_clock_starts_at_zero_in_other_containers(run: Run, tmp_path: Path) -> None:
    """MPEG-TS starts anywhere; players of other containers would show nothing until then."""
    source = make_video(tmp_path / "in.ts", pts=[9000 + 40 * i for i in range(12)])
    before = read(source)
    assert before.times[0] >= 9
    for name, start in (("out.mkv", 0), ("out.mp4", 0), ("out.ts", before.times[0])):
        assert run(source, tmp_path / name, *FAST).code == 0
        assert read(tmp_path / name).times == [start + 40 * i * MILLISECOND for i in range(12)]


def test_colour_aspect_and_rotation_are_kept(run: Run, tmp_path: Path) -> None:
    """BT.2020 HLG 10 bit, anamorphic and turned: stream and frames say so again, and stay 10 bit."""
    source = make_video(
        tmp_path / "in.mp4",
        codec="libx265",
        pix_fmt="yuv420p10le",
        tags=(9, 9, 18, 1),
        aspect=Fraction(16, 11),
        rotation=90,
        options={"x265-params": "log-level=error:chromaloc=2:" + "range=limited"},
    )
    assert run(source, tmp_path / "out.mp4", *FAST).code == 0
    before, after = read(source), read(tmp_path / "out.mp4")
    assert after.tags[:4] == before.tags[:4] == (9, 9, 18, 1)
    assert after.pix_fmt == "yuv420p10le"
    assert after.aspect == before.aspect == Fraction(16, 11)
    assert after.rotation == before.rotation != 0


@pytest.mark.parametrize(
    ("size", "given", "told"),
    [
        ((720, 480), (2, 2, 2, 0), (6, 2, 2, 1)),
        ((640, 576), (2, 2, 2, 0), (5, 2, 2, 1)),
        ((64, 48), (2, 9, 16, 1), (9, 9, 16, 1)),
        ((64, 48), (1, 1, 1, 2), (1, 1, 1, 2)),
    ],
)
def test_what_was_guessed_of_the_colour_is_told(
    run: Run, tmp_path: Path, size: tuple[int, int], given: tuple, told: tuple
) -> None:
    """A player would guess something else from the larger size."""
    source = make_video(tmp_path / "in.mkv", size=size, tags=given, pts=[0, 40])
    assert read(source).tags[:4] == given
    assert run(source, tmp_path / "out.mkv", *FAST).code == 0
    assert read(tmp_path / "out.mkv").tags[:4] == told


@pytest.mark.parametrize(
    ("tags", "pix_fmt"),
    [
        ((8, 2, 2, 1), "yuv420p"),
        ((8, 2, 2, 1), "uyvy422"),
        ((10, 9, 14, 1), "yuv420p"),
        ((12, 9, 1, 1), "yuv420p"),
        ((13, 1, 1, 1), "yuv420p"),
        ((14, 9, 16, 1), "yuv420p"),
    ],
)
def test_colours_which_only_the_filter_converts(
    run: Run, tmp_path: Path, tags: tuple[int, int, int, int], pix_fmt: str
) -> None:
    """YCgCo, constant luminance and ICtCp, planar or packed: FFmpeg has nothing to convert there, and need not know."""
    codec = "libx264" if pix_fmt == "yuv420p" else "rawvideo"
    source = make_video(tmp_path / "in.mkv", tags=tags, codec=codec, pix_fmt=pix_fmt, pts=[0, 40])
    result = run(source, tmp_path / "out.mkv", *FAST)
    assert result.code == 0, result.err
    assert read(tmp_path / "out.mkv").tags[:4] == tags


def solid(index: int, width: int, height: int, pix_fmt: str) -> av.VideoFrame:
    """One colour."""
    shown = av.VideoFrame(width, height, pix_fmt)
    for plane, value in zip(shown.planes, (100, 90, 170), strict=True):
        np.frombuffer(plane, np.uint8)[:] = value
    return shown


def test_images_of_a_video_have_the_colours_of_the_video(run: Run, tmp_path: Path) -> None:
    """The same samples, tagged or with tags which can be guessed, become the same RGB."""
    shown = []
    for name, tags in (("tagged", (9, 9, 16, 1)), ("guessed", (2, 9, 16, 1))):
        source = make_video(
            tmp_path / f"{name}.mkv", codec="ffv1", pix_fmt="yuv444p", tags=tags, pts=[0], picture=solid
        )
        assert run(source, tmp_path / name).code == 0
        shown.append(read_image(tmp_path / name / "000001.png").to_ndarray(format="rgb24"))
    assert np.array_equal(*shown)


def test_tags_that_change_midway_are_converted(run: Run, tmp_path: Path) -> None:
    """A file has one colour: a part which is tagged otherwise looks as before in it."""
    parts = [
        make_video(
            tmp_path / f"{start}.ts",
            pts=[start + 40 * i for i in range(12)],
            tags=(matrix, 2, 2, 1),
            picture=solid,
            options={"crf": "1"},
        )
        for start, matrix in ((1000, 1), (1480, 6))
    ]
    source = tmp_path / "in.ts"
    source.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert run(source, tmp_path / "out.mkv", "--crf", "1", *FAST).code == 0
    before, after = read(source), read(tmp_path / "out.mkv")
    assert [before.frames[at].colorspace for at in (0, 20)] == [1, 6]
    assert [after.frames[at].colorspace for at in (0, 20)] == [1, 1]

    def colour(shown: av.VideoFrame, matrix: str) -> np.ndarray:
        return shown.to_ndarray(format="rgb24", src_colorspace=matrix)[9, 9].astype(int)

    assert abs(colour(before.frames[20], "ITU709") - colour(before.frames[20], "SMPTE170M")).max() > 6
    assert abs(colour(after.frames[0], "ITU709") - colour(before.frames[0], "ITU709")).max() <= 2
    assert abs(colour(after.frames[20], "ITU709") - colour(before.frames[20], "SMPTE170M")).max() <= 2


def test_full_range_and_444_are_kept(run: Run, tmp_path: Path) -> None:
    """4:4:4 in full range stays so; the samples, too."""
    source = make_video(tmp_path / "in.mkv", pix_fmt="yuv444p", tags=(1, 1, 1, 2), options={"crf": "1"})
    assert run(source, tmp_path / "out.mkv", "--crf", "1", *FAST).code == 0
    before, after = read(source), read(tmp_path / "out.mkv")
    assert after.tags == before.tags
    assert after.tags[3] == 2
    assert after.pix_fmt == before.pix_fmt == "yuvj444p"
    small, large = (c.frames[5].reformat(format="gray").to_ndarray().astype(float) for c in (before, after))
    assert abs(large[::2, ::2] - small).mean() < 1.5


def test_hdr_metadata_are_kept(run: Run, tmp_path: Path) -> None:
    """Mastering display and content light level (HDR10) are in the result."""
    mastering = "master-display=G(8500,39850)B(6550,2300)R(35400,14600)WP(15635,16450)L(10000000,50):max-cll=1000,400"
    source = make_video(
        tmp_path / "in.mkv",
        codec="libx265",
        pix_fmt="yuv420p10le",
        tags=(9, 9, 16, 1),
        options={"x265-params": f"log-level=error:{mastering}"},
    )
    for name, codec in (("a.mkv", "libx265"), ("b.mkv", "libx264")):
        assert run(source, tmp_path / name, *FAST, "--codec", codec).code == 0
        before, after = read(source), read(tmp_path / name)
        for kind in ("MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL"):
            assert _ratios(after.side_data[kind]) == pytest.approx(_ratios(before.side_data[kind]))
        assert after.pix_fmt == "yuv420p10le"


def luma(frame: av.VideoFrame) -> np.ndarray:
    """The first plane, with what the lines have beyond the picture."""
    return np.array(frame.planes[0]).reshape(-1, frame.planes[0].line_size)


def _ratios(data: bytes) -> list[float]:
    numbers = struct.unpack(f"={len(data) // 4}i", data)
    if len(data) < 80:
        return [float(number) for number in numbers[:2]]
    return [a / b for a, b in zip(numbers[0:20:2], numbers[1:20:2], strict=True)]


def test_odd_sizes_are_not_cropped(run: Run, tmp_path: Path) -> None:
    """4:2:0 of 61x47 gives 122x94, with the last column and row of the source in it."""
    source = make_video(tmp_path / "in.mkv", size=(61, 47), codec="ffv1")
    assert run(source, tmp_path / "out.mkv", "--codec", "ffv1").code == 0
    before, after = read(source), read(tmp_path / "out.mkv")
    assert before.size == (61, 47)
    assert after.size == (122, 94)
    small, large = (
        np.array(c.frames[3].planes[0]).reshape(-1, c.frames[3].planes[0].line_size) for c in (before, after)
    )
    difference = large[:94:2, :122:2].astype(int) - small[:47, :61]
    assert abs(difference).max() <= 2


def test_odd_results_are_refused_where_the_encoder_cannot(run: Run, tmp_path: Path, make_engine: MakeEngine) -> None:
    """Three times an odd size is odd: H.264 needs 4:4:4 for it, VP9 does not."""
    source = make_video(tmp_path / "in.mkv", size=(61, 47), codec="ffv1")
    engine = str(make_engine(kernels=(), scale=3))
    refused = run(source, tmp_path / "out.mkv", engine=engine)
    assert refused.code == 1
    assert "183x141, which libx264 cannot code as yuv420p; use --pix-fmt yuv444p" in refused.error
    for name, options in (("a.mkv", ("--pix-fmt", "yuv444p")), ("b.webm", ("--encoder-options", "cpu-used=8"))):
        assert run(source, tmp_path / name, *options, engine=engine).code == 0
        assert read(tmp_path / name).size == (183, 141)


def test_the_padding_of_odd_sizes_does_not_show(run: Run, tmp_path: Path, make_engine: MakeEngine) -> None:
    """What stands beyond the last column and row is more of the same."""

    def flat(index: int, width: int, height: int, pix_fmt: str) -> av.VideoFrame:
        shown = av.VideoFrame(width, height, pix_fmt)
        for plane in shown.planes:
            np.frombuffer(plane, np.uint8)[:] = 160
        return shown

    source = make_video(tmp_path / "in.mkv", size=(61, 47), codec="ffv1", picture=flat)
    engine = str(make_engine(kernels=(), linear=True))
    assert run(source, tmp_path / "out.mkv", "--codec", "ffv1", engine=engine).code == 0
    large = luma(read(tmp_path / "out.mkv").frames[0])[:94, :122].astype(int)
    assert abs(large[2:, 2:] - 160).max() <= 1


def test_interlaced_stays_interlaced(run: Run, tmp_path: Path) -> None:
    """Each field is upscaled for itself: its lines are at its place again, and not mixed with the other's."""
    source = make_video(tmp_path / "in.mkv", interlaced=True, size=(64, 64), options={"crf": "1"}, picture=fields)
    assert read(source).interlaced
    assert run(source, tmp_path / "out.mkv", "--crf", "1", *FAST).code == 0
    after = read(tmp_path / "out.mkv")
    assert (after.interlaced, after.size) == (True, (128, 128))
    lines = luma(after.frames[5])[:128, :128].mean(axis=1)
    assert abs(lines[0::2] - 40).max() < 4
    assert abs(lines[1::2] - 200).max() < 4
    refused = run(source, tmp_path / "out2.mkv", "--codec", "libx265")
    assert refused.code == 1
    assert "interlaced" in refused.error
    assert not (tmp_path / "out2.mkv").exists()


def test_wrong_timestamps_are_replaced(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some containers give the decoding times for those of presentation: the frames' order is what counts."""
    from vsaether.media import source as module

    decode = module._decode

    def swapped(*arguments: object) -> Iterator[av.VideoFrame | av.Packet]:
        for item in decode(*arguments):  # type: ignore[arg-type]
            if isinstance(item, av.VideoFrame):
                index = round((item.pts or 0) / 40)
                item.dts = item.pts
                item.pts = 40 * (index + (0 if index == 0 else 1 if index % 2 else -1))
            yield item

    monkeypatch.setattr(module, "_decode", swapped)
    source = make_video(tmp_path / "in.mkv")
    assert run(source, tmp_path / "out.mkv", *FAST).code == 0
    assert read(tmp_path / "out.mkv").times == [40 * i * MILLISECOND for i in range(12)]


def test_repeated_timestamps_move_on(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two frames cannot have the same time: the later one is moved by the smallest step."""
    from vsaether.media import source as module

    decode = module._decode

    def repeated(*arguments: object) -> Iterator[av.VideoFrame | av.Packet]:
        for item in decode(*arguments):  # type: ignore[arg-type]
            if isinstance(item, av.VideoFrame) and item.pts == 80:
                item.pts = item.dts = 40
            yield item

    monkeypatch.setattr(module, "_decode", repeated)
    source = make_video(tmp_path / "in.mkv")
    assert run(source, tmp_path / "out.mkv", *FAST).code == 0
    assert read(tmp_path / "out.mkv").times[:4] == [time * MILLISECOND for time in (0, 40, 41, 120)]


@pytest.mark.parametrize("options", [{}, {"bf": "2"}])
def test_a_stream_without_timestamps_keeps_its_rate(run: Run, tmp_path: Path, options: dict[str, str]) -> None:
    """A bare H.264 stream tells neither times nor durations, but its rate."""
    source = make_video(tmp_path / "in.h264", options=options)
    assert {frame.pts for frame in read(source).frames} == {None}
    assert run(source, tmp_path / "out.mkv", *FAST).code == 0
    assert read(tmp_path / "out.mkv").times == [40 * i * MILLISECOND for i in range(12)]


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".ts"])
def test_a_clock_that_steps_back_goes_on(run: Run, tmp_path: Path, suffix: str) -> None:
    """Of two MPEG streams, one written behind the other, the second is played after the first, sound and all."""
    part = make_video(tmp_path / "part.ts", audio="aac")
    source = tmp_path / "in.ts"
    source.write_bytes(part.read_bytes() * 2)
    result = run(source, tmp_path / f"out{suffix}", *FAST)
    assert result.code == 0, result.err
    before, after = read(source), read(tmp_path / f"out{suffix}")
    assert len(after.times) == 24
    assert len(after.packets[1]) == len(before.packets[1])
    steps = [later - earlier for earlier, later in pairwise(after.times)]
    assert steps[:11] == steps[12:] == [40 * MILLISECOND] * 11
    sound = [time for time, _ in after.packets[1]]
    assert max(later - earlier for earlier, later in pairwise(sound)) < Fraction(1, 10)
    assert abs((after.times[12] - after.times[0]) - (sound[len(sound) // 2] - sound[0])) < Fraction(1, 50)


def test_alpha_is_upscaled_where_the_codec_can_and_told_where_not(run: Run, tmp_path: Path) -> None:
    """VP9 keeps the alpha channel; H.264 cannot, and a note says so."""
    source = make_video(tmp_path / "in.mkv", codec="ffv1", pix_fmt="yuva420p")
    assert read(source).pix_fmt == "yuva420p"
    assert run(source, tmp_path / "out.webm", "--encoder-options", "cpu-used=8").code == 0
    after = read(tmp_path / "out.webm", decoder="libvpx-vp9")
    assert after.pix_fmt == "yuva420p"
    alpha = np.array(after.frames[0].planes[3]).reshape(-1, after.frames[0].planes[3].line_size)
    assert alpha[:96, :128].min() > 250
    told = run(source, tmp_path / "out.mp4", *FAST)
    assert told.code == 0
    assert "note: libx264 cannot hold the alpha channel" in told.err


def test_limit_ends_all_streams(run: Run, tmp_path: Path) -> None:
    """With --limit, the sound ends with the last frame."""
    source = make_video(tmp_path / "in.mkv", pts=VFR, audio="aac")
    assert run(source, tmp_path / "out.mkv", *FAST, "--limit", "5").code == 0
    before, after = read(source), read(tmp_path / "out.mkv")
    assert after.times == before.times[:5]
    assert 0 < max(time for time, _ in after.packets[1]) < Fraction(1, 2)
    assert after.packets[1] == before.packets[1][: len(after.packets[1])]


@pytest.mark.parametrize(("suffix", "codec"), [(".mkv", "ffv1"), (".mov", "prores_ks"), (".webm", "libsvtav1")])
def test_other_encoders(run: Run, tmp_path: Path, suffix: str, codec: str) -> None:
    """Lossless, intermediate and AV1 encoders work with their containers."""
    source = make_video(tmp_path / "in.mkv", pix_fmt="yuv420p10le", codec="ffv1")
    result = run(source, tmp_path / f"out{suffix}", "--codec", codec)
    assert result.code == 0, result.err
    after = read(tmp_path / f"out{suffix}")
    assert len(after.frames) == 12
    assert "10le" in after.pix_fmt
    assert ("note: prores_ks cannot hold yuv420p10le" in result.err) == (codec == "prores_ks")


def test_frames_as_images_and_back(run: Run, tmp_path: Path) -> None:
    """A video becomes numbered PNGs, and images become a video of the rate asked for."""
    source = make_video(tmp_path / "in.mkv")
    assert run(source, tmp_path / "frames").code == 0
    names = sorted(path.name for path in (tmp_path / "frames").iterdir())
    assert names == [f"{number:06d}.png" for number in range(1, 13)]
    assert run(source, tmp_path / "some" / "100%x%03d.jpg", "--limit", 2).code == 0
    assert sorted(path.name for path in (tmp_path / "some").iterdir()) == ["100%x001.jpg", "100%x002.jpg"]
    result = run(tmp_path / "frames", tmp_path / "back.mp4", "--fps", "30000/1001", *FAST)
    assert result.code == 0, result.err
    back = read(tmp_path / "back.mp4")
    assert back.size == (256, 192)
    assert back.times == [Fraction(1001 * i, 30000) for i in range(12)]
    assert back.tags[0] == 1
    assert back.pix_fmt == "yuv420p"


def test_a_cover_picture_is_copied(run: Run, tmp_path: Path) -> None:
    """It is a video stream, too, but not the video."""
    sound = make_video(tmp_path / "in.mkv", audio="aac")
    picture = make_video(tmp_path / "cover.mp4", codec="png", pix_fmt="rgb24", pts=[0])
    with av.open(str(sound)) as a, av.open(str(picture)) as b, av.open(str(tmp_path / "both.mp4"), "w") as out:
        streams = {id(s): out.add_stream_from_template(s, opaque=True) for c in (a, b) for s in c.streams}
        streams[id(b.streams.video[0])].disposition = Disposition.attached_pic
        for container in (a, b):
            for packet in container.demux():
                if packet.size:
                    packet.stream = streams[id(packet.stream)]
                    out.mux(packet)
    result = run(tmp_path / "both.mp4", tmp_path / "out.mp4", *FAST)
    assert result.code == 0, result.err
    with av.open(str(tmp_path / "out.mp4")) as after:
        cover = after.streams.video[1]
        assert cover.disposition & Disposition.attached_pic
        assert (cover.codec_context.name, cover.codec_context.width) == ("png", 64)


@pytest.mark.parametrize("times", [[0], [0, 40], VFR[:4]])
@pytest.mark.parametrize("wrong", [140382974514288, -5_000_000])
def test_times_of_decoding_without_sense(
    run: Run, tmp_path: Path, times: list[int], wrong: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """x265 moves them by what happens to lie on its stack where a video is shorter than its delay; MP4 needs them."""
    taken = VideoEncoder._taken

    def moved(self: VideoEncoder, packets: list[av.Packet]) -> list[av.Packet]:
        for packet in packets:
            packet.dts = (packet.pts or 0) - wrong
        return taken(self, packets)

    monkeypatch.setattr(VideoEncoder, "_taken", moved)
    source = make_video(tmp_path / "in.mkv", codec="ffv1", pix_fmt="yuv420p10le", pts=times)
    result = run(source, tmp_path / "out.mp4", *FAST, "--encoder-options", "x265-params=bframes=0")
    assert result.code == 0, result.err
    assert read(tmp_path / "out.mp4").times == [time * MILLISECOND for time in times]
