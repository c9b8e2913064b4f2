"""Graphs with the shapes of Llama-7B and no weights, for the benchmarks: bench/data/<name>.onnx.gz.

    python bench/make-7b.py                    # all; takes minutes, and little memory
    python bench/make-7b.py llama-7b-ts17

llama-0.9b-ts17 is the same graph, narrower: its weights fit into one file of less than 2 GiB.

The real exporters write them. Weights are one number expanded to the full shape, so that nothing is stored; in the saved
graph each large initializer is external data, at the offset where it would be in `weights.bin` (which the benchmark
makes as a sparse file). What onnx would fold of a Linear, the transposed weight, is what the modules here hold.
"""

import gzip
import io
import itertools
import logging
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from onnx import TensorProto, external_data_helper, helper
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

DATA = Path(__file__).resolve().parent / "data"


@dataclass(frozen=True)
class Sizes:
    layers: int = 32
    hidden: int = 4096
    heads: int = 32
    mlp: int = 11008
    vocab: int = 32000


SEVEN = Sizes()
NARROW = Sizes(hidden=1536, heads=24, mlp=4096)
KEPT_BYTES = 1024  # smaller initializers stay in the graph, as torch and onnx leave them
ALIGNMENT = 4096


class HollowMatMul(torch.autograd.Function):
    """MatMul in the graph; while tracing only the shape of its result, for 7 billion zeros take minutes to multiply."""

    @staticmethod
    def forward(context, x, weight):
        return x.new_zeros(*x.shape[:-1], weight.shape[1])

    @staticmethod
    def symbolic(graph, x, weight):
        return graph.op("MatMul", x, weight)


class Linear(torch.nn.Module):
    """x W, with W stored as constant folding leaves it: [in, out]."""

    def __init__(self, inputs, outputs, dtype):
        super().__init__()
        self.weight = hollow((inputs, outputs), dtype)

    def forward(self, x):
        return HollowMatMul.apply(x, self.weight)


numbers = itertools.count(1)


def hollow(shape, dtype):
    """A parameter of one number, each another: the exporter merges parameters that are equal."""
    number = torch.full((1,), next(numbers), dtype=dtype)
    return torch.nn.Parameter(number.expand(shape), requires_grad=False)


def llama_config(sizes, attention):
    return LlamaConfig(
        num_hidden_layers=sizes.layers, hidden_size=sizes.hidden, num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.heads, intermediate_size=sizes.mlp, vocab_size=sizes.vocab, max_position_embeddings=4096, tie_word_embeddings=False,
        attn_implementation=attention,
    )  # fmt: skip


def hollow_llama(sizes, attention, dtype=torch.float16):
    config = llama_config(sizes, attention)
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    for name, module in list(model.named_modules()):
        if isinstance(module, torch.nn.Linear):
            owner = model.get_submodule(name.rpartition(".")[0])
            setattr(owner, name.rpartition(".")[2], Linear(module.in_features, module.out_features, dtype))
        elif type(module).__name__.endswith("RMSNorm"):
            module.weight = hollow((sizes.hidden,), dtype)
    model.model.embed_tokens.weight = hollow((sizes.vocab, sizes.hidden), dtype)
    model.model.rotary_emb = type(model.model.rotary_emb)(config)
    return model.eval()


class Decoder(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, inputs_embeds, attention_mask, position_ids, *pasts):
        cache = DynamicCache(list(zip(pasts[0::2], pasts[1::2])))
        logits = self.model(
            inputs_embeds=inputs_embeds, attention_mask=attention_mask, position_ids=position_ids, past_key_values=cache
        ).logits
        return (logits, *(state for layer in cache.layers for state in (layer.keys, layer.values)))


def torchscript(sizes):
    """torch.onnx.export(dynamo=False), opset 17; parameters become initializers afterwards."""
    model = hollow_llama(sizes, "eager")
    rows, size, past = 2, 3, 2
    half = dict(dtype=torch.float16)
    tensors = [
        torch.zeros(rows, size, sizes.hidden, **half),
        torch.ones(rows, past + size, dtype=torch.int64),
        torch.arange(past, past + size).expand(rows, size).clone(),
        *(torch.zeros(rows, sizes.heads, past, sizes.hidden // sizes.heads, **half) for _ in range(2 * sizes.layers)),
    ]
    entries = [f"{layer}.{kind}" for layer in range(sizes.layers) for kind in ("key", "value")]
    names = ["inputs_embeds", "attention_mask", "position_ids", *(f"past_key_values.{e}" for e in entries)]
    outputs = ["logits", *(f"present.{e}" for e in entries)]
    total = "past_sequence_length + sequence_length"
    axes = {
        "inputs_embeds": {0: "batch_size", 1: "sequence_length"},
        "attention_mask": {0: "batch_size", 1: total},
        "position_ids": {0: "batch_size", 1: "sequence_length"},
        "logits": {0: "batch_size", 1: "sequence_length"},
        **{f"past_key_values.{e}": {0: "batch_size", 2: "past_sequence_length"} for e in entries},
        **{f"present.{e}": {0: "batch_size", 2: total} for e in entries},
    }
    file = io.BytesIO()
    with torch.no_grad():
        torch.onnx.export(
            Decoder(model).eval(), tuple(tensors), file, dynamo=False, opset_version=17, input_names=names,
            output_names=outputs, dynamic_axes=axes, export_params=False, do_constant_folding=True,
        )  # fmt: skip
    exported = onnx.load_from_string(file.getvalue())
    graph = exported.graph
    kept = [value for value in graph.input if value.name in set(names)]
    parameters = [value for value in graph.input if value.name not in set(names)]
    del graph.input[:]
    graph.input.extend(kept)
    for value in parameters:
        type_ = value.type.tensor_type
        tensor = TensorProto(name=value.name, data_type=type_.elem_type, dims=[d.dim_value for d in type_.shape.dim])
        graph.initializer.append(tensor)
    return exported


def genai(sizes):
    """onnxruntime-genai's builder: GroupQueryAttention, packed QKV, skip-norms, inputs_embeds."""
    import onnx_ir
    import onnxruntime_genai.models  # noqa: F401  (puts the builder's folder on the path)
    from builder import create_model, parse_extra_options
    from tokenizers import Tokenizer, models
    from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedTokenizerFast

    config = llama_config(sizes, "sdpa")
    config.architectures = ["LlamaForCausalLM"]
    with torch.device("meta"):
        model = LlamaForCausalLM(config).to(torch.float16).requires_grad_(False)
    saved = []
    load, save_ir = AutoModelForCausalLM.from_pretrained, onnx_ir.save
    AutoModelForCausalLM.from_pretrained = lambda *_, **__: model
    onnx_ir.save = lambda built, *_, **__: saved.append(built)
    try:
        with tempfile.TemporaryDirectory() as temporary:
            source, target, cache = (str(Path(temporary, part)) for part in ("checkpoint", "built", "cache"))
            config.save_pretrained(source)
            GenerationConfig(bos_token_id=1, eos_token_id=2, pad_token_id=0).save_pretrained(source)
            words = Tokenizer(models.WordLevel({"<unk>": 0, "<s>": 1, "</s>": 2}, unk_token="<unk>"))
            PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>").save_pretrained(source)
            common = (None, source, target, "fp16", "cuda", cache)
            create_model(*common, **parse_extra_options(*common, ["exclude_embeds=true", "hf_token=false"]))
    finally:
        AutoModelForCausalLM.from_pretrained, onnx_ir.save = load, save_ir
    built = saved[0]
    for value in built.graph.initializers.values():
        tensor = value.const_value
        if tensor.size * tensor.dtype.itemsize > KEPT_BYTES:
            value.const_value = onnx_ir.ExternalTensor(
                "weights.bin", 0, int(tensor.size * tensor.dtype.itemsize), tensor.dtype, shape=tensor.shape, name=value.name
            )
    return onnx_ir.serde.serialize_model(built)


def place_weights(model):
    """Makes every large initializer external data of one file, in their order."""
    offset = 0
    for tensor in model.graph.initializer:
        width = 2 if tensor.data_type == TensorProto.FLOAT16 else helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        length = width
        for size in tensor.dims:
            length *= size
        if length <= KEPT_BYTES:
            continue
        offset = (offset + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
        tensor.ClearField("raw_data")
        del tensor.external_data[:]
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", "weights.bin"), ("offset", offset), ("length", length)):
            tensor.external_data.add(key=key, value=str(value))
        offset += length
    return offset


def save(name, model):
    size = place_weights(model)
    path = DATA / f"{name}.onnx.gz"
    path.write_bytes(gzip.compress(model.SerializeToString(deterministic=True), 9, mtime=0))
    print(f"{path.name}: {len(model.graph.node)} nodes, {size} bytes of weights, {path.stat().st_size} bytes")


TABLE = {
    "llama-7b-ts17": (torchscript, SEVEN),
    "llama-7b-genai": (genai, SEVEN),
    "llama-0.9b-ts17": (torchscript, NARROW),
}


def main(wanted):
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    DATA.mkdir(exist_ok=True)
    for name, (make, sizes) in TABLE.items():
        if not wanted or name in wanted:
            save(name, make(sizes))


if __name__ == "__main__":
    main(sys.argv[1:])
