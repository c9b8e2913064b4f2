/**
 * pdrop-compile without Node: the compiler over any byte source, for web pages and workers.
 *
 * ```ts
 * const compiled = await compileModel(source, { stages: 4, lambda: '0.5' });
 * await writeCompiled(compiled, sink);
 * ```
 * External data is not touched: the result references the same files.
 */
export { analyseDecoder } from './analyse/decoder.js';
export type { DecoderFacts } from './analyse/facts.js';
export { type Compiled, type CompileCoreOptions, compileModel, METADATA, planInMetadata, writeCompiled } from './compile.js';
export { InternalError, PdropError, Refusal, UsageError } from './diagnostics.js';
export { type ByteSink, type ByteSource, MemorySink, MemorySource } from './onnx/bytes.js';
export { readModel } from './onnx/read.js';
export type { Plan } from './plan/plan.js';
export type { PlanOptions } from './plan/options.js';
export { VERSION } from './version.js';
