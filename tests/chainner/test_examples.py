"""The example chains are ones that chaiNNer takes for untampered, and fit the nodes."""

from pathlib import Path

import chains
import pytest
from calls import nodes

EXAMPLES = Path(__file__).resolve().parents[2] / "chainner_nodes" / "examples"
FILES = sorted(EXAMPLES.glob("*.chn"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_checksum_is_right_and_our_nodes_have_every_value(path: Path) -> None:
    ours = [node["data"] for node in chains.read(path)["nodes"] if node["data"]["schemaId"].startswith("aethernet:")]
    assert ours
    for data in ours:
        ids = {str(i.id): i for i in nodes()[data["schemaId"]].inputs}
        for key, value in data["inputData"].items():
            ids[key].enforce_(value)
    text = path.read_text(encoding="utf-8")
    assert "/home/" not in text and "C:\\" not in text  # no path of anyone


def test_examples_cover_image_folder_video_and_comparison() -> None:
    schemas = {p.stem: {n["data"]["schemaId"] for n in chains.read(p)["nodes"]} for p in FILES}
    assert schemas.keys() == {"upscale_image", "upscale_folder", "upscale_video", "compare_psnr"}
    assert "chainner:image:load_images" in schemas["upscale_folder"]
    assert {"chainner:image:load_video", "aethernet:upscale_video_frame"} <= schemas["upscale_video"]
    assert "chainner:image:image_metrics" in schemas["compare_psnr"]
