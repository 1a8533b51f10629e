"""What repeats is not computed again, and the bytes are the same as if it were."""

import random
from typing import Any

import numpy as np
import pytest
import vapoursynth as vs

import vsaether
from vsaether import reuse

from .conftest import clip_of

core = vs.core


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((3, 72, 96), np.float32)


def moving(count: int) -> np.ndarray:
    """A still picture with a pointer that moves over it, into the corners too."""
    frames = picture(0)[None].repeat(count, 0)
    for n, frame in enumerate(frames):
        x, y = [(0, 0), (88, 64), (40, 30), (41, 30), (90, 0)][n % 5]
        frame[:, y : y + 8, x : x + 6] = 1
    return frames


def held(count: int) -> np.ndarray:
    return np.stack([picture(n // 3) for n in range(count)])


def samples(frame: vs.VideoFrame) -> bytes:
    with frame:
        return b"".join(np.asarray(plane).tobytes() for plane in frame)


def result(clip: vs.VideoNode, order: list[int]) -> dict[int, bytes]:
    """The samples of frames, all asked for at once, in an order."""
    futures = {n: clip.get_frame_async(n) for n in order}
    return {n: samples(future.result()) for n, future in futures.items()}


def compared(
    clip: vs.VideoNode, engine: str, backend: str, tile: int | None = None, seed: int | None = None
) -> tuple[float, int]:
    """Assert that frames, in some order, are those of computing all; the share of their pixels that was not computed,
    and how many frames differ.
    """
    order = list(range(len(clip)))
    every, once = (vsaether.upscale(clip, engine, backend=backend, tile=tile, reuse=each) for each in (False, True))
    expected = result(every, order)
    if seed is not None:
        random.Random(seed).shuffle(order)
    meter = reuse.ReuseMeter()
    assert result(once, order) == expected
    return meter.share or 0, len(set(expected.values()))


NATIVE, OV = ("tiny_2x_int8", "native"), ("tiny_2x_fp32", "ov")


@pytest.mark.parametrize("seed", [None, 1])
@pytest.mark.parametrize(("frames", "on", "share"), [(held, NATIVE, 2 / 3), (held, OV, 2 / 3), (moving, NATIVE, 0.2)])
def test_any_order_gives_the_bytes_of_computing_all(frames: Any, on: Any, share: float, seed: int | None) -> None:
    found, different = compared(clip_of(frames(15), vs.RGBS), *on, seed=seed)
    assert found >= share
    assert different == 5


def test_any_change_is_seen() -> None:
    """A single bit, at each border of a block; -0 and 0; many places, and all."""
    frames = picture(0)[None].repeat(27, 0)
    for n, planes in enumerate(frames[1:25]):
        generator = np.random.default_rng(n)
        for _ in range([1, 2, 5, 40][n % 4]):
            x, y = generator.choice([0, 15, 16, 47, 95]), generator.choice([0, 15, 16, 40, 71])
            planes.view(np.uint32)[n % 3, y, x] ^= 1 << 22
    frames[25:] *= np.array([0.0, -0.0], np.float32)[:, None, None, None]
    assert compared(clip_of(frames, vs.RGBS), *NATIVE)[1] >= 24


def test_of_a_tiled_frame_unchanged_tiles_are_not_computed() -> None:
    frames = [picture(0), picture(0)]
    frames[1][0][0, 0] = 0.5
    share, _ = compared(clip_of(frames, vs.RGBS), *OV, tile=48)
    assert 0.4 < share < 0.5  # one of the second frame's tiles is computed


def test_fields_and_alpha() -> None:
    mask = clip_of([[planes[0]] for planes in held(4)], vs.GRAYS, _Range=0)
    clip = clip_of(moving(4), vs.RGBS, _FieldBased=2).std.ClipToProp(mask, "_Alpha")

    every, once = (
        vsaether.upscale(clip, "tiny_2x_int8", backend="native", tile=64, reuse=each).std.PropToClip("_Alpha")
        for each in (False, True)
    )
    assert result(once, [0, 2, 1, 3]) == result(every, [0, 1, 2, 3])
    assert compared(clip, *NATIVE, tile=64, seed=1)[0] > 0.2


@pytest.mark.parametrize("dither", ["ordered", "none", "random", "error_diffusion"])
def test_a_frame_that_repeats_is_not_even_converted_and_has_its_own_properties(dither: str) -> None:
    """Tags that decide about colours are compared, too: frames 2 and 3 have the same samples, and another matrix."""
    clip = clip_of([picture(0)] * 4, vs.RGBS).resize.Bicubic(format=vs.YUV420P10, matrix=1)
    tagged = [clip.std.SetFrameProps(_Matrix=matrix, n=n) for n, matrix in enumerate((1, 1, 9, 9))]
    clip = clip.std.FrameEval(lambda n: tagged[n])
    every, once = (vsaether.upscale(clip, "tiny_2x_int8", dither_type=dither, reuse=reused) for reused in (False, True))
    meter = reuse.ReuseMeter()
    told = [(dict(frame.props), samples(frame)) for frame in once.frames()]
    assert meter.share == 0.5
    assert told == [(dict(frame.props), samples(frame)) for frame in every.frames()]
    assert told[0][1] == told[1][1] != told[2][1]


def test_what_is_kept_is_bounded_and_a_failure_is_not_kept() -> None:
    clip = clip_of([picture(n % 3) for n in range(9)], vs.RGBS)
    asked: list[int] = []

    def network(n: int, f: vs.VideoFrame) -> vs.VideoFrame:
        asked.append(n)
        if len(asked) == 1:
            raise RuntimeError("the first time it fails")
        return f

    for kept, count in ((6 * picture(0).nbytes, 3), (0, 9)):
        asked.clear()
        made = clip.std.ModifyFrame(clip, network)
        made.std.SetVideoCache(mode=0)
        reused = core.aether.Reuse(clip, made, kept)
        with pytest.raises(vs.Error, match="the first time it fails"):
            reused.get_frame(0)
        for n in range(9):
            np.testing.assert_array_equal(np.asarray(reused.get_frame(n)[1]), picture(n % 3)[1])
        assert len(asked) == 1 + count
    with pytest.raises(vs.Error, match="one length"):
        core.aether.Reuse(clip, clip[:3], 0)


@pytest.mark.parametrize("reused", [False, True])
@pytest.mark.parametrize("interlaced", [0, 2])
def test_few_of_the_networks_frames_are_kept(reused: bool, interlaced: int) -> None:
    """They are large, and whoever asks for a frame again gets it from what is kept of whole frames' results."""
    count, size = 36, picture(0).nbytes * (1 + 2 * 2)
    clip = clip_of([picture(n) for n in range(count)], vs.RGBS).resize.Bicubic(format=vs.YUV420P8, matrix=1)
    upscaled = vsaether.upscale(clip.std.SetFieldBased(interlaced), "tiny_2x_int8", backend="native", reuse=reused)
    held, asked, again = core.used_cache_size, *reuse.counted()
    for n in range(2 * count if reused else count):
        upscaled.get_frame(n % count).close()
    held, asked, again = core.used_cache_size - held, *np.subtract(reuse.counted(), (asked, again))
    assert held < count / 2 * size
    assert asked - again == (count * picture(0)[0].size if reused else 0)


def test_without_the_plugin_all_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reuse, "available", lambda: False)
    for name in ("compute_once", "finish_once"):  # must not be called
        monkeypatch.setattr(reuse, name, None)
    upscaled = vsaether.upscale(clip_of(held(3), vs.RGBS), "tiny_2x_int8", backend="ov")
    assert len(set(result(upscaled, [0, 1, 2]).values())) == 1
    assert reuse.counted() == (0, 0)
