"""Images through descriptors: as the network by itself, in every size, in tiles and in the precisions it claims."""

from pathlib import Path

import pytest
import torch
from torch import nn

import arch
import presets

from ..nets import photo, same
from .conftest import CASES, describe, network

CODE = 1 / 255
CHAINNER_OVERLAP = 16  # pixels by which its tiles overlap


@pytest.mark.parametrize("name", CASES)
def test_like_the_network(name: str) -> None:
    """In any size, none of which is padded, clamped as an image is; of a batch each image as alone."""
    model = network(name)
    descriptor = describe(model)
    scale, channels = descriptor.scale, descriptor.input_channels
    for height, width in ((1, 1), (1, 7), (2, 3), (5, 1), (25, 31)):
        assert not any(descriptor.size_requirements.get_padding(width, height))
        image = photo(height, width, channels)
        with torch.inference_mode():
            direct = model(image)
        assert direct.shape == (1, channels, height * scale, width * scale)
        torch.testing.assert_close(descriptor(image), direct.clamp(0, 1), atol=1e-6, rtol=0)
    assert descriptor(image).std() > 0.01
    batch = torch.cat([image, image.flip(3), 1 - image])
    alone = torch.cat([descriptor(one[None]) for one in batch])
    torch.testing.assert_close(descriptor(batch), alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("path", sorted(presets.DIR.glob("*/*.safetensors")), ids=lambda path: path.stem)
def test_released_networks(path: Path) -> None:
    descriptor = describe(path)
    assert descriptor.tags[0] == path.name.split("_")[1]
    assert ("QAT" in descriptor.tags) == path.stem.endswith("_qat")
    assert same(descriptor.model.state_dict(), arch.load(path).state_dict())
    image = photo(40, 48)
    back = nn.functional.interpolate(descriptor(image), size=image.shape[2:], mode="bicubic", antialias=True)
    # what was trained on this reduction gives it back; for compressed video some detail counts as artefact
    assert (back - image).abs().mean() < (0.04 if path.parent.name.endswith("_video") else 0.01)
    # The overlap is less than the receptive radius of small_2x; what lies beyond it hardly counts.
    wide = photo(32, 96)
    reach, half = 48 + CHAINNER_OVERLAP, 48 * descriptor.scale
    tiles = descriptor(wide[..., :reach])[..., :half], descriptor(wide[..., -reach:])[..., -half:]
    assert (torch.cat(tiles, dim=3) - descriptor(wide)).abs().max() < CODE
    # What `supports_half` promises: within one code value of float32, rounding of the output aside.
    crops = [photo(9, 9, 3, f"{name}.webp") for name in ("photo_budgie_branch", "art_clipart_10", "text_ui_20")]
    batch = torch.cat([*crops, (crops[0] > 0.5).float()])  # and colours as far apart as can be
    expected = descriptor(batch)
    assert (descriptor.half()(batch.half()).float() - expected).abs().max() <= 1.25 * CODE


def test_half_of_the_largest_size() -> None:
    """With the options of the released ones and weights of their scale."""
    model = arch.aether_large(2, norm="batch", gate="relu", image_residual=True, tail="direct").eval()
    with torch.no_grad():
        model.conv_last.weight.normal_(0, 0.1 / model.conv_last.weight[0].numel() ** 0.5)
    image = photo(8, 8)
    for form in (model, arch.fuse(model)):
        descriptor = describe(form)
        expected = descriptor(image)
        assert (descriptor.half()(image.half()).float() - expected).abs().max() <= 1.25 * CODE
