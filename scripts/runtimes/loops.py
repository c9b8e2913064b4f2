"""The Python loop of docs/running.md on cases (loops.mjs): python loops.py REQUEST.json prints one JSON line a case."""
import json
import sys

import numpy as np

DTYPES = {"float32": np.float32, "float16": np.float16, "int64": np.int64}


def chunk_of(blob, chunk):
    dtype = DTYPES[chunk["dtype"]]
    data = np.frombuffer(blob, dtype, offset=chunk["offset"], count=chunk["bytes"] // np.dtype(dtype).itemsize)
    return {chunk["name"]: data.reshape(chunk["shape"])}


def main():
    with open(sys.argv[1], encoding="utf-8") as f:
        request = json.load(f)
    for case in request["cases"]:
        try:
            with open(case["golden"], "rb") as f:
                blob = f.read()
            chunks = [chunk_of(blob, c) for c in case["chunks"]]
            scope = {}
            exec(request["code"].replace('"model.pdrop.onnx"', json.dumps(case["model"])), scope)  # noqa: S102 (the page is what is tested)
            later = iter(chunks[1:])
            print(json.dumps(scope["generate"](chunks[0], np.array([case["flags"]], bool), lambda _: next(later), case["count"], -1)), flush=True)
        except Exception as error:  # noqa: BLE001 (any failure is a result)
            print(json.dumps(str(error).strip().splitlines()[-1][:200]), flush=True)


main()
