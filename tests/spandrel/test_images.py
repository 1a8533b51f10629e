"""Images through descriptors: as the network by itself, in every size, in tiles and in the precisions it claims."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from spandrel import ImageModelDescriptor, ModelLoader, ModelTiling, UnsupportedDtypeError
from torch import Tensor, nn

import arch

Photo = Callable[..., Tensor]
CODE = 1 / 255
CHAINNER_OVERLAP = 16  # pixels by which its tiles overlap


def describe(source: nn.Module | Path) -> ImageModelDescriptor[nn.Module]:
    loader = ModelLoader()
    loaded = (
        loader.load_from_file(source) if isinstance(source, Path) else loader.load_from_state_dict(source.state_dict())
    )
    assert isinstance(loaded, ImageModelDescriptor)
    return loaded


def codes(image: Tensor) -> Tensor:
    return (image.float().clamp(0, 1) * 255).round()


def test_like_the_network(model: nn.Module, photo: Photo) -> None:
    """Within one code value of direct inference, clamped as an image is."""
    descriptor = describe(model)
    image = photo(25, 31, descriptor.input_channels)
    with torch.inference_mode():
        direct = model(image)
    output = descriptor(image)
    assert output.shape == (1, descriptor.output_channels, 25 * descriptor.scale, 31 * descriptor.scale)
    assert output.min() >= 0 and output.max() <= 1
    assert (codes(output) - codes(direct)).abs().max() <= 1
    assert output.std() > 0.01


def test_like_the_network_with_trained_weights(presets_dir: Path, photo: Photo) -> None:
    """All forms of a preset; the image is upscaled, not merely processed."""
    image = photo(40, 48)
    for path in sorted(presets_dir.glob("*/*.safetensors")):
        output = describe(path)(image)
        with torch.inference_mode():
            assert (codes(output) - codes(arch.load(path)(image))).abs().max() <= 1
        back = nn.functional.interpolate(output, size=image.shape[2:], mode="bicubic", antialias=True)
        # what was trained on this reduction gives it back; for compressed video some detail counts as artefact
        limit = 0.04 if path.parent.name.endswith("_video") else 0.01
        error = (back - image).abs().mean()
        assert error < limit


def test_no_size_is_padded(model: nn.Module, photo: Photo) -> None:
    """Any size goes straight into the network, so there are no size requirements."""
    descriptor = describe(model)
    for height, width in ((1, 1), (1, 7), (2, 3), (5, 1), (13, 17)):
        assert not any(descriptor.size_requirements.get_padding(width, height))
        image = photo(height, width, descriptor.input_channels)
        assert image.shape[-2:] == (height, width)
        with torch.inference_mode():
            direct = model(image).clamp(0, 1)
        torch.testing.assert_close(descriptor(image), direct, atol=1e-6, rtol=0)


def test_batches(model: nn.Module, photo: Photo) -> None:
    descriptor = describe(model)
    image = photo(9, 11, descriptor.input_channels)
    batch = torch.cat([image, image.flip(3), 1 - image])
    output = descriptor(batch)
    for index in range(3):
        torch.testing.assert_close(output[index : index + 1], descriptor(batch[index : index + 1]), atol=1e-5, rtol=0)


def seam(descriptor: ImageModelDescriptor[nn.Module], image: Tensor, overlap: int) -> float:
    """Largest difference between the whole frame and two tiles that meet in its middle, in code values."""
    middle, scale = image.shape[-1] // 2, descriptor.scale
    left = descriptor(image[..., : middle + overlap])[..., : middle * scale]
    right = descriptor(image[..., middle - overlap :])[..., overlap * scale :]
    return float((torch.cat([left, right], dim=3) - descriptor(image)).abs().max()) / CODE


def test_tiles_with_the_receptive_radius_are_the_whole_frame(model: nn.Module, photo: Photo) -> None:
    descriptor = describe(model)
    config: Any = descriptor.model.config
    radius = config.receptive_radius
    if radius is None:
        assert descriptor.tiling == ModelTiling.DISCOURAGED
        return
    image = photo(20, 2 * radius + 30, descriptor.input_channels)
    border = getattr(config, "border", 0)
    assert seam(descriptor, image, radius + border) < 0.02


def test_tiles_of_trained_weights(presets_dir: Path, photo: Photo) -> None:
    """chaiNNer's overlap is less than the receptive radius of small_2x; what lies beyond it hardly counts."""
    for path in sorted(presets_dir.glob("*/*.safetensors")):
        descriptor = describe(path)
        assert seam(descriptor, photo(48, 128), CHAINNER_OVERLAP) < 1, path.name


def test_half_of_trained_weights(presets_dir: Path, photo: Photo) -> None:
    """What `supports_half` promises: float16 is within one code value of float32, rounding of the output aside."""
    names = ("photo_budgie_branch", "photo_taipei_city", "art_clipart_10", "text_subs_03", "text_ui_20")
    crops = [photo(16, 16, 3, f"{name}.webp") for name in names]
    crops.append((crops[0] > 0.5).float())  # colours as far apart as can be
    batch = torch.cat(crops)
    for path in sorted(presets_dir.glob("*/*.safetensors")):
        descriptor = describe(path)
        assert descriptor.supports_half
        expected = descriptor(batch)
        errors = (descriptor.half()(batch.half()).float() - expected).abs().amax((1, 2, 3))
        assert (errors <= 1.25 * CODE).all(), (path.name, errors)


@pytest.mark.parametrize("size", ["tiny", "small", "medium", "large"])
@pytest.mark.parametrize("form", ["none", "full"])
def test_half_of_every_size(size: str, form: str, photo: Photo) -> None:
    """Sizes of which no weights are released yet, with the options of the released ones and weights of their scale."""
    torch.manual_seed(0)
    options = {} if size == "tiny" else {"norm": "batch", "gate": "relu", "image_residual": True, "tail": "direct"}
    model = getattr(arch, f"aether_{size}")(2, **options).eval()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if "conv_last" in name and name.endswith("weight"):
                tensor.normal_(0, 0.1 / tensor[0].numel() ** 0.5)
    descriptor = describe(model if form == "none" else arch.fuse(model))
    assert descriptor.supports_half
    image = photo(16, 16)
    expected = descriptor(image)
    assert (descriptor.half()(image.half()).float() - expected).abs().max() <= 1.25 * CODE


def test_precisions_that_are_not_promised(model: nn.Module) -> None:
    """bfloat16 nowhere; float16 only where a clamp bounds what the gated nets multiply, and in aether_tiny."""
    descriptor = describe(model)
    config = descriptor.model.config
    promised = isinstance(config, arch.AetherTinyConfig) or (
        isinstance(config, arch.AetherNetConfig) and config.norm == "batch"
    )
    assert (descriptor.supports_half, descriptor.supports_bfloat16) == (promised, False)
    with pytest.raises(UnsupportedDtypeError):
        descriptor.bfloat16()
    if not promised:
        with pytest.raises(UnsupportedDtypeError):
            descriptor.half()
