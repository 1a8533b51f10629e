"""chaiNNer's chains (.chn): their checksum, their check against a backend's nodes, and the request that runs them."""

import hashlib
import json
from pathlib import Path
from typing import Any

Json = dict[str, Any]
MIGRATION = 45  # of the chaiNNer that the examples were made for


def read(path: Path) -> Json:
    """The content of a chain whose checksum is right; chaiNNer calls others tampered with."""
    raw = json.loads(path.read_text(encoding="utf-8"))
    text = json.dumps(_as_javascript(raw["content"]), separators=(",", ":"), ensure_ascii=False)
    assert raw["checksum"] == hashlib.md5(text.encode()).hexdigest(), path
    assert raw["migration"] == MIGRATION and raw["version"], path
    return raw["content"]


def _as_javascript(value: Any) -> Any:
    """The value with its keys in the order in which JavaScript writes them again: numbers first, rising."""
    if isinstance(value, list):
        return [_as_javascript(v) for v in value]
    if not isinstance(value, dict):
        return value
    numbers = sorted((k for k in value if k.isdecimal()), key=int)
    return {k: _as_javascript(value[k]) for k in [*numbers, *(k for k in value if not k.isdecimal())]}


def find(content: Json, schema: str) -> Json:
    """The one node of a schema."""
    (node,) = [n for n in content["nodes"] if n["data"]["schemaId"] == schema]
    return node


def values(content: Json, schema: str) -> Json:
    """The values of its inputs."""
    return find(content, schema)["data"]["inputData"]


def check(content: Json, schemas: dict[str, Json]) -> None:
    """Assert that nodes, values and edges fit the schemas that a backend lists; only paths may be missing."""
    nodes = {n["id"]: schemas[n["data"]["schemaId"]] for n in content["nodes"]}
    targets = {e["targetHandle"] for e in content["edges"]}
    assert (len(nodes), len(targets)) == (len(content["nodes"]), len(content["edges"]))
    for node in content["nodes"]:
        schema, given = nodes[node["id"]], node["data"]["inputData"]
        assert len(node["id"]) == 36 and node["data"]["id"] == node["id"] and node["type"] == schema["kind"]
        inputs = {str(i["id"]): i for i in schema["inputs"]}
        assert given.keys() <= inputs.keys(), schema["schemaId"]
        for key, entry in inputs.items():
            options = [o["value"] for o in entry.get("options", [])]
            assert key not in given or not options or given[key] in options, (schema["schemaId"], key)
            known = key in given or f"{node['id']}-{key}" in targets
            assert known or entry["optional"] or entry["kind"] in ("file", "directory"), (schema["schemaId"], key)
    for edge in content["edges"]:
        for end, side in (("source", "outputs"), ("target", "inputs")):
            handle = edge[f"{end}Handle"]
            assert handle[:37] == f"{edge[end]}-", handle
            entry = next(x for x in nodes[edge[end]][side] if x["id"] == int(handle[37:]))
            assert entry["hasHandle"], (nodes[edge[end]]["schemaId"], entry["label"])


def request(content: Json, schemas: dict[str, Json]) -> list[Json]:
    """The chain as the backend's /run takes it: every input by position, edges by output position."""
    edges = {(e["target"], int(e["targetHandle"][37:])): e for e in content["edges"]}
    nodes = {n["id"]: schemas[n["data"]["schemaId"]] for n in content["nodes"]}
    data = []
    for node in content["nodes"]:
        schema, inputs = nodes[node["id"]], []
        for entry in schema["inputs"]:
            if edge := edges.get((node["id"], entry["id"])):
                outputs = [o["id"] for o in nodes[edge["source"]]["outputs"]]
                index = outputs.index(int(edge["sourceHandle"][37:]))
                inputs.append({"type": "edge", "id": edge["source"], "index": index})
            else:
                inputs.append({"type": "value", "value": node["data"]["inputData"].get(str(entry["id"]))})
        data.append({"id": node["id"], "schemaId": schema["schemaId"], "inputs": inputs, "nodeType": schema["kind"]})
    return data
