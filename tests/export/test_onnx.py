"""The ONNX graphs: what they hold, that runtimes agree with torch, and that wrong ones are refused."""

from __future__ import annotations

import copy
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn

import arch
from export import pipeline, runtimes
from export.errors import ExportError
from export.graph import to_onnx
from export.quantizer import calibrate, quant_convs, quantize
from export.ranges import load_quantized
from export.runtimes import BACKENDS, load
from export.verify import Precision, check_structure, serialise, verify
from presets import int8


def calibrated(net: nn.Module, images: list[Tensor]) -> nn.Module:
    model = quantize(arch.fuse(net))
    calibrate(model, images)
    return model


def tensors(proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}


@pytest.mark.parametrize("net", ["tiny", "small", "public"])
def test_float_files_agree_with_torch_everywhere(
    net: str, images: list[Tensor], request: pytest.FixtureRequest
) -> None:
    fused = arch.fuse(request.getfixturevalue(net))
    full = verify(to_onnx(fused), fused, "fp32", images)
    half = verify(to_onnx(fused, half=True), fused, "fp16", images)
    assert set(full) == set(half) == {"ort", "ov"}
    assert all(0 < a.maximum < 2e-3 for a in half.values())


@pytest.mark.parametrize(("net", "convs"), [("tiny", 4), ("small", 8), ("public", 11)])
def test_int8_graphs_are_symmetric_and_per_channel(
    net: str, convs: int, images: list[Tensor], request: pytest.FixtureRequest
) -> None:
    model = calibrated(request.getfixturevalue(net), images)
    proto = to_onnx(model)
    counts = Counter(n.op_type for n in proto.graph.node)
    split = 0 if net == "tiny" else 2  # gate and main of each block
    assert counts["QuantizeLinear"] == convs
    assert counts["DequantizeLinear"] == 2 * convs + split
    assert counts["Conv"] == convs + split + (net == "small")  # conv_last stays in float
    assert not counts.keys() & {"Identity", "Constant", "Shape", "Gather", "Slice"} - (
        {"Slice"} if net != "public" else set()
    )
    assert proto.opset_import[0].version == 20
    values = tensors(proto)
    for node in proto.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            zero = values[node.input[2]]
            assert zero.dtype == np.int8
            assert not zero.any()
        if node.op_type == "DequantizeLinear" and node.input[0] in values:
            codes, steps = values[node.input[0]], values[node.input[1]]
            assert codes.dtype == np.int8
            assert steps.shape == (codes.shape[0],)
            assert node.attribute[0].i == 0
            assert (np.abs(codes).reshape(codes.shape[0], -1).max(1) == 127).all()


def test_steps_in_the_file_are_those_of_the_model(small: arch.AetherNet, images: list[Tensor]) -> None:
    model = calibrated(small, images)
    values = tensors(to_onnx(model))
    for name, conv in quant_convs(model):
        assert values[f"{name}.input_scale"] == pytest.approx(float(conv.input_quantizer._amax) / 127, rel=1e-6)
        if not name.endswith("fc1"):
            steps = conv.weight_quantizer._amax.flatten().numpy() / 127
            np.testing.assert_allclose(values[f"{name}.weight_scale"], steps, rtol=1e-6)
    half = values["layers.0.0.ffn.fc1.weight_scale.0"]
    assert half.shape == (32,)


@pytest.mark.parametrize("opset", [18, 19, 21])
def test_int8_agrees_at_other_opsets(tiny: arch.AetherTiny, images: list[Tensor], opset: int) -> None:
    model = calibrated(tiny, images)
    proto = to_onnx(model, opset=opset)
    assert proto.opset_import[0].version == opset
    assert all(a.psnr > 45 for a in verify(proto, model, "int8", images).values())


@pytest.mark.parametrize("net", ["small", "public"])
def test_int8_agrees_with_torch(net: str, images: list[Tensor], request: pytest.FixtureRequest) -> None:
    model = calibrated(request.getfixturevalue(net), images)
    assert all(a.psnr > 45 for a in verify(to_onnx(model), model, "int8", images).values())


@pytest.mark.parametrize("learnt", [False, True])
def test_nothing_behind_a_concatenation_is_int8(later: nn.Module, images: list[Tensor], learnt: bool) -> None:
    """OpenVINO 2026.4.1 computes that wrongly where the input's range is 0.5 or more."""
    model = quantize(arch.fuse(later), skip=())
    calibrate(model, images)
    assert float(dict(quant_convs(model))["quant_fusion_layer.fusion_conv"].input_quantizer._amax) > 0.5
    with pytest.raises(ExportError, match="behind a Concat"):
        verify(to_onnx(model), model, "int8", images)
    model = load_quantized(model.state_dict()) if learnt else calibrated(later, images)
    assert pipeline.kept_float(model) == [
        *(f"stages.{i}.0.spatial_attn.conv" for i in range(3)),
        "quant_fusion_layer.fusion_conv",
    ]
    assert all(a.psnr > 55 for a in verify(to_onnx(model), model, "int8", images).values())


def test_int8_is_exact_where_openvino_computes_it_in_float32(
    small: arch.AetherNet, images: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtimes, "openvino_int8", lambda: False)
    model = calibrated(small, images)
    assert verify(to_onnx(model), model, "int8", images)["ov"].psnr > 45


def test_float_weights_change_nothing_but_who_convolves(small: arch.AetherNet, images: list[Tensor]) -> None:
    data = to_onnx(calibrated(small, images)).SerializeToString()
    changed = int8.with_float_weights(data)
    x = images[0][:, :, :32, :24].contiguous().numpy()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    before, after = (onnxruntime.InferenceSession(d, options).run(None, {"input": x})[0] for d in (data, changed))
    np.testing.assert_array_equal(np.asarray(before), np.asarray(after))
    proto = onnx.load_from_string(changed)
    assert not any(t.data_type == onnx.TensorProto.INT8 and t.dims for t in proto.graph.initializer)
    rounded = [n for n in proto.graph.node if n.op_type == "QuantizeLinear"]
    assert len(rounded) == sum(n.op_type == "QuantizeLinear" for n in onnx.load_from_string(data).graph.node) > 0


def test_the_probe_of_int8_is_1_in_float_and_wrong_where_sums_of_pairs_saturate() -> None:
    x = np.ones(int8.SHAPE, np.float32)
    [out] = ReferenceEvaluator(int8.probe()).run(None, {"input": x})
    assert np.abs(np.asarray(out) - 1).max() < int8.TOLERANCE
    # as AVX2 does it: 8-bit inputs with an offset of 128, pairs of products in 16 bits
    pair, last = min(2 * 255 * 127, 2**15 - 1), 255 * 127
    saturated = (pair + last - 3 * 128 * 127) / (3 * 127 * 127)
    assert abs(saturated - 1) > 100 * int8.TOLERANCE


def test_convolutions_without_bias_keep_the_residual_in_openvino(images: list[Tensor]) -> None:
    torch.manual_seed(0)
    model = calibrated(arch.AetherNet(3, 16, (1,)).eval(), images)  # the public init: every bias is 0
    found = verify(to_onnx(model), model, "int8", images)
    assert found["ov"].psnr > 45


def test_every_scale_and_grey_images(images: list[Tensor]) -> None:
    for scale in (1, 3, 4):
        net = arch.fuse(arch.AetherNet(1, 8, (1,), upscale=scale).eval())
        grey = [i[:, :1] for i in images[:1]]
        verify(to_onnx(net), net, "fp32", grey)


@pytest.mark.parametrize("learnt", [False, True])
@pytest.mark.parametrize("weight", [0.0, 1e-7])
def test_a_dead_channel_keeps_its_bias(
    tiny: arch.AetherTiny, images: list[Tensor], weight: float, learnt: bool
) -> None:
    """ONNX Runtime adds biases in int32, in steps of which a channel without weights would have more than fit."""
    fused = arch.fuse(tiny)
    with torch.no_grad():
        conv = fused.get_submodule("blocks.1")
        assert isinstance(conv, nn.Conv2d) and conv.bias is not None
        conv.weight[5] *= weight
        conv.bias[5] = 1.0
    model = quantize(fused)
    calibrate(model, images)
    if learnt:  # from a trainer that knows of no such limit
        state = model.state_dict()
        state["blocks.1.weight_quantizer._amax"][5] = 1e-6
        model = load_quantized(state)
    assert all(a.psnr > 45 for a in verify(to_onnx(model), model, "int8", images).values())


def equal_weights(kind: str, tiny: arch.AetherTiny) -> nn.Module:
    """A network in which several convolutions have the same weights and biases."""
    if kind == "deepened":
        return tiny.deepened(7)
    if kind == "copied":
        model = copy.deepcopy(tiny)
        model.blocks[1].load_state_dict(model.blocks[0].state_dict())
        return model
    if kind == "shared":
        model = copy.deepcopy(tiny)
        model.blocks[1] = model.blocks[0]
        return model
    net = arch.AetherNet(3, 8, (1, 1)).eval()
    with torch.no_grad():
        if kind == "zero":
            for parameter in net.parameters():
                parameter.zero_()
        elif kind == "gated":
            net.layers[1].load_state_dict(net.layers[0].state_dict())
        else:
            net.layers[1] = net.layers[0]
    return net


@pytest.mark.parametrize("kind", ["deepened", "copied", "shared", "zero", "gated", "gated shared"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_convolutions_of_equal_weights_are_kept_apart(
    kind: str, precision: Precision, tiny: arch.AetherTiny, images: list[Tensor]
) -> None:
    net = equal_weights(kind, tiny)
    fused = arch.fuse(net)
    torch.testing.assert_close(fused(images[0]), net(images[0]), atol=1e-5, rtol=0)
    model = calibrated(net, images) if precision == "int8" else fused
    engine = pipeline.make(model, precision, images[:1])
    names = [t.name for t in engine.proto.graph.initializer]
    assert len(names) == len(set(names))


def test_a_static_size_is_fixed(tiny: arch.AetherTiny, images: list[Tensor]) -> None:
    engine = pipeline.make(arch.fuse(tiny), "fp32", images, static=(40, 56))
    dims = [d.dim_value for d in engine.proto.graph.output[0].type.tensor_type.shape.dim]
    assert dims == [1, 3, 80, 112]


def test_dimensions_are_dynamic_and_named(tiny: arch.AetherTiny) -> None:
    dims = to_onnx(arch.fuse(tiny)).graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in dims] == ["batch", 3, "height", "width"]


def test_the_same_model_gives_the_same_bytes_and_its_facts(tiny: arch.AetherTiny, images: list[Tensor]) -> None:
    model = calibrated(tiny, images)
    first, second = (pipeline.make(model, "int8", images[:1]) for _ in range(2))
    assert first.data == second.data
    facts = {p.key: p.value for p in first.proto.metadata_props}
    assert facts.pop("aether_bytes_per_pixel").isdigit()
    assert facts == {
        "aether_name": "tiny_2x",
        "aether_variant": "aether_tiny",
        "aether_scale": "2",
        "aether_precision": "int8",
        "aether_receptive_radius": "4",
        "aether_licence": "MIT",
    }


def test_wrong_options_are_refused(tiny: arch.AetherTiny, images: list[Tensor]) -> None:
    with pytest.raises(ValueError, match="18 to 21"):
        to_onnx(arch.fuse(tiny), opset=17)
    with pytest.raises(ValueError, match="float16"):
        to_onnx(calibrated(tiny, images), half=True, opset=18)


def test_verification_finds_a_changed_weight(tiny: arch.AetherTiny, images: list[Tensor]) -> None:
    fused = arch.fuse(tiny)
    proto = to_onnx(fused)
    weight = next(t for t in proto.graph.initializer if t.name == "blocks.0.weight")
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.01), weight.name))
    with pytest.raises(ExportError, match="fp32 differs by"):
        verify(proto, fused, "fp32", images)
    model = calibrated(tiny, images)
    proto = to_onnx(model)
    scale = next(t for t in proto.graph.initializer if t.name == "conv_last.weight_scale")
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * np.float32(1.2), scale.name))
    with pytest.raises(ExportError, match="from the float network"):
        verify(proto, model, "int8", images)
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * np.float32(9), scale.name))
    with pytest.raises(ExportError, match="at least 30"):
        verify(proto, model, "int8", images)


def test_structure_rules_are_checked(tiny: arch.AetherTiny, images: list[Tensor]) -> None:
    good = to_onnx(calibrated(tiny, images))
    check_structure(good, "int8")
    with pytest.raises(ExportError, match="fp32 model holds 4 QuantizeLinear"):
        check_structure(good, "fp32")
    shifted = copy.deepcopy(good)
    zero = next(t for t in shifted.graph.initializer if t.name == "zero_point")
    zero.CopyFrom(numpy_helper.from_array(np.array(3, np.int8), "zero_point"))
    with pytest.raises(ExportError, match="zero point"):
        check_structure(shifted, "int8")
    foreign = copy.deepcopy(good)
    foreign.opset_import.add(domain="com.microsoft", version=1)
    with pytest.raises(ExportError, match="default ONNX domain"):
        check_structure(foreign, "int8")
    external = copy.deepcopy(good)
    external.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    with pytest.raises(ExportError, match=r"checker|another file"):
        check_structure(external, "int8")


def test_a_channel_split_becomes_two_convolutions(small: arch.AetherNet) -> None:
    names = {n.name for n in to_onnx(arch.fuse(small)).graph.node}
    assert {n for n in names if "fc1" in n and "quantize" not in n} == {
        f"layers.{g}.0.ffn.fc1.{start}" for g in (0, 1) for start in (0, 32)
    }


@pytest.mark.parametrize("backend", BACKENDS)
def test_batches_are_independent(tiny: arch.AetherTiny, images: list[Tensor], backend: str) -> None:
    run = load(serialise(to_onnx(calibrated(tiny, images))), backend)
    batch = torch.cat(images).numpy()
    together = run(batch)
    for i in range(len(images)):
        np.testing.assert_allclose(together[i : i + 1], run(batch[i : i + 1]), atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_thread_gets_its_own_picture(tiny: arch.AetherTiny, backend: str) -> None:
    run = load(serialise(to_onnx(arch.fuse(tiny))), backend, threads=1)
    pictures = [np.full((1, 3, 32, 32), value / 8, np.float32) for value in range(8)]
    expected = [run(x) for x in pictures]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(run, pictures * 60))
    assert all(np.array_equal(got, expected[i % 8]) for i, got in enumerate(results))


def test_the_tensorrt_parser_takes_the_graphs(small: arch.AetherNet, images: list[Tensor]) -> None:
    tensorrt = pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed: parser not checked")
    for proto in (to_onnx(calibrated(small, images)), to_onnx(arch.fuse(small), half=True)):
        logger = tensorrt.Logger(tensorrt.Logger.ERROR)
        network = tensorrt.Builder(logger).create_network(0)
        parser = tensorrt.OnnxParser(network, logger)
        assert parser.parse(serialise(proto)), [str(parser.get_error(i)) for i in range(parser.num_errors)]
