"""Video degradation: resizing, colour and compression against other implementations, and what it leaves alone."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from export.metrics import imresize
from training.data import Batches, reduced
from training.degrade import CONTEXT, GROUP, Video, _apart, _side_by_side, compress, resize_matrix
from training.images import read_images

av = pytest.importorskip("av")
Frames = NDArray[np.uint8]


@pytest.fixture(scope="module")
def video() -> Video:
    return Video(2, 16, "cpu")


def pictures(n: int, side: int) -> Tensor:
    rng = np.random.default_rng(3)
    coarse = rng.integers(0, 256, (n, side // 4, side // 4, 3), dtype=np.uint8)
    fine = [np.asarray(Image.fromarray(c).resize((side, side), Image.Resampling.BICUBIC)) for c in coarse]
    return torch.from_numpy(np.stack(fine)).permute(0, 3, 1, 2).float() / 255


def psnr(a: Tensor, b: Tensor) -> Tensor:
    return -10 * torch.log10((a - b).square().mean((1, 2, 3)))


def test_resizing_is_that_of_pillow_and_of_the_benchmarks() -> None:
    row = np.random.default_rng(0).random(96).astype(np.float32)
    for scale in (2, 3, 4):
        inner = slice(3, -3)
        ours = resize_matrix(96, 96 // scale, "bicubic")
        wanted = imresize(row[:, None].astype(np.float64), 1 / scale)[:, 0]
        assert np.allclose((ours.numpy() @ row)[inner], wanted[inner], atol=1e-6)
        for kernel, theirs in (("area", Image.Resampling.BOX), ("lanczos", Image.Resampling.LANCZOS)):
            wanted = Image.fromarray(row[None]).resize((96 // scale, 1), theirs)
            small = resize_matrix(96, 96 // scale, kernel).numpy() @ row
            assert np.abs(small - np.asarray(wanted)[0])[inner].max() < 1e-5, kernel
        moved = resize_matrix(96, 96 // scale, "lanczos", scale)
        assert torch.allclose(moved[5:-5] @ torch.from_numpy(row), torch.from_numpy(small)[6:-4], atol=1e-6)
    with pytest.raises(ValueError, match="allowed are area"):
        resize_matrix(8, 4, "cubic")


VAPOURSYNTH = """
import sys
import numpy as np
import vapoursynth as vs
image = np.load(f"{sys.argv[1]}/image.npy")
def fill(n, f):
    f = f.copy()
    for i in range(3):
        np.copyto(np.asarray(f[i]), image[i])
    return f
clip = vs.core.std.BlankClip(format=vs.RGB24, width=image.shape[2], height=image.shape[1], length=1)
clip, cubic = clip.std.ModifyFrame(clip, fill), {"filter_param_a": 0, "filter_param_b": 0.5}
for matrix in ("709", "170m"):
    yuv = clip.resize.Bicubic(format=vs.YUV420P8, matrix_s=matrix, **cubic)
    rgb = yuv.resize.Bicubic(format=vs.RGBS, matrix_in_s=matrix, **cubic)
    planes, colours = ([np.asarray(p) for p in clip.get_frame(0)] for clip in (yuv, rgb))
    np.savez(f"{sys.argv[1]}/{matrix}.npz", yuv=np.concatenate([p.ravel() for p in planes]), rgb=np.stack(colours))
"""


def test_colour_is_that_of_vapoursynth(video: Video, tmp_path: Path) -> None:
    image, cell, luma = pictures(1, video.cell), video.cell, video.cell**2
    np.save(tmp_path / "image.npy", (image[0] * 255).round().byte().numpy())
    # in a process of its own: VapourSynth's plugins and openvino's Python package cannot share one
    subprocess.run([sys.executable, "-c", VAPOURSYNTH, str(tmp_path)], check=True)
    for number, name in enumerate(("709", "170m")):
        with np.load(tmp_path / f"{name}.npz") as theirs:
            yuv, rgb = theirs["yuv"], torch.from_numpy(theirs["rgb"])
        to_yuv = video._to_yuv[number][None]
        ours = video._to_planes(image, to_yuv).ravel()
        assert np.array_equal(ours[:luma], yuv[:luma])
        chroma, wanted = (p[luma:].reshape(2, cell // 2, cell // 2)[:, 2:-2, 2:-2] for p in (ours, yuv))
        assert np.array_equal(chroma, wanted)
        back = video._to_rgb(yuv.reshape(1, -1, cell), to_yuv)[0]
        assert torch.allclose(back[:, 4:-4, 4:-4], rgb.clamp(0, 1)[:, 4:-4, 4:-4], atol=1e-5)


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_compression(video: Video, codec: str) -> None:
    """The last frame comes back, worse at a higher CRF, and it is predicted from those before it."""
    if codec not in video.codecs:
        pytest.skip(f"this PyAV has no {codec}")
    one, two = (_side_by_side(video._to_planes(pictures(4, video.cell).roll(i, 0), video._to_yuv[:1])) for i in (0, 1))

    def error(result: Frames) -> float:
        return float(np.square(result.astype(float) - one).mean())

    fine, coarse, after = (
        compress(frames, codec, "fast", crf, av) for frames, crf in (([one], 8), ([one], 30), ([one, two, one], 30))
    )
    assert error(fine) < 3 < error(coarse)
    assert error(after) < error(two)
    assert not np.array_equal(after, coarse)
    again = compress([one, two, one], codec, "fast", 30, av)
    assert np.array_equal(after, again)


def test_lr_lies_on_hr(video: Video) -> None:
    """LR is the degraded HR and not its neighbourhood: closest to HR's bicubic reduction at no offset."""
    lr, hr = video(pictures(16, video.side), np.random.default_rng(1))
    assert lr.shape == (16, 3, 16, 16)
    assert hr.shape == (16, 3, 32, 32)
    assert 0 <= float(lr.min()) <= float(lr.max()) <= 1
    plain = reduced(hr * 255, 2) / 255
    right = psnr(lr, plain)
    assert (right > 15).all() and float(right.max()) < 45
    for axis in (2, 3):
        for offset in (-1, 1):
            assert (right > psnr(lr.roll(offset, axis), plain)).all()


def test_neighbours_in_the_mosaic_do_not_leak(video: Video) -> None:
    """A crop beside others than before differs by less than compression itself changes it."""
    planes = video._to_planes(pictures(4, video.cell), video._to_yuv[:1])
    inner = slice(CONTEXT, video.cell - CONTEXT)
    for codec in video.codecs:
        alone = _apart(compress([_side_by_side(planes[[1, 1, 1, 1]])] * 3, codec, "fast", 24, av), 4)[1]
        beside = _apart(compress([_side_by_side(planes)] * 3, codec, "fast", 24, av), 4)[1]
        difference, damage = (
            float(np.abs(p[inner, inner].astype(float) - beside[inner, inner]).mean()) for p in (alone, planes[1])
        )
        assert difference < damage, codec


def test_no_codec_has_been_over_flat_crops(video: Video, images: Path) -> None:
    pixels, _ = read_images(images, 64)
    lr, hr, _ = Batches(pixels, 2, 16, 2 * GROUP, seed=0, flat=0.5, device="cpu", video=video).batch(0)
    one_colour = (hr == hr[:, :, :1, :1]).flatten(1).all(1)
    assert 0 < int(one_colour.sum()) < 2 * GROUP
    assert torch.equal(lr[one_colour], hr[one_colour, :, ::2, ::2])
    assert not torch.equal(lr[~one_colour], hr[~one_colour, :, ::2, ::2])
