"""Video degradation: LR crops as they come out of a decoder, a pure function of the crops and a random generator."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from export.metrics import cubic
from training.errors import DataError

KERNELS = ("area", "bicubic", "lanczos")
PRESETS = {
    "libx264": ("superfast", "veryfast", "faster", "fast", "medium"),
    "libx265": ("ultrafast", "superfast", "veryfast", "fast"),
}
CRF = {"libx264": (15.0, 30.0), "libx265": (17.0, 32.0)}
DECODERS = {"libx264": "h264", "libx265": "hevc"}
LUMA = ((0.2126, 0.0722), (0.299, 0.114))  # weights of red and blue: BT.709, BT.601

BLOCK = 16  # macroblock
CONTEXT = 4  # LR pixels of the same picture around a crop, as far as the codecs' deblocking reaches
GROUP = 4  # crops encoded side by side with the same settings
FRAMES = 3
MOTION = 8  # HR pixels a frame
COMPRESSED = 0.9  # share of the groups; the others lose only chroma
STATIC = 0.3  # share of the crops that do not move


def resize_matrix(size: int, out: int, kernel: str, shift: float = 0.0) -> Tensor:
    """(out, size) float32 matrix of antialiased resizing, edges repeated.

    kernel: "area", "bicubic" (a = -0.5) or "lanczos" (3 lobes). shift: input pixels by which the sampled positions
    move towards the end.
    """
    stretch = max(1.0, size / out)
    centre = (torch.arange(out, dtype=torch.float64) + 0.5) * size / out - 0.5 + shift
    reach = int(3 * stretch) + 1
    index = centre.floor().long()[:, None] + torch.arange(-reach, reach + 1)
    x = ((centre[:, None] - index) / stretch).abs()
    if kernel == "area":
        weight = (x < 0.5).double()
    elif kernel == "bicubic":
        weight = torch.from_numpy(cubic(x.numpy()))
    elif kernel == "lanczos":
        weight = torch.where(x < 3, torch.sinc(x) * torch.sinc(x / 3), 0.0)
    else:
        raise ValueError(f"kernel is {kernel!r}; allowed are {', '.join(KERNELS)}.")
    weight /= weight.sum(1, keepdim=True)
    return torch.zeros(out, size, dtype=torch.float64).scatter_add_(1, index.clamp(0, size - 1), weight).float()


class Video:
    """Makes LR crops as a decoder and a resizer would hand them to the network.

    Each crop is downscaled by area, bicubic or lanczos, three times along a random motion, and converted to 8-bit
    limited-range YCbCr 4:2:0 (BT.709 or BT.601, chroma at the left). Four crops side by side are encoded as a clip of
    one to three frames (H.264, or HEVC where libx265 is there, random preset and CRF); the last frame is decoded and
    converted back to RGB. Crops are cut from larger ones, so that what lies next to them in the mosaic is their own
    picture, and at any phase of the codec's blocks. Encoders run with one thread: the same crops and generator give
    the same result wherever the encoders are the same.

    side: height and width in HR pixels of the crops to be given to `__call__`.

    Raises DataError where PyAV or its libx264 is missing.
    """

    def __init__(self, scale: int, patch: int, device: str) -> None:
        self._av = _pyav()
        self.codecs = [c for c in PRESETS if c in self._av.codec.codecs_available]
        if "libx264" not in self.codecs:
            raise DataError('This PyAV has no libx264, which degradation = "video" needs: pip install -U av.')
        self.scale, self.patch, self.device = scale, patch, device
        self.cell = -(-(patch + 2 * CONTEXT + BLOCK // 2) // BLOCK) * BLOCK  # LR pixels
        self.side = self.cell * scale
        cell, furthest = self.cell, MOTION * (FRAMES - 1)
        shifts = range(-furthest, furthest + 1)
        table = [torch.stack([resize_matrix(self.side, cell, k, s) for s in shifts]) for k in KERNELS]
        self._shrink = torch.stack(table).to(device)  # (kernel, shift, cell, side)
        self._still = furthest
        # Chroma is in the middle between two rows, and in the column of every other luma sample.
        down = (resize_matrix(cell, cell // 2, "bicubic"), resize_matrix(cell, cell // 2, "bicubic", -0.5))
        up = (resize_matrix(cell // 2, cell, "bicubic"), resize_matrix(cell // 2, cell, "bicubic", 0.25))
        self._down, self._up = ([m.to(device) for m in matrices] for matrices in (down, up))
        self._to_yuv = torch.stack([_yuv_matrix(*weights) for weights in LUMA])

    def __call__(self, hr: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """(N, 3, side, side) float32 in [0, 1] -> LR (N, 3, patch, patch) and HR (N, 3, s*patch, s*patch)."""
        n = len(hr)
        kernel = torch.from_numpy(rng.integers(0, len(KERNELS), n))
        motion = rng.integers(-MOTION, MOTION + 1, (n, 2)) * (rng.random((n, 1)) >= STATIC)
        to_yuv = self._to_yuv[torch.from_numpy((rng.random(n) < 0.3).astype(np.int64))].to(self.device)
        frames = []
        for before in reversed(range(FRAMES)):
            shift = torch.from_numpy(self._still - motion * before)
            rows, columns = (self._shrink[kernel, shift[:, i], None] for i in (0, 1))
            frames.append(self._to_planes((rows @ hr @ columns.mT).clamp_(0, 1), to_yuv))
        coded = [self._encode([f[i : i + GROUP] for f in frames], rng) for i in range(0, n, GROUP)]
        decoded = self._to_rgb(np.concatenate(coded), to_yuv)
        phases = rng.integers(CONTEXT, self.cell - self.patch - CONTEXT + 1, (n, 2)).tolist()
        lr = torch.stack([_cut(d, y, x, self.patch) for d, (y, x) in zip(decoded, phases, strict=True)])
        s = self.scale
        target = torch.stack([_cut(h, y * s, x * s, self.patch * s) for h, (y, x) in zip(hr, phases, strict=True)])
        return lr, target

    def _to_planes(self, rgb: Tensor, to_yuv: Tensor) -> NDArray[np.uint8]:
        """Y, Cb and Cr of each crop below each other, as PyAV lays out yuv420p: (N, cell * 3 / 2, cell)."""
        yuv = torch.einsum("nij,njhw->nihw", to_yuv, rgb)
        chroma = self._down[0] @ yuv[:, 1:] @ self._down[1].mT
        luma = yuv[:, 0].mul(219).add(16).round_().clamp_(0, 255).byte()
        chroma = chroma.mul(224).add(128).round_().clamp_(0, 255).byte()
        return np.concatenate([p.flatten(1).cpu().numpy() for p in (luma, chroma)], 1).reshape(len(rgb), -1, self.cell)

    def _to_rgb(self, planes: NDArray[np.uint8], to_yuv: Tensor) -> Tensor:
        n, cell = len(planes), self.cell
        flat = torch.from_numpy(planes.reshape(n, -1)).to(self.device).float()
        luma = flat[:, : cell * cell].view(n, 1, cell, cell).sub(16).div(219)
        chroma = flat[:, cell * cell :].view(n, 2, cell // 2, cell // 2).sub(128).div(224)
        yuv = torch.cat([luma, self._up[0] @ chroma @ self._up[1].mT], 1)
        return torch.einsum("nij,njhw->nihw", torch.linalg.inv(to_yuv), yuv).clamp_(0, 1)

    def _encode(self, frames: list[NDArray[np.uint8]], rng: np.random.Generator) -> NDArray[np.uint8]:
        """One group's crops after compression with settings of its own."""
        codec = self.codecs[rng.integers(len(self.codecs))]
        preset = PRESETS[codec][rng.integers(len(PRESETS[codec]))]
        crf, count = rng.uniform(*CRF[codec]), int(rng.integers(1, FRAMES + 1))
        if rng.random() >= COMPRESSED:
            return frames[-1]
        mosaics = [_side_by_side(f) for f in frames[-count:]]
        return _apart(compress(mosaics, codec, preset, crf, self._av), len(frames[-1]))


def compress(frames: list[NDArray[np.uint8]], codec: str, preset: str, crf: float, av: Any) -> NDArray[np.uint8]:
    """The last of some yuv420p frames (H * 3 / 2, W), encoded as one clip and decoded again."""
    encoder = av.CodecContext.create(codec, "w")
    encoder.width, encoder.height = frames[0].shape[1], frames[0].shape[0] * 2 // 3
    encoder.pix_fmt, encoder.time_base, encoder.framerate = "yuv420p", Fraction(1, 25), Fraction(25)
    encoder.thread_count = 1
    encoder.options = {"crf": f"{crf:.2f}", "preset": preset}
    if codec == "libx265":
        encoder.options = {**encoder.options, "x265-params": "pools=none:frame-threads=1:log-level=none"}
    decoder = av.CodecContext.create(DECODERS[codec], "r")
    decoder.thread_count = 1
    packets, decoded = [], []
    for number, pixels in enumerate(frames):
        frame = av.VideoFrame.from_ndarray(pixels, format="yuv420p")
        frame.pts = number
        packets += encoder.encode(frame)
    for packet in [*packets, *encoder.encode(None), None]:
        decoded += decoder.decode(packet)
    assert len(decoded) == len(frames)
    return decoded[-1].to_ndarray(format="yuv420p")


def _side_by_side(planes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(N, cell * 3 / 2, cell) -> one frame (cell * 3 / 2, N * cell), each plane's crops in a row."""
    n, cell = len(planes), planes.shape[2]
    luma = planes[:, :cell].transpose(1, 0, 2).reshape(-1)
    chroma = planes[:, cell:].reshape(n, 2, cell // 2, cell // 2).transpose(1, 2, 0, 3).reshape(-1)
    return np.concatenate([luma, chroma]).reshape(-1, n * cell)


def _apart(frame: NDArray[np.uint8], n: int) -> NDArray[np.uint8]:
    """The inverse of `_side_by_side`."""
    cell = frame.shape[1] // n
    luma = frame[:cell].reshape(cell, n, cell).transpose(1, 0, 2).reshape(n, -1)
    chroma = frame[cell:].reshape(2, cell // 2, n, cell // 2).transpose(2, 0, 1, 3).reshape(n, -1)
    return np.concatenate([luma, chroma], 1).reshape(n, -1, cell)


def _yuv_matrix(red: float, blue: float) -> Tensor:
    """(3, 3): RGB in [0, 1] to Y in [0, 1] and Cb, Cr in [-0.5, 0.5]."""
    luma = torch.tensor([red, 1 - red - blue, blue])
    cb = (torch.tensor([0.0, 0.0, 1.0]) - luma) / (2 * (1 - blue))
    cr = (torch.tensor([1.0, 0.0, 0.0]) - luma) / (2 * (1 - red))
    return torch.stack([luma, cb, cr])


def _cut(image: Tensor, y: int, x: int, size: int) -> Tensor:
    return image[:, y : y + size, x : x + size]


def _pyav() -> Any:
    try:
        import av
    except ImportError as error:
        raise DataError(f'degradation = "video" needs PyAV: pip install av ({error}).') from None
    return av
