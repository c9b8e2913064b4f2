/**
 * Does a compiled graph do what its plan says? Structure, opset imports, the decoder found anew, and the lengths every
 * layer sees and stores for a handful of prompts. Nothing of Node: `check` asks it of a file, `compileModel` of the bytes
 * that are about to be written.
 */
import { analyseDecoder } from '../analyse/decoder.js';
import { type TokenPattern, withContents } from '../analyse/contents.js';
import type { DecoderFacts } from '../analyse/facts.js';
import { headDimsOf, shapesAt } from '../analyse/input-sizes.js';
import { evaluateLanes, type ShapeBindings, type ShapeFacts } from '../analyse/shapes/index.js';
import { keepCount } from '../cost/keep.js';
import { type DiagnosticDetail, describeNode, PdropError } from '../diagnostics.js';
import type { Graph, Model, Node, Value } from '../ir/graph.js';
import { verifyGraph } from '../ir/verify.js';
import { checkFixed } from './fixed.js';
import { failsCheck } from './soundness.js';
import type { ByteSource } from '../onnx/bytes.js';
import { readModel } from '../onnx/read.js';
import type { Plan } from '../plan/plan.js';
import { checkPlan } from '../plan/resolve.js';

/** One thing that was looked at, and what is wrong with it. */
export interface Check {
  readonly name: string;
  readonly problems: readonly string[];
}

/** Prompts the graph's sizes are worked out for: rows of tokens. */
interface CheckPrompt {
  readonly name: string;
  readonly past: readonly number[];
  readonly sequence: number;
  readonly rows: readonly { readonly padding: number; readonly images: readonly (readonly [number, number])[] }[];
  /** Some exports cannot run this themselves: MultiHeadAttention's mask takes no chunk over a cache. */
  readonly optional?: true;
}

const ROW = { padding: 0, images: [[5, 41]] } as const;

/** Odd sizes on purpose: a rounding that is off by one shows. */
const PROMPTS: readonly CheckPrompt[] = [
  { name: 'one image', past: [0], sequence: 50, rows: [ROW] },
  { name: 'two rows with different images and left padding', past: [0], sequence: 53, rows: [{ padding: 7, images: [[12, 33]] }, { padding: 0, images: [[3, 20], [25, 48]] }] },
  { name: 'text only', past: [0], sequence: 31, rows: [{ padding: 0, images: [] }] },
  { name: 'a row without an image', past: [0], sequence: 50, rows: [ROW, { padding: 0, images: [] }] },
  { name: 'decode', past: [61, 43, 37, 31, 29, 23, 19, 17], sequence: 1, rows: [{ padding: 0, images: [] }] },
  { name: 'a second image over a cache', past: [61, 43, 37, 31, 29, 23, 19, 17], sequence: 47, rows: [{ padding: 0, images: [[2, 39]] }], optional: true },
];

/** Everything that can be asked of the graph alone. */
export function checkFollowsPlan(model: Model, plan: Plan): Check[] {
  const checks: Check[] = [
    { name: 'structure: names, order, scopes, links', problems: verifyGraph(model.graph).map((p) => `${p.culprit}: ${p.reason}`) },
    { name: 'opset imports', problems: opsetProblems(model) },
  ];
  // With every length a number there is nothing left to find by trying lengths.
  if (plan.fix) return [...checks, ...checkFixed(model, plan, plan.fix)];
  let facts: DecoderFacts | undefined;
  const problems = problemsOf(() => {
    facts = analyseDecoder(model, { compiledWith: plan.imageMask });
    checkPlan(facts, plan);
  });
  checks.push({ name: 'decoder and plan fit', problems });
  if (facts) checks.push(...lengthChecks(model.graph, facts, plan));
  return checks;
}

/**
 * Reads what is about to be written and checks it, as `pdrop-compile check` would.
 *
 * @param made what is being written: a node whose bytes are still those it was read from is not decoded again
 * @throws {Refusal} PD330 with the first thing that does not hold
 */
export async function requireFollowsPlan(written: ByteSource, plan: Plan, made: Model): Promise<void> {
  for (const { name, problems } of checkFollowsPlan(await readModel(written, made), plan)) {
    if (problems.length === 0) continue;
    throw failsCheck(name, problems[0] as string, name);
  }
}

export function problemsOf(run: () => void): string[] {
  try {
    run();
    return [];
  } catch (error) {
    if (!(error instanceof PdropError)) throw error;
    const detail: DiagnosticDetail = error.toJSON();
    return [`${detail.code} ${detail.message}${detail.culprit ? ` (${detail.culprit})` : ''}`];
  }
}

function opsetProblems(model: Model): string[] {
  const missing = new Set<string>();
  const visit = (graph: Graph): void => {
    for (const n of graph.nodes) {
      if (!model.opsets.has(n.domain)) missing.add(`domain "${n.domain || 'ai.onnx'}" of ${describeNode(n)} is not imported`);
      if (n.subgraphs.length > 0) n.subgraphs.forEach(visit);
    }
  };
  visit(model.graph);
  return [...missing];
}

/** Tokens each stage must see for a prompt, by the plan. */
function expectedTokens(plan: Plan, prompt: CheckPrompt): number[] {
  const counts = prompt.rows.map((row) => {
    const n = row.images.reduce((a, [from, to]) => a + to - from, 0);
    const lastIsImage = row.images.some(([from, to]) => from <= prompt.sequence - 1 && prompt.sequence - 1 < to);
    return { n, limit: n - (lastIsImage ? 1 : 0) };
  });
  const marks = plan.imageMask.kind === 'input' || plan.imageMask.kind === 'input-ids' || plan.imageMask.kind === 'marks';
  return [
    prompt.sequence,
    ...plan.keep.map((ratio) => prompt.sequence - (marks ? Math.min(...counts.map(({ n, limit }) => Math.min(n - keepCount(n, ratio), limit))) : 0)),
  ];
}

/** Enough to follow ids and masks of rows of tokens, and 4-D masks of one row; more costs much, and lengths rarely come from it. */
const ROWS_OF_TOKENS = 4096;

/** A prompt as it is asked for: what the graph is given, and what each stage must see. */
interface Asked {
  readonly prompt: CheckPrompt;
  readonly inputs: ShapeBindings['inputs'];
  readonly expected: readonly { readonly tokens: number; readonly past: number }[];
}

/** Whether sizes are worked out for prompts: spans are not asked for, and caches of one length show nothing of what a stage has seen. */
const asksFor = (plan: Plan): boolean => plan.imageMask.kind !== 'span' && plan.runtime !== 'genai';

/** Whether the sizes of what is made of this decoder are tried by `checkFollowsPlan`. */
export const triesLengths = (facts: DecoderFacts, plan: Plan): boolean => asksFor(plan) && facts.fixedSequence === undefined;

/** Undefined for a prompt that says nothing of this graph. */
function ask(graph: Graph, facts: DecoderFacts, plan: Plan, prompt: CheckPrompt): Asked | undefined {
  if (!asksFor(plan)) return undefined;
  // The decode half of a split pair.
  if (facts.fixedSequence !== undefined && facts.fixedSequence !== prompt.sequence) return undefined;
  const hasCache = facts.roles.pasts.length > 0;
  if (!hasCache && (prompt.past[0] as number) > 0) return undefined;
  const pastOf = (stage: number): number => (hasCache ? (prompt.past[Math.min(stage, prompt.past.length - 1)] as number) : 0);
  const fixedBatch = typeof facts.probes.axes(facts.roles.source)?.[0] === 'number';
  if (fixedBatch && prompt.rows.length > 1) return undefined;
  const stages = new Map<Value, number>();
  for (const { core, index } of facts.attention) {
    for (const past of [core.past?.key, core.past?.value]) {
      if (past) stages.set(past.value, stageOf(plan, index));
    }
  }
  const shapes = shapesAt(graph, facts.roles, { batch: prompt.rows.length, sequence: prompt.sequence, past: pastOf(0) }, headDimsOf(facts.attention.map((l) => l.core)));
  for (const past of facts.roles.pasts) {
    const shape = shapes.get(past.value);
    if (shape) shape[past.tokenAxis] = pastOf(stages.get(past.value) ?? 0);
  }
  const pattern: TokenPattern = {
    valid: (r, t) => t >= (prompt.rows[r]?.padding ?? 0),
    image: (r, t) => prompt.rows[r]?.images.some(([from, to]) => t >= from && t < to) ?? false,
  };
  const inputs = withContents(graph, facts.roles, shapes, plan.imageMask, pattern);
  return { prompt, inputs, expected: expectedTokens(plan, prompt).map((tokens, stage) => ({ tokens, past: pastOf(stage) })) };
}

/** By prompt: what is wrong with the lengths that the graph comes to. */
function lengthChecks(graph: Graph, facts: DecoderFacts, plan: Plan): Check[] {
  const asking: Asking = { graph, declared: [...graph.values.values()].filter((v) => v.type?.dims && !v.tensor), facts, plan };
  const asked = PROMPTS.map((prompt) => ask(graph, facts, plan, prompt));
  const problemsOfAll = (which: readonly Asked[], dataLimit: number): Map<CheckPrompt, readonly string[]> => {
    const found = evaluateLanes(graph, which.map(({ inputs }) => ({ inputs, dataLimit, floatLimit: dataLimit })));
    return new Map(which.map(({ prompt, expected }, i) => [prompt, lengthProblems(asking, found[i] as ShapeFacts, prompt, expected)]));
  };
  const all = asked.filter((a) => a !== undefined);
  const quick = problemsOfAll(all, ROWS_OF_TOKENS);
  // One at a time: such contents are large.
  const closer = (a: Asked): readonly string[] => problemsOfAll([a], 1 << 16).get(a.prompt) ?? [];
  const problems = new Map(all.map((a) => [a.prompt, quick.get(a.prompt)?.length === 0 ? [] : closer(a)]));
  return PROMPTS.map((prompt) => ({ name: `lengths: ${prompt.name}`, problems: problems.get(prompt) ?? [] }));
}

/** What lengths are asked of. */
interface Asking {
  readonly graph: Graph;
  /** Values whose shapes are declared. */
  readonly declared: readonly Value[];
  readonly facts: DecoderFacts;
  readonly plan: Plan;
}

function lengthProblems(asking: Asking, sizes: ShapeFacts, prompt: CheckPrompt, expected: Asked['expected']): string[] {
  if (prompt.optional && sizes.conflicts.some((c) => c.node && isOriginals(c.node))) return [];
  if (sizes.exhausted) return ['masks go through more nodes than are followed element by element'];
  return [...layerProblems(asking, sizes, expected), ...symbolProblems(asking, sizes)];
}

const stageOf = (plan: Plan, layer: number): number => plan.layers.filter((b) => b <= layer).length;

/** What contradicts itself, and layers that see or store another number of tokens than `expected` of their stage. */
function layerProblems({ facts, plan }: Asking, sizes: ShapeFacts, expected: readonly { tokens: number; past: number }[]): string[] {
  const problems = sizes.conflicts.slice(0, 3).map((c) => `${c.node ? describeNode(c.node) : 'input'}: ${c.reason}`);
  for (const { core, index } of facts.attention) {
    const { tokens, past } = expected[stageOf(plan, index)] as { tokens: number; past: number };
    const length = sizes.shape(core.k.value)?.[core.k.layout === 'bhsd' || core.k.layout === 'bhtd' ? 2 : 1];
    // Keys made of what the cache holds are as many as both.
    const got = core.k.layout === 'bhtd' && typeof length === 'number' ? length - past : length;
    if (got !== tokens) problems.push(`layer ${index} sees ${got ?? 'an unknown number of'} tokens, the plan says ${tokens}`);
    const present = core.present && sizes.shape(core.present.key)?.[core.past?.key.tokenAxis ?? 2];
    if (core.present && !core.croppedCache && present !== tokens + past) {
      problems.push(`layer ${index} stores ${present ?? 'an unknown number of'} tokens, the plan says ${tokens + past}`);
    }
  }
  return problems;
}

/** Whether a node reads nothing that passes made: what it says, the original graph says as well. */
function isOriginals(node: Node): boolean {
  const seen = new Set<Node>();
  const queue = [node];
  for (let n = queue.pop(); n; n = queue.pop()) {
    if (n.name.startsWith('pdrop/')) return false;
    for (const v of n.reads) {
      if (!v?.producer || seen.has(v.producer)) continue;
      seen.add(v.producer);
      queue.push(v.producer);
    }
  }
  return true;
}

/** A symbol that is declared for two lengths, or a number that is not the size. */
function symbolProblems({ graph, declared }: Asking, facts: ShapeFacts): string[] {
  const problems: string[] = [];
  const sizes = new Map<string, { size: number; by: string }>();
  const look = (v: Value): void => {
    const dims = v.type?.dims;
    if (!dims || v.tensor) return;
    const shape = facts.shape(v);
    if (shape?.length !== dims.length) return;
    for (let i = 0; i < dims.length; i++) {
      const d = dims[i];
      const size = shape[i];
      if (size === null || size === undefined || d === null || d === undefined) continue;
      if (typeof d === 'number') {
        if (d !== size) problems.push(`"${v.name}" is declared ${d} long on axis ${i} but is ${size}`);
        continue;
      }
      const known = sizes.get(d);
      if (known && known.size !== size && (v.isOutput || v.isInput)) problems.push(`"${d}" is ${known.size} in "${known.by}" and ${size} in "${v.name}"`);
      if (!known) sizes.set(d, { size, by: v.name });
    }
  };
  // What comes in and goes out says what a symbol means.
  graph.inputs.forEach(look);
  graph.outputs.forEach(look);
  for (let i = 0; i < declared.length; i++) look(declared[i] as Value);
  return problems.slice(0, 4);
}
