"""Runs cases (reference.mjs) in OpenVINO: python openvino_cases.py CASE_FOLDER... prints one JSON line a case."""
import json
import os
import sys

import numpy as np
import openvino as ov

DTYPES = {"float32": np.float32, "float16": np.float16, "int64": np.int64, "int32": np.int32, "bool": np.bool_}


def run(core, path, case, blob):
    # Half floats too: left to itself it computes in bfloat16 where the processor has it.
    model = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"})
    inputs = {name for port in model.inputs for name in port.get_names()}
    request = model.create_infer_request()
    tokens, kept, logits, previous = [], [], [], None
    for index, step in enumerate(case["steps"]):
        feeds = {}
        for f in step["feeds"]:
            if f["name"] in inputs:
                feeds[f["name"]] = np.frombuffer(blob, DTYPES[f["dtype"]], offset=f["offset"], count=f["bytes"] // np.dtype(DTYPES[f["dtype"]]).itemsize).reshape(f["shape"])
        batch = next(f["shape"][0] for f in step["feeds"] if f["name"] in ("inputs_embeds", "input_ids"))
        for cache in case["caches"]:
            if cache["past"] in feeds:
                continue
            if step["carry"] and previous is not None:
                feeds[cache["past"]] = previous[cache["present"]]
            else:
                feeds[cache["past"]] = np.zeros([batch, *case["cacheShape"]], np.float16 if case["half"] else np.float32)
        request.infer(feeds)
        previous = {name: np.array(request.get_tensor(port).data) for port in model.outputs for name in port.get_names()}
        if index == 0:
            kept = [previous[n].ravel().tolist() for n in sorted(previous) if n.startswith("pdrop_kept.")]
        tokens.append(int(previous["logits"][0, -1].argmax()))
        # JSON has no NaN.
        logits += [x if np.isfinite(x) else None for x in previous["logits"][0, -1].astype(np.float64).tolist()]
    return {"tokens": tokens, "kept": kept, "logits": logits}


def main():
    core = ov.Core()
    for folder in sys.argv[1:]:
        with open(os.path.join(folder, "case.json"), encoding="utf-8") as f:
            case = json.load(f)
        with open(os.path.join(folder, "feeds.bin"), "rb") as f:
            blob = f.read()
        out = {"fixture": case["fixture"]}
        for which in ("original", "compiled"):
            try:
                out[which] = run(core, case[which], case, blob)
            except Exception as error:  # noqa: BLE001 (any failure of the runtime is a result)
                out[which] = {"error": str(error).strip().splitlines()[-1][:200]}
        print(json.dumps(out), flush=True)


main()
