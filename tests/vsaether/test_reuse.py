"""What repeats is not computed again, and the bytes are the same as if it were."""

import random
from typing import Any

import numpy as np
import pytest
import vapoursynth as vs

import vsaether
from vsaether import reuse

core = vs.core
Planes = list[np.ndarray]
SIZE = (96, 72)  # width, height


def picture(seed: int, size: tuple[int, int] = SIZE) -> Planes:
    return list(np.random.default_rng(seed).random((3, size[1], size[0])).astype(np.float32))


def moving(count: int) -> list[Planes]:
    """A still picture with a pointer that moves over it, into the corners too."""
    frames = []
    for n in range(count):
        planes = [plane.copy() for plane in picture(0)]
        x, y = [(0, 0), (88, 64), (40, 30), (41, 30), (90, 0)][n % 5]
        for plane in planes:
            plane[y : y + 8, x : x + 6] = 1
        frames.append(planes)
    return frames


def held(count: int) -> list[Planes]:
    return [picture(n // 3) for n in range(count)]


def result(clip: vs.VideoNode, order: list[int]) -> dict[int, bytes]:
    """The samples of frames, all asked for at once, in an order."""
    futures = {n: clip.get_frame_async(n) for n in order}
    found = {}
    for n, future in futures.items():
        with future.result() as frame:
            found[n] = b"".join(np.ascontiguousarray(np.asarray(frame[p])).tobytes() for p in range(3))
    return found


@pytest.mark.parametrize("backend", ["native", "ov"])
@pytest.mark.parametrize(("frames", "native", "others"), [(held, 2 / 3, 2 / 3), (moving, 0.2, 0)])
def test_any_order_gives_the_bytes_of_computing_all(
    frames: Any, native: float, others: float, backend: str, make_clip: Any
) -> None:
    clip = make_clip(frames(15), vs.RGBS)
    engine = "tiny_2x_int8" if backend == "native" else "tiny_2x_fp32"
    expected = result(vsaether.upscale(clip, engine, backend=backend, reuse=False), list(range(15)))
    assert len(set(expected.values())) == 5
    for seed in range(3):
        order = random.Random(seed).sample(range(15), 15) if seed else list(range(15))
        upscaled = vsaether.upscale(clip, engine, backend=backend)
        meter = reuse.ReuseMeter()
        assert result(upscaled, order) == expected
        assert (meter.share or 0) >= (native if backend == "native" else others)


def test_any_change_is_seen(make_clip: Any) -> None:
    """A single bit, at each border of a block; -0 and 0; many places, and all."""
    frames = [picture(0)]
    for n in range(24):
        planes = [plane.copy() for plane in picture(0)]
        generator = np.random.default_rng(n)
        for _ in range([1, 2, 5, 40][n % 4]):
            x, y = generator.choice([0, 15, 16, 47, 95]), generator.choice([0, 15, 16, 40, 71])
            planes[n % 3].view(np.uint32)[y, x] ^= 1 << 22
        frames.append(planes)
    frames += [[plane * 0 for plane in picture(0)], [plane * -0.0 for plane in picture(0)]]
    clip = make_clip(frames, vs.RGBS)
    order = list(range(len(frames)))
    expected = result(vsaether.upscale(clip, "tiny_2x_int8", backend="native", reuse=False), order)
    assert len(set(expected.values())) >= 24
    assert result(vsaether.upscale(clip, "tiny_2x_int8", backend="native"), order) == expected


def test_of_a_tiled_frame_unchanged_tiles_are_not_computed(make_clip: Any) -> None:
    frames = [picture(0), picture(0)]
    frames[1][0][0, 0] = 0.5
    clip, arguments = make_clip(frames, vs.RGBS), {"engine": "tiny_2x_fp32", "backend": "ov", "tile": 48}
    expected = result(vsaether.upscale(clip, **arguments, reuse=False), [0, 1])
    meter = reuse.ReuseMeter()
    assert result(vsaether.upscale(clip, **arguments), [0, 1]) == expected
    assert 0.4 < (meter.share or 0) < 0.5  # one of the second frame's tiles is computed


def test_fields_and_alpha(make_clip: Any) -> None:
    clip = make_clip(moving(4), vs.RGBS, _FieldBased=2)
    mask = make_clip([[planes[0]] for planes in held(4)], vs.GRAYS, _Range=0)
    clip = clip.std.ClipToProp(mask, "_Alpha")

    def samples(reuse: bool) -> list[bytes]:
        upscaled = vsaether.upscale(clip, "tiny_2x_int8", backend="native", tile=64, reuse=reuse)
        found = []
        for n in (0, 2, 1, 3):
            with upscaled.get_frame(n) as frame:
                opacity: Any = frame.props["_Alpha"]
                found += [np.ascontiguousarray(np.asarray(each)).tobytes() for each in (*frame, opacity[0])]
        return found

    expected = samples(False)
    meter = reuse.ReuseMeter()
    assert samples(True) == expected
    assert (meter.share or 0) > 0.2


@pytest.mark.parametrize("dither", ["ordered", "none", "random", "error_diffusion"])
def test_a_frame_that_repeats_is_not_even_converted_and_has_its_own_properties(dither: str, make_clip: Any) -> None:
    """Tags that decide about colours are compared, too: frames 2 and 3 have the same samples, and another matrix."""
    clip = make_clip([picture(0)] * 4, vs.RGBS).resize.Bicubic(format=vs.YUV420P10, matrix=1)
    tagged = [clip.std.SetFrameProps(_Matrix=matrix, n=n) for n, matrix in enumerate((1, 1, 9, 9))]
    clip = clip.std.FrameEval(lambda n: tagged[n])
    every, once = (vsaether.upscale(clip, "tiny_2x_int8", dither_type=dither, reuse=reused) for reused in (False, True))
    meter = reuse.ReuseMeter()
    for frame in once.frames():
        frame.close()
    assert meter.share == 0.5
    expected, got = (result(each, [0, 1, 2, 3]) for each in (every, once))
    assert got == expected
    assert got[0] == got[1] != got[2]
    assert [dict(frame.props) for frame in once.frames()] == [dict(frame.props) for frame in every.frames()]


def test_what_is_kept_is_bounded_and_a_failure_is_not_kept(make_clip: Any) -> None:
    clip = make_clip([picture(n % 3) for n in range(9)], vs.RGBS)
    asked: list[int] = []

    def network(n: int, f: vs.VideoFrame) -> vs.VideoFrame:
        asked.append(n)
        if len(asked) == 1:
            raise RuntimeError("the first time it fails")
        return f.copy()

    frame_bytes = 3 * 4 * SIZE[0] * SIZE[1]
    for kept, count in ((6 * frame_bytes, 3), (0, 9)):
        asked.clear()
        made = clip.std.ModifyFrame(clip, network)
        made.std.SetVideoCache(mode=0)
        reused = core.aether.Reuse(clip, made, kept)
        with pytest.raises(vs.Error, match="the first time it fails"):
            reused.get_frame(0)
        asked.clear()
        asked.append(-1)
        for n in range(9):
            np.testing.assert_array_equal(np.asarray(reused.get_frame(n)[1]), picture(n % 3)[1])
        assert len(asked) - 1 == count
    with pytest.raises(vs.Error, match="one length"):
        core.aether.Reuse(clip, clip[:3], 0)


@pytest.mark.parametrize("reused", [False, True])
def test_few_of_the_networks_frames_are_kept(reused: bool, make_clip: Any) -> None:
    """They are large, and whoever asks for a frame again gets it from what is kept of whole frames' results."""
    count = 36
    clip = make_clip([picture(n) for n in range(count)], vs.RGBS).resize.Bicubic(format=vs.YUV420P8, matrix=1)
    upscaled = vsaether.upscale(clip, "tiny_2x_int8", backend="native", reuse=reused)
    before, meter = core.used_cache_size, reuse.ReuseMeter()
    for n in range(2 * count if reused else count):
        upscaled.get_frame(n % count).close()
    assert core.used_cache_size - before < count / 2 * SIZE[0] * SIZE[1] * 3 * 4 * (1 + 2 * 2)
    assert (meter.share or 0) == (0.5 if reused else 0)


def test_without_the_plugin_all_is_computed(make_clip: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = make_clip(held(3), vs.RGBS)
    monkeypatch.setattr(reuse, "available", lambda: False)
    upscaled = vsaether.upscale(clip, "tiny_2x_int8", backend="ov")
    assert len(set(result(upscaled, [0, 1, 2]).values())) == 1
    assert reuse.counted() == (0, 0)
