"""Pictures of the models, from bundled photographs and measured times."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from benchmarks.quality import network
from export.metrics import imresize, modcrop, psnr_y, to_uint8
from export.pictures import BUNDLED
from export.quality import Network

Pixels = NDArray[np.uint8]
Box = tuple[int, int, int, int]
"""Left, top, width and height of a detail, in pixels of the original."""

CROPS: dict[str, Box] = {
    "photo_taipei_city.webp": (48, 64, 128, 96),
    "art_clipart_10.webp": (48, 64, 128, 96),
    "text_ui_20.webp": (32, 32, 128, 96),
}
OVERVIEW: tuple[str, Box] = ("photo_budgie_branch.webp", (96, 86, 120, 90))
ZOOM = 3


def versions(file: str, scale: int, runs: dict[str, Network | None]) -> dict[str, Pixels]:
    """Label: the bundled picture, (H, W, 3), made small by bicubic and enlarged by each network.

    A run of None is bicubic. The original comes last. Labels hold the Y-PSNR of the whole picture.
    """
    hr = modcrop(np.asarray(Image.open(BUNDLED / file).convert("RGB")), scale)
    lr = imresize(hr, 1 / scale)
    made: dict[str, Pixels] = {}
    for label, run in runs.items():
        if run is None:
            picture = imresize(lr, scale)
        else:
            x = np.ascontiguousarray(np.asarray(lr, np.float32).transpose(2, 0, 1)[None] / np.float32(255))
            picture = run(x)[0].transpose(1, 2, 0).clip(0, 1) * 255.0
        codes = to_uint8(picture).astype(np.uint8)
        made[f"{label}  {psnr_y(codes, hr, scale):.2f} dB"] = codes
    made["original"] = np.asarray(hr, np.uint8)
    return made


def detail(picture: Pixels, box: Box) -> Image.Image:
    """A part of a picture, each pixel ZOOM times as large."""
    left, top, width, height = box
    part = Image.fromarray(np.ascontiguousarray(picture[top : top + height, left : left + width]))
    return part.resize((part.width * ZOOM, part.height * ZOOM), Image.Resampling.NEAREST)


def captioned(picture: Image.Image, text: str) -> Pixels:
    """The picture with a line of text below it."""
    sheet = Image.new("RGB", (picture.width, picture.height + 18), "white")
    sheet.paste(picture)
    ImageDraw.Draw(sheet).text((4, picture.height + 3), text, fill="black")
    return np.asarray(sheet)


def compare(names: list[str]) -> Image.Image:
    """Details of bundled pictures, a row each: bicubic, the presets' int8 engines, all 2x, and the original."""
    runs = {"bicubic": None, **{f"{name}_int8": network(f"{name}_int8")[0] for name in names}}
    rows = []
    for file, box in CROPS.items():
        cells = [captioned(detail(picture, box), label) for label, picture in versions(file, 2, runs).items()]
        rows.append(np.concatenate(cells, axis=1))
    return Image.fromarray(np.concatenate(rows))


def overview(times: dict[str, float], caption: str, path: Path) -> None:
    """README's picture: bicubic, our int8 engines and the original beside each other, and below milliseconds a frame.

    `times` is name: milliseconds, the names of our engines being those of presets.
    """
    from matplotlib.figure import Figure

    runs: dict[str, Network | None] = {"bicubic": None}
    runs |= {name: network(name)[0] for name in ("tiny_2x_int8", "small_2x_int8")}
    file, box = OVERVIEW
    pictures = versions(file, 2, runs)
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=(2.3, 2.1))
    above, below = parts
    for number, (label, picture) in enumerate(pictures.items(), 1):
        axes = above.add_subplot(1, len(pictures), number)
        axes.imshow(np.asarray(detail(picture, box)), interpolation="none")
        axes.set_title(label, fontsize=9)
        axes.set_axis_off()
    axes = below.subplots()
    rows = sorted(times.items(), key=lambda row: -row[1])
    colours = ["tab:orange" if name.startswith(("tiny", "small")) else "tab:gray" for name, _ in rows]
    axes.bar_label(axes.barh([n for n, _ in rows], [t for _, t in rows], color=colours), fmt="%.0f ms", fontsize=8)
    axes.set_xlabel(caption, fontsize=8)
    axes.tick_params(labelsize=8)
    axes.margins(x=0.1)
    figure.savefig(path, dpi=100, pil_kwargs={"lossless": True})
