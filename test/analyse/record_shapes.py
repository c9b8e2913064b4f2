"""Records what onnxruntime computes for every value of a model: the reference of test/analyse/shapes-ort.test.ts.

    python record_shapes.py model.onnx out.json [--batch 2] [--sequence 9] [--past 3] [--image-id 5 --image-tokens 4] [--small --skip REGEX]

Every node output becomes a graph output, the session runs without graph optimizations, and for each value the
dtype, the shape and (up to --elements elements) the contents are written. Feeds are made from the inputs' names.
"""
import argparse
import json
import re

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper

ap = argparse.ArgumentParser()
ap.add_argument("model")
ap.add_argument("out")
ap.add_argument("--batch", type=int, default=2)
ap.add_argument("--sequence", type=int, default=9)
ap.add_argument("--past", type=int, default=3)
ap.add_argument("--head-size", type=int, default=16)
ap.add_argument("--image-id", type=int, default=5)
ap.add_argument("--image-tokens", type=int, default=0, help="image tokens per row, after the first token")
ap.add_argument("--elements", type=int, default=512)
ap.add_argument("--small", action="store_true", help="contents of integers only, up to 16 elements; for files kept in the repository")
ap.add_argument("--skip", default="^$", help="values whose names match this are not recorded (later layers repeat the first)")
args = ap.parse_args()

model = onnx.load(args.model)
rng = np.random.default_rng(0)
B, S, P = args.batch, args.sequence, args.past
NUMPY = {1: np.float32, 10: np.float16, 7: np.int64, 6: np.int32, 9: np.bool_, 11: np.float64}


def feed(value):
    t = value.type.tensor_type
    dims = [d.dim_value if d.HasField("dim_value") else (int(d.dim_param) if d.dim_param.isdigit() else None) for d in t.shape.dim]
    name, dtype = value.name, NUMPY[t.elem_type]
    if name == "attention_mask":
        mask = np.ones((B, P + S), dtype)
        return mask
    if name == "input_ids":
        s = dims[1] or S
        ids = rng.integers(6, 60, (B, s)).astype(dtype)
        ids[:, 1 : 1 + args.image_tokens] = args.image_id
        return ids
    if name == "position_ids":
        s = dims[-1] or S
        pos = np.broadcast_to(P + np.arange(s), (B, s))
        return np.ascontiguousarray(np.broadcast_to(pos, (3, B, s)) if len(dims) == 3 else pos).astype(dtype)
    if name == "num_logits_to_keep":
        return np.array(1, dtype)
    if "past" in name and len(dims) == 5:  # com.microsoft Attention: one tensor for key and value
        return rng.standard_normal([2, B, dims[2], P, dims[4] or args.head_size]).astype(dtype)
    if "past" in name:
        return rng.standard_normal([B, dims[1], dims[2] if dims[2] is not None else P, dims[3] or args.head_size]).astype(dtype)
    if "image_token_mask" in name:
        mask = np.zeros((B, S), bool)
        mask[:, 1 : 1 + args.image_tokens] = True
        return mask
    if len(dims) == 3:
        return rng.standard_normal([dims[0] or B, dims[1] or S, dims[2]]).astype(dtype)
    return rng.standard_normal([d or B for d in dims]).astype(dtype)


initializers = {i.name for i in model.graph.initializer}
feeds = {i.name: feed(i) for i in model.graph.input if i.name not in initializers}
constants = {name for node in model.graph.node if node.op_type == "Constant" for name in node.output}
have = {o.name for o in model.graph.output}
for node in model.graph.node:
    for name in node.output:
        if name and name not in have:
            model.graph.output.append(helper.make_empty_tensor_value_info(name))
            have.add(name)
options = ort.SessionOptions()
options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
options.log_severity_level = 3
session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
names = [o.name for o in session.get_outputs()]
results = session.run(names, feeds)


def describe(array, contents):
    entry = {"dtype": int(helper.np_dtype_to_tensor_dtype(array.dtype)), "shape": list(array.shape)}
    integral = array.dtype.kind in "iub"
    limit = (16 if integral else 0) if args.small and not contents else args.elements
    if (array.size <= limit or contents) and (integral or not contents):
        entry["data"] = [float(x) if array.dtype.kind == "f" else int(x) for x in array.ravel().tolist()]
    return entry


record = {
    "inputs": {n: describe(a, True) for n, a in feeds.items()},
    # Constants are the reader's business; in kept files they would be half the lines.
    "values": {n: describe(a, False) for n, a in zip(names, results) if not (args.small and n in constants) and not re.search(args.skip, n)},
}
with open(args.out, "w") as f:
    # One value a line keeps diffs readable.
    f.write('{"inputs": {\n' + ",\n".join(f"{json.dumps(n)}: {json.dumps(v)}" for n, v in record["inputs"].items()) + '\n}, "values": {\n')
    f.write(",\n".join(f"{json.dumps(n)}: {json.dumps(v)}" for n, v in record["values"].items()) + "\n}}\n")
print(f"{args.model}: {len(names)} values")
