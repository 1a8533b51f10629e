"""What an engine's ONNX file must not hold, wherever it is opened: data in other files, operators not of ONNX."""

import onnx
from onnx import ModelProto, SparseTensorProto, TensorProto

DEFAULT_DOMAINS = ("", "ai.onnx")


def fault(model: ModelProto) -> str | None:
    """What is wrong with a model, as the end of a sentence about it; None where nothing is."""
    foreign = {entry.domain for entry in model.opset_import} - set(DEFAULT_DOMAINS)
    if foreign or model.functions:
        return (
            f"uses operators outside the default ONNX domain: {', '.join(sorted(foreign)) or 'model-local functions'}"
        )
    graphs = [model.graph]
    while graphs:
        graph = graphs.pop()
        tensors: list[TensorProto] = [*graph.initializer]
        sparse: list[SparseTensorProto] = [*graph.sparse_initializer]
        for node in graph.node:
            if node.domain not in DEFAULT_DOMAINS:
                return f"uses operators outside the default ONNX domain: {node.domain}"
            for attribute in node.attribute:
                tensors += [attribute.t, *attribute.tensors]
                sparse += [attribute.sparse_tensor, *attribute.sparse_tensors]
                graphs += [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]
        tensors += [part for tensor in sparse for part in (tensor.values, tensor.indices)]
        if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in tensors):
            return "keeps weights in another file; an engine is one file"
    return None
