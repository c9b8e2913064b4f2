"""Unmodified onnxruntime-genai on folders of three graphs: python genai_pictures.py REQUEST.json prints one JSON line a case.

A case: folder, pictures (files), prompt, count (tokens of the answer) and dump, a folder for what genai's processor makes of them:
input_ids, pixel_values and image_sizes as raw bytes, with their shapes in shapes.json.
"""
import json
import sys
from pathlib import Path

import onnxruntime_genai as og


def run(case):
    model = og.Model(case["folder"])
    inputs = model.create_multimodal_processor()(case["prompt"], images=og.Images.open(*case["pictures"]))
    arrays = {name: inputs[name].as_numpy() for name in ("input_ids", "pixel_values", "image_sizes")}
    dump = Path(case["dump"])
    dump.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        array.tofile(dump / f"{name}.bin")
    (dump / "shapes.json").write_text(json.dumps({name: [str(array.dtype), list(array.shape)] for name, array in arrays.items()}))
    params = og.GeneratorParams(model)
    params.set_search_options(max_length=4090, do_sample=False)
    generator = og.Generator(model, params)
    generator.set_inputs(inputs)
    answer = []
    while not generator.is_done() and len(answer) < case["count"]:
        generator.generate_next_token()
        answer.append(int(generator.get_next_tokens()[0]))
    return answer


for request in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
    try:
        print(json.dumps({"answer": run(request)}), flush=True)
    except Exception as error:  # noqa: BLE001 (any failure of the runtime is a result)
        print(json.dumps({"error": str(error).strip().splitlines()[-1][:200]}), flush=True)
