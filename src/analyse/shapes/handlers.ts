/** Which ops are known, by domain. */
import type { Node } from '../../ir/graph.js';
import type { HandlerTable } from './call.js';
import { contrib, preview, standardAttentionOps } from './contrib.js';
import { convolution } from './convolution.js';
import { elementwise } from './elementwise.js';
import { generate } from './generate.js';
import { indexing } from './indexing.js';
import { linear } from './linear.js';
import { movement } from './movement.js';
import { normalization } from './normalization.js';
import { recurrence } from './recurrent.js';
import { reduction } from './reduction.js';
import type { Handler } from './memo.js';

const HANDLERS: ReadonlyMap<string, ReadonlyMap<string, Handler>> = new Map([
  ['', table(elementwise, movement, indexing, generate, reduction, linear, convolution, normalization, recurrence, standardAttentionOps)],
  ['com.microsoft', table(contrib)],
  ['ai.onnx.preview', table(preview)],
  // Never in a file: what passes put one of two values for (src/rewrite/builder.ts), and what an inlined branch hands over (src/analyse/inline.ts).
  ['pdrop', table({ Select: (call) => call.input(1), HandOver: (call) => call.input(0) })],
]);

const STANDARD = HANDLERS.get('') as ReadonlyMap<string, Handler>;

/** Undefined where the op is not known. */
export const handlerOf = ({ domain, opType }: Node): Handler | undefined => (domain === '' ? STANDARD : HANDLERS.get(domain))?.get(opType);

function table(...parts: readonly HandlerTable[]): Map<string, Handler> {
  return new Map(parts.flatMap((part) => Object.entries(part)));
}
