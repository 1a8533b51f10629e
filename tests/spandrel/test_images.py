"""Images through descriptors: as the network by itself, in every size, in tiles and in the precisions it claims."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from spandrel import ImageModelDescriptor, ModelLoader, ModelTiling, UnsupportedDtypeError
from torch import Tensor, nn

import arch

from ..nets import photo

CODE = 1 / 255
CHAINNER_OVERLAP = 16  # pixels by which its tiles overlap


@pytest.fixture(scope="session")
def released(presets_dir: Path) -> list[Path]:
    """The checkpoints of all presets."""
    found = sorted(presets_dir.glob("*/*.safetensors"))
    assert found
    return found


def describe(source: nn.Module | Path) -> ImageModelDescriptor[nn.Module]:
    loader = ModelLoader()
    found = (
        loader.load_from_file(source) if isinstance(source, Path) else loader.load_from_state_dict(source.state_dict())
    )
    assert isinstance(found, ImageModelDescriptor)
    return found


def test_like_the_network(model: nn.Module) -> None:
    """In any size, none of which is padded, clamped as an image is; of a batch each image as alone."""
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


def test_like_the_network_with_trained_weights(released: list[Path]) -> None:
    """All forms of a preset; the image is upscaled, not merely processed."""
    image = photo(40, 48)
    for path in released:
        output = describe(path)(image)
        with torch.inference_mode():
            torch.testing.assert_close(output, arch.load(path)(image).clamp(0, 1), atol=CODE / 2, rtol=0)
        back = nn.functional.interpolate(output, size=image.shape[2:], mode="bicubic", antialias=True)
        # what was trained on this reduction gives it back; for compressed video some detail counts as artefact
        limit = 0.04 if path.parent.name.endswith("_video") else 0.01
        assert (back - image).abs().mean() < limit


def seam(descriptor: ImageModelDescriptor[nn.Module], image: Tensor, overlap: int) -> float:
    """Largest difference between the whole frame and two tiles that meet in its middle, in code values."""
    middle, scale = image.shape[-1] // 2, descriptor.scale
    left = descriptor(image[..., : middle + overlap])[..., : middle * scale]
    right = descriptor(image[..., middle - overlap :])[..., overlap * scale :]
    return float((torch.cat([left, right], dim=3) - descriptor(image)).abs().max()) / CODE


def test_tiles_with_the_receptive_radius_are_the_whole_frame(model: nn.Module) -> None:
    descriptor = describe(model)
    config: Any = descriptor.model.config
    radius = config.receptive_radius
    if radius is None:
        assert descriptor.tiling == ModelTiling.DISCOURAGED
        return
    image = photo(20, 2 * radius + 30, descriptor.input_channels)
    assert seam(descriptor, image, radius + getattr(config, "border", 0)) < 0.02


def test_tiles_of_trained_weights(released: list[Path]) -> None:
    """chaiNNer's overlap is less than the receptive radius of small_2x; what lies beyond it hardly counts."""
    for path in released:
        assert seam(describe(path), photo(32, 128), CHAINNER_OVERLAP) < 1, path.name


def test_half_of_trained_weights(released: list[Path]) -> None:
    """What `supports_half` promises: float16 is within one code value of float32, rounding of the output aside."""
    names = ("photo_budgie_branch", "photo_taipei_city", "art_clipart_10", "text_subs_03", "text_ui_20")
    crops = [photo(12, 12, 3, f"{name}.webp") for name in names]
    crops.append((crops[0] > 0.5).float())  # colours as far apart as can be
    batch = torch.cat(crops)
    for path in released:
        descriptor = describe(path)
        expected = descriptor(batch)
        errors = (descriptor.half()(batch.half()).float() - expected).abs().amax((1, 2, 3))
        assert (errors <= 1.25 * CODE).all(), (path.name, errors)


@pytest.mark.parametrize("size", ["medium", "large"])
def test_half_of_sizes_without_released_weights(size: str) -> None:
    """With the options of the released ones and weights of their scale."""
    options = {"norm": "batch", "gate": "relu", "image_residual": True, "tail": "direct"}
    model = getattr(arch, f"aether_{size}")(2, **options).eval()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if "conv_last" in name and name.endswith("weight"):
                tensor.normal_(0, 0.1 / tensor[0].numel() ** 0.5)
    image = photo(10, 10)
    for form in (model, arch.fuse(model)):
        descriptor = describe(form)
        expected = descriptor(image)
        assert (descriptor.half()(image.half()).float() - expected).abs().max() <= 1.25 * CODE


def test_precisions_that_are_not_promised_are_refused(model: nn.Module) -> None:
    descriptor = describe(model)
    with pytest.raises(UnsupportedDtypeError):
        descriptor.bfloat16()
    if not descriptor.supports_half:
        with pytest.raises(UnsupportedDtypeError):
            descriptor.half()
