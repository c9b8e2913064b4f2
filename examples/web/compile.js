/** The compiler in the page: files as byte sources, the report as the command line has it. */
import { compileModel, MemorySink, PdropError, writeCompiled } from 'pdrop-compile/core';
import { compileReport, originalCost } from 'pdrop-compile/report';
import { countAtPrompt } from '../../dist/src/cost/stages.js';

/** Bytes of a File, read as they are asked for. */
class BlobSource {
  constructor(file) {
    this.file = file;
    this.size = file.size;
  }

  async read(offset, length) {
    return new Uint8Array(await this.file.slice(offset, offset + length).arrayBuffer());
  }
}

/** The files of a folder that matter, by what they are. */
export function sort(files) {
  const named = (pattern) => files.find((f) => pattern.test(f.name));
  const graphs = files.filter((f) => f.name.endsWith('.onnx'));
  return {
    decoder: named(/^decoder_model_merged(_\w+)?\.onnx$/) ?? named(/^(language_model|decoder|model)(_\w+)?\.onnx$/) ?? (graphs.length === 1 ? graphs[0] : undefined),
    vision: named(/^vision_encoder(_\w+)?\.onnx$/),
    embed: named(/^embed_tokens(_\w+)?\.onnx$/),
    tokenizer: named(/^tokenizer\.json$/),
    tokenizerConfig: named(/^tokenizer_config\.json$/),
    preprocessor: named(/^preprocessor_config\.json$/),
    config: named(/^config\.json$/),
    generation: named(/^generation_config\.json$/),
  };
}

/** Compiles a decoder; `report` is what the command line would print, `bytes` the new file. */
export async function compileFile(file, options, prompt) {
  const source = new BlobSource(file);
  let original;
  const started = performance.now();
  const compiled = await compileModel(source, {
    ...options,
    analysed: (facts, plan) => {
      original = originalCost(countAtPrompt(facts.graph, facts, prompt, plan.imageMask).table);
    },
  });
  const sink = new MemorySink();
  await writeCompiled(compiled, sink);
  const report = compileReport(compiled, { input: file.name, output: file.name, prompt, original, externalData: { mode: 'none', files: [] }, milliseconds: performance.now() - started });
  return { report, bytes: sink.bytes() };
}

/** What went wrong, with the way forward. */
export function explain(error) {
  return error instanceof PdropError ? `${error.code}: ${error.message} — ${error.hint}` : String(error?.message ?? error);
}
