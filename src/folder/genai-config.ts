/** genai_config.json: what onnxruntime-genai has to know of a compiled decoder, and what it may not ask of one. */
import { join } from 'node:path';
import { Refusal } from '../diagnostics.js';
import type { CompileReport } from '../report/compile-report.js';
import { readJson } from './layout.js';

interface GenaiConfig {
  readonly model: { readonly decoder: { inputs?: Record<string, unknown> } };
  search?: Record<string, unknown>;
}

const NAME = 'genai_config.json';
const read = (root: string): GenaiConfig => readJson(join(root, NAME), NAME) as GenaiConfig;

/** @throws {Refusal} PD617: with beams genai keeps caches apart, and what the stages have dropped would be another beam's. */
export function refuseBeams(root: string): void {
  const beams = read(root).search?.num_beams;
  if (typeof beams !== 'number' || beams <= 1) return;
  throw new Refusal({
    code: 'PD617',
    message: `${NAME} asks for ${beams} beams, and a graph compiled for onnxruntime-genai is for one: with beams it does not share the caches' buffers`,
    culprit: 'search.num_beams',
    hint: 'set search.num_beams to 1 (greedy or sampled answers), or compile with --runtime generic for a loop of your own',
  });
}

/** What genai has to know: that ids go to the decoder as well, and that caches are shared buffers. Undefined where it knows. */
export function adjustGenaiConfig(root: string, report: CompileReport): { text: string; note: string } | undefined {
  const config = read(root);
  const notes: string[] = [];
  const inputs = config.model.decoder.inputs ?? {};
  if (report.addedInputs.includes('input_ids') && inputs.input_ids !== 'input_ids') {
    config.model.decoder.inputs = { ...inputs, input_ids: 'input_ids' };
    notes.push('model.decoder.inputs.input_ids');
  }
  if (config.search?.past_present_share_buffer !== true) {
    config.search = { ...config.search, past_present_share_buffer: true };
    notes.push('search.past_present_share_buffer: true');
  }
  return notes.length > 0 ? { text: `${JSON.stringify(config, null, 4)}\n`, note: notes.join(', ') } : undefined;
}
