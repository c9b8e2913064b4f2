"""What the Python libraries need to load a graph without its weights, make a trivial edit and save it.

    python bench/peers.py onnx|onnx-ir <in> <out>
"""

import json
import os
import resource
import sys


def peak_bytes():
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(library, source, target):
    if library == "onnx":
        import onnx

        model = onnx.load(source, load_external_data=False)
        model.metadata_props.add(key="bench", value="edited")
        onnx.save(model, target)
    else:
        import onnx_ir

        model = onnx_ir.load(source)
        model.metadata_props["bench"] = "edited"
        onnx_ir.save(model, target)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    with open(os.environ["BENCH_MEASURED"], "w") as file:
        json.dump({"peakBytes": peak_bytes(), "cpuMs": (usage.ru_utime + usage.ru_stime) * 1000}, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
