"""The ONNX graphs: what they hold, that runtimes agree with torch, and that wrong ones are refused."""

import copy
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, numpy_helper
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
from presets import engine, int8
from presets.tensorrt import half_around_int8
from vsaether import native_graph
from vsaether.backends import lint

from .. import nets
from ..conftest import rewrite
from .conftest import calibrated

Exported = Callable[[str, Precision], tuple[nn.Module, onnx.ModelProto]]
FILES = {"tiny": ("fp32", "int8"), "small": ("fp16", "int8", "int8_fp16"), "public": ("fp32", "int8")}


@pytest.fixture(scope="module")
def exported(request: pytest.FixtureRequest, images: list[Tensor]) -> Exported:
    """exported(net, precision): the model that was exported, and its graph; each is made once."""

    @cache
    def get(net: str, precision: Precision) -> tuple[nn.Module, onnx.ModelProto]:
        if precision == "int8_fp16":
            model, proto = get(net, "int8")
            return model, onnx.load_model_from_string(half_around_int8(serialise(proto)))
        network = request.getfixturevalue(net)
        model = calibrated(network, images) if precision == "int8" else arch.fuse(network)
        return model, to_onnx(model, half=precision == "fp16")

    return get


def tensors(proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}


def change(proto: onnx.ModelProto, name: str, factor: float) -> onnx.ModelProto:
    """A copy with one tensor multiplied."""
    changed = copy.deepcopy(proto)
    rewrite(changed.graph, name, lambda values: values * factor)
    return changed


@pytest.mark.parametrize(("net", "precision"), [(net, each) for net, kinds in FILES.items() for each in kinds])
def test_files_agree_with_torch_on_every_runtime(
    net: str, precision: Precision, images: list[Tensor], exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, proto = exported(net, precision)
    found = verify(proto, model, precision, images)
    assert set(found) == {"ort", "ov"}
    if "int8" in precision:
        assert all(a.psnr > 45 for a in found.values())
        assert lint.violations(serialise(proto)) == []
        monkeypatch.setattr(runtimes, "openvino_int8", lambda: False)  # where it computes int8 in float32
        assert verify(proto, model, precision, images[:1])["ov"].psnr > 45
    types = {t.data_type for t in proto.graph.initializer}
    assert (TensorProto.FLOAT in types) == ("fp16" not in precision)
    assert (TensorProto.FLOAT16 in types) == ("fp16" in precision)


@pytest.mark.parametrize(("net", "convs"), [("tiny", 4), ("small", 8), ("public", 11)])
def test_int8_graphs_are_symmetric_and_per_channel(net: str, convs: int, exported: Exported) -> None:
    model, proto = exported(net, "int8")
    counts = Counter(n.op_type for n in proto.graph.node)
    split = 0 if net == "tiny" else 2  # gate and main of each block
    assert counts["QuantizeLinear"] == convs
    assert counts["DequantizeLinear"] == 2 * convs + split
    assert counts["Conv"] == convs + split + (net == "small")  # conv_last stays in float
    assert not counts.keys() & {"Identity", "Constant", "Shape", "Gather", "Split", "Max"}
    assert proto.opset_import[0].version == 20
    names = [n.name for n in proto.graph.node]
    assert len(names) == len(set(names)) and {"conv_first", "conv_last"} < set(names)
    values = tensors(proto)
    for node in proto.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in values:
            codes, steps = values[node.input[0]], values[node.input[1]]
            assert codes.dtype == np.int8
            assert steps.shape == (codes.shape[0],)
            assert node.attribute[0].i == 0
            assert (np.abs(codes).reshape(codes.shape[0], -1).max(1) == 127).all()
    for name, conv in quant_convs(model):
        assert values[f"{name}.input_scale"] == pytest.approx(float(conv.input_quantizer._amax) / 127, rel=1e-6)
        if not name.endswith("fc1"):
            steps = conv.weight_quantizer._amax.flatten().numpy() / 127
            np.testing.assert_allclose(values[f"{name}.weight_scale"], steps, rtol=1e-6)
    if net == "small":
        halves = {f"layers.{g}.0.ffn.fc1.{start}" for g in (0, 1) for start in (0, 32)}
        assert {n for n in names if "fc1" in n and "quantize" not in n} == halves
    if net != "public":
        native_graph.recognise(serialise(proto))  # raises where it is none that the kernels compute


def test_other_opsets_compute_the_same_and_wrong_ones_are_refused(images: list[Tensor], exported: Exported) -> None:
    model, proto = exported("tiny", "int8")
    expected = load(serialise(proto), "ort")(images[0].numpy())
    for opset in (18, 21):
        other = to_onnx(model, opset=opset)
        assert other.opset_import[0].version == opset
        np.testing.assert_array_equal(load(serialise(other), "ort")(images[0].numpy()), expected)
    with pytest.raises(ValueError, match="float32"):
        to_onnx(model, half=True)
    with pytest.raises(ExportError, match=r"int8_fp16: .*float16.*QuantizeLinear"):  # of opset 18 takes no float16
        pipeline.make(model, "int8_fp16", [], name="tiny_2x", opset=18)


def test_nothing_behind_a_concatenation_is_int8(later: arch.Upscaler, images: list[Tensor]) -> None:
    """OpenVINO 2026.4.1 computes that wrongly where the input's range is 0.5 or more."""
    model = calibrated(later, images, skip=())
    assert float(dict(quant_convs(model))["quant_fusion_layer.fusion_conv"].input_quantizer._amax) > 0.5
    with pytest.raises(ExportError, match="behind a Concat"):
        check_structure(to_onnx(model), "int8")
    learnt = load_quantized(model.state_dict())
    kept = [*(f"stages.{i}.0.spatial_attn.conv" for i in range(3)), "quant_fusion_layer.fusion_conv"]
    assert pipeline.kept_float(learnt) == pipeline.kept_float(calibrated(later, images)) == kept
    assert all(a.psnr > 55 for a in verify(to_onnx(learnt), learnt, "int8", images).values())


def test_float_weights_change_nothing_but_who_convolves(images: list[Tensor], exported: Exported) -> None:
    data = serialise(exported("small", "int8")[1])
    changed = int8.with_float_weights(data)
    x = images[0][:, :, :32, :24].contiguous().numpy()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    before, after = (onnxruntime.InferenceSession(d, options).run(None, {"input": x})[0] for d in (data, changed))
    np.testing.assert_array_equal(np.asarray(before), np.asarray(after))
    proto = onnx.load_from_string(changed)
    assert not any(t.data_type == TensorProto.INT8 and t.dims for t in proto.graph.initializer)
    assert sum(n.op_type == "QuantizeLinear" for n in proto.graph.node) == 8


def test_the_probe_of_int8_is_1_in_float_and_wrong_where_sums_of_pairs_saturate() -> None:
    x = np.ones(int8.SHAPE, np.float32)
    [out] = ReferenceEvaluator(int8.probe()).run(None, {"input": x})
    assert np.abs(np.asarray(out) - 1).max() < int8.TOLERANCE
    # as AVX2 does it: 8-bit inputs with an offset of 128, pairs of products in 16 bits
    pair, last = min(2 * 255 * 127, 2**15 - 1), 255 * 127
    saturated = (pair + last - 3 * 128 * 127) / (3 * 127 * 127)
    assert abs(saturated - 1) > 100 * int8.TOLERANCE


@pytest.mark.parametrize(
    ("config", "precision"),
    [
        (nets.net(scale=1, in_chans=1), "fp32"),
        (nets.net(scale=3, in_chans=1), "fp32"),
        (nets.net(lk_kernel=11), "int8"),  # the public init, every bias is 0: OpenVINO lost the residual
    ],
    ids=str,
)
def test_other_networks_agree_as_well(config: arch.Config, precision: Precision, images: list[Tensor]) -> None:
    pictures = [image[:, : config.in_chans] for image in images]
    model = calibrated(config.build(), pictures) if precision == "int8" else arch.fuse(config.build())
    assert all(a.psnr > 45 for a in verify(to_onnx(model), model, precision, pictures).values())


@pytest.mark.parametrize(("weight", "learnt"), [(0.0, False), (1e-7, True)])
def test_a_dead_channel_keeps_its_bias(tiny: arch.Upscaler, images: list[Tensor], weight: float, learnt: bool) -> None:
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
    else:
        half = tensors(onnx.load_model_from_string(half_around_int8(serialise(to_onnx(model)))))
        assert min(float(v.min()) for k, v in half.items() if k.endswith("_scale")) == 2**-14
    assert all(a.psnr > 45 for a in verify(to_onnx(model), model, "int8", images).values())


@pytest.mark.parametrize(("kind", "precision"), [("shared", "int8"), ("zero", "int8"), ("zero", "fp16")])
def test_convolutions_of_equal_weights_are_kept_apart(
    kind: str, precision: Precision, tiny: arch.Upscaler, images: list[Tensor]
) -> None:
    if kind == "shared":
        net: Any = copy.deepcopy(tiny)
        net.blocks[1] = net.blocks[0]
    else:
        net = arch.AetherNet(3, 8, (1, 1)).eval().requires_grad_(False)
        for parameter in net.parameters():
            parameter.zero_()
    fused = arch.fuse(net)
    model = calibrated(net, images) if precision == "int8" else fused
    names = {n.name for n in pipeline.make(model, precision, images[:1], name="x").proto.graph.node}
    convs = {n for n, m in fused.named_modules() if isinstance(m, nn.Conv2d)}
    # fc1 becomes two nodes, of its gate and of its main half
    assert convs <= names | {name.rpartition(".")[0] for name in names}


def test_the_same_model_gives_the_same_bytes_and_its_facts(images: list[Tensor], exported: Exported) -> None:
    model, proto = exported("tiny", "int8")
    again = pipeline.make(model, "int8", images[:1], name="tiny_2x").proto
    dims = again.graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in dims] == ["batch", 3, "height", "width"]
    found = engine.read(serialise(again), "tiny_2x")
    assert found == engine.Metadata("tiny_2x", "aether_tiny", 2, "int8", 4, found.bytes_per_pixel, "MIT")
    del again.metadata_props[:]
    assert serialise(again) == serialise(proto)


def test_verification_finds_a_changed_weight(images: list[Tensor], exported: Exported) -> None:
    fused, proto = exported("tiny", "fp32")
    with pytest.raises(ExportError, match="fp32 differs by"):
        verify(change(proto, "blocks.0.weight", 1.01), fused, "fp32", images)
    model, proto = exported("tiny", "int8")
    for factor, message in ((1.2, "from the float network"), (9, "at least 30")):
        with pytest.raises(ExportError, match=message):
            verify(change(proto, "conv_last.weight_scale", factor), model, "int8", images)


SPOILT: dict[str, Callable[[onnx.ModelProto], object]] = {
    "zero point": lambda proto: rewrite(proto.graph, "zero_point", lambda value: value + 3),
    "default ONNX domain": lambda proto: proto.opset_import.add(domain="com.microsoft", version=1),
    "checker|another file": lambda proto: setattr(proto.graph.initializer[0], "data_location", TensorProto.EXTERNAL),
}


def test_structure_rules_are_checked(exported: Exported) -> None:
    good = exported("tiny", "int8")[1]
    check_structure(good, "int8")
    with pytest.raises(ExportError, match="fp32 model holds 4 QuantizeLinear"):
        check_structure(good, "fp32")
    for message, spoil in SPOILT.items():
        spoilt = copy.deepcopy(good)
        spoil(spoilt)
        with pytest.raises(ExportError, match=message):
            check_structure(spoilt, "int8")


@pytest.mark.parametrize("backend", BACKENDS)
def test_pictures_of_batches_and_threads_are_independent(
    images: list[Tensor], backend: str, exported: Exported
) -> None:
    run = load(serialise(exported("tiny", "int8")[1]), backend)
    batch = torch.cat(images).numpy()
    together = run(batch)
    for i in range(len(images)):
        np.testing.assert_allclose(together[i : i + 1], run(batch[i : i + 1]), atol=1e-6)
    run = load(serialise(exported("tiny", "fp32")[1]), backend, threads=1)
    pictures = [np.full((1, 3, 32, 32), value / 8, np.float32) for value in range(8)]
    expected = [run(x) for x in pictures]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(run, pictures * 30))
    assert all(np.array_equal(got, expected[i % 8]) for i, got in enumerate(results))


@pytest.mark.parametrize("precision", ["fp16", "int8", "int8_fp16"])
def test_the_tensorrt_parser_takes_the_graphs(precision: Precision, exported: Exported) -> None:
    tensorrt = pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed: parser not checked")
    logger = tensorrt.Logger(tensorrt.Logger.ERROR)
    network = tensorrt.Builder(logger).create_network(1 << int(tensorrt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = tensorrt.OnnxParser(network, logger)
    data = serialise(exported("small", precision)[1])
    assert parser.parse(data), [str(parser.get_error(i)) for i in range(parser.num_errors)]
