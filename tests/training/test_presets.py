"""The released files: their int8 is that of the checkpoint which was trained, and says what it is."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import arch
import presets
from export import pictures
from export.graph import to_onnx
from export.quality import score
from export.quantizer import quant_convs
from export.ranges import load_quantized
from export.runtimes import BACKENDS, load

NAMES = presets.names()


def trained(name: str) -> torch.nn.Module:
    """The fake-quantised network of the preset's quantisation-aware checkpoint."""
    return load_quantized(arch.read_checkpoint(presets.path(name, "qat"))).eval()


@pytest.mark.parametrize("name", NAMES)
def test_every_file_is_the_one_the_preset_describes(name: str) -> None:
    preset = presets.load(name)
    assert set(preset["files"]) == {"notfused", "fused", "qat", "fp32", "fp16", "int8"}
    for kind, entry in preset["files"].items():
        assert presets.describe(presets.path(name, kind)) == entry
    assert preset["training"]["qat"]["origin"] == preset["files"]["notfused"]["sha256"]
    model, fused = (arch.load(presets.path(name, kind)) for kind in ("notfused", "fused"))
    image = torch.rand(1, 3, 24, 20)
    with torch.inference_mode():
        assert (model(image) - fused(image)).abs().max() <= 1e-4
    assert model.receptive_radius == preset["receptive_radius"]


@pytest.mark.parametrize("name", NAMES)
def test_the_scales_are_those_learnt_in_training(name: str) -> None:
    proto = onnx.load_from_string(presets.read(name, "int8"))
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
    convs = dict(quant_convs(trained(name)))
    assert convs
    steps = {node.input[1] for node in proto.graph.node if node.op_type == "QuantizeLinear"}
    expected = {np.float32(c.input_quantizer.scale.detach().numpy()) for c in convs.values()}
    assert {np.float32(tensors[t]) for t in steps} == expected
    for conv_name, conv in convs.items():
        scale = conv.weight_quantizer.scale.detach().numpy().ravel()
        parts = [v for k, v in sorted(tensors.items()) if k.startswith(f"{conv_name}.weight_scale")]
        assert parts and np.array_equal(np.sort(np.concatenate([p.ravel() for p in parts])), np.sort(scale)), conv_name


@pytest.mark.parametrize("name", NAMES)
def test_int8_files_are_as_good_as_the_trained_network(name: str) -> None:
    """Y-PSNR against ground truth within 0.02 dB of the fake-quantised network in torch, on both runtimes."""
    scale, model = presets.load(name)["scale"], trained(name)
    pairs = [
        (lr[:, :, :64, :64].contiguous().numpy(), hr[: 64 * scale, : 64 * scale])
        for lr, hr in pictures.evaluation(scale, 3)[:6]
    ]
    with torch.inference_mode():
        expected = score(lambda lr: model(torch.from_numpy(lr)).numpy(), pairs, ssim=False)["psnr"]
    for backend in BACKENDS:
        found = score(load(presets.read(name, "int8"), backend), pairs, ssim=False)["psnr"]
        assert abs(found - expected) <= 0.02, backend


def test_the_exporter_of_today_makes_what_was_released() -> None:
    """The int8 graph of a released checkpoint computes the released engine's picture, to the bit."""
    made = to_onnx(trained("tiny_2x")).SerializeToString()
    x = torch.rand(1, 3, 40, 56, generator=torch.Generator().manual_seed(0)).numpy()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    old, new = (
        np.asarray(onnxruntime.InferenceSession(d, options).run(None, {"input": x})[0])
        for d in (presets.read("tiny_2x", "int8"), made)
    )
    np.testing.assert_array_equal(old, new)
