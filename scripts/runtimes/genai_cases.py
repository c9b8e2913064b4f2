"""Unmodified onnxruntime-genai on builder graphs: python genai_cases.py REQUEST.json prints one JSON line a case.

A request is a list of cases: folder (with genai_config.json), prompts (a batch of equally long lists of ids), rewind
(true: rewind to 0 and ask again), second (prompts of a second turn), count (tokens of an answer).
"""
import json
import sys

import numpy as np
import onnxruntime_genai as og


def answer(generator, count, rows):
    tokens = [[] for _ in range(rows)]
    for _ in range(count):
        if generator.is_done():
            break
        generator.generate_next_token()
        for row, token in enumerate(generator.get_next_tokens()):
            tokens[row].append(int(token))
    return tokens


def run(case):
    model = og.Model(case["folder"])
    params = og.GeneratorParams(model)
    rows = len(case["prompts"])
    params.set_search_options(max_length=128, batch_size=rows, do_sample=False)
    generator = og.Generator(model, params)
    generator.append_tokens(np.array(case["prompts"], np.int32))
    answers = [answer(generator, case["count"], rows)]
    if case.get("rewind"):
        generator.rewind_to(0)
        generator.append_tokens(np.array(case["prompts"], np.int32))
        answers.append(answer(generator, case["count"], rows))
    if case.get("second"):
        generator.append_tokens(np.array(case["second"], np.int32))
        answers.append(answer(generator, case["count"], rows))
    return answers


def main():
    with open(sys.argv[1], encoding="utf-8") as f:
        requests = json.load(f)
    for case in requests:
        try:
            print(json.dumps({"answers": run(case)}), flush=True)
        except Exception as error:  # noqa: BLE001 (any failure of the runtime is a result)
            print(json.dumps({"error": str(error).strip().splitlines()[-1][:200]}), flush=True)


main()
