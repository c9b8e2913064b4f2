"""Tools that people run on ONNX files, on originals and on what was compiled of them: python tools.py REQUEST.json prints one JSON line a case.

A request is a list of cases: fixture, models (paths by name), heads, hidden. The transformers optimizer also counts what it
fused.
"""
import json
import os
import sys
import tempfile
import warnings

import onnx
import onnxruntime as ort

warnings.filterwarnings("ignore")


def checker(path, _case, _work):
    onnx.checker.check_model(path, full_check=True)


def strict_inference(path, _case, _work):
    onnx.shape_inference.infer_shapes(onnx.load(path), check_type=True, strict_mode=True, data_prop=True)


def symbolic_inference(path, _case, _work):
    from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference

    if SymbolicShapeInference.infer_shapes(onnx.load(path), auto_merge=True, guess_output_rank=False, verbose=0) is None:
        raise RuntimeError("incomplete")


def pre_process(path, _case, work):
    from onnxruntime.quantization.shape_inference import quant_pre_process

    quant_pre_process(path, os.path.join(work, "pre.onnx"), auto_merge=True)
    load(os.path.join(work, "pre.onnx"))


def optimizer(path, case, work):
    from onnxruntime.transformers.optimizer import optimize_model

    made = optimize_model(path, model_type="gpt2", num_heads=case["heads"], hidden_size=case["hidden"], opt_level=0, use_gpu=False)
    made.save_model_to_file(os.path.join(work, "optimized.onnx"))
    load(os.path.join(work, "optimized.onnx"))
    return {name: count for name, count in made.get_fused_operator_statistics().items() if count}


def slim(path, _case, work):
    import onnxslim

    onnx.save(onnxslim.slim(path), os.path.join(work, "slim.onnx"))
    load(os.path.join(work, "slim.onnx"))


def offline(path, _case, work):
    for level in (ort.GraphOptimizationLevel.ORT_ENABLE_BASIC, ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED):
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = level
        options.optimized_model_filepath = os.path.join(work, "offline.onnx")
        ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        load(os.path.join(work, "offline.onnx"))


def load(path):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def silent_load(path, _case, _work):
    """ONNX Runtime warns on the error stream of the process."""
    with tempfile.TemporaryFile() as caught:
        sys.stderr.flush()
        saved = os.dup(2)
        os.dup2(caught.fileno(), 2)
        try:
            options = ort.SessionOptions()
            options.log_severity_level = 2
            ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        finally:
            os.dup2(saved, 2)
            os.close(saved)
        caught.seek(0)
        said = caught.read().decode(errors="replace").strip()
    if said:
        raise RuntimeError(said.splitlines()[-1])


TOOLS = {
    "onnx.checker, full_check": checker,
    "onnx shape inference, strict": strict_inference,
    "ONNX Runtime's symbolic shape inference": symbolic_inference,
    "quant_pre_process": pre_process,
    "ONNX Runtime's transformers optimizer": optimizer,
    "onnxslim": slim,
    "ONNX Runtime's offline optimisation": offline,
    "loads without a warning": silent_load,
}


def main():
    with open(sys.argv[1], encoding="utf-8") as f:
        cases = json.load(f)
    real = os.dup(1)
    os.dup2(2, 1)  # some tools print
    out = os.fdopen(real, "w")
    for case in cases:
        results = {}
        for name, tool in TOOLS.items():
            results[name] = {}
            for side, path in case["models"].items():
                with tempfile.TemporaryDirectory() as work:
                    try:
                        results[name][side] = {"ok": True, "fused": tool(path, case, work)}
                    except (Exception, SystemExit) as error:  # noqa: BLE001 (whatever a tool does is a result)
                        text = str(error).strip() or type(error).__name__
                        results[name][side] = {"ok": False, "error": text.splitlines()[-1][:300]}
        print(json.dumps({"fixture": case["fixture"], "tools": results}), file=out, flush=True)


main()
