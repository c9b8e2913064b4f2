/** Checking a compiled model on disk: is it sound, and does it do what the plan in its metadata says? */
import { analyseDecoder } from '../analyse/decoder.js';
import { type TokenPattern, withContents } from '../analyse/contents.js';
import type { DecoderFacts } from '../analyse/facts.js';
import { headDimsOf, shapesAt } from '../analyse/roles.js';
import { evaluateShapes, type ShapeFacts } from '../analyse/shapes/index.js';
import { planInMetadata } from '../compile.js';
import { keepCount } from '../cost/keep.js';
import { type DiagnosticDetail, describeNode, PdropError, UsageError } from '../diagnostics.js';
import { checkExternalData } from '../disk/external-files.js';
import { FileSource } from '../disk/files.js';
import type { Graph, Model, Value } from '../ir/graph.js';
import { verifyGraph } from '../ir/verify.js';
import { readModel } from '../onnx/read.js';
import type { Plan } from '../plan/plan.js';
import { checkPlan } from '../plan/resolve.js';
import { requirePlan } from '../schemas.js';

export interface CheckReport {
  readonly input: string;
  readonly plan: Plan;
  /** What was looked at, and what is wrong with it; empty problems mean the check passed. */
  readonly checks: readonly { readonly name: string; readonly problems: readonly string[] }[];
  readonly ok: boolean;
}

/** Prompts the graph's sizes are worked out for: rows of tokens. */
interface CheckPrompt {
  readonly name: string;
  readonly past: readonly number[];
  readonly sequence: number;
  readonly rows: readonly { readonly padding: number; readonly images: readonly (readonly [number, number])[] }[];
}

const ROW = { padding: 0, images: [[5, 41]] } as const;

/** Odd sizes on purpose: a rounding that is off by one shows. */
const PROMPTS: readonly CheckPrompt[] = [
  { name: 'one image', past: [0], sequence: 50, rows: [ROW] },
  { name: 'two rows with different images and left padding', past: [0], sequence: 53, rows: [{ padding: 7, images: [[12, 33]] }, { padding: 0, images: [[3, 20], [25, 48]] }] },
  { name: 'text only', past: [0], sequence: 31, rows: [{ padding: 0, images: [] }] },
  { name: 'a row without an image', past: [0], sequence: 50, rows: [ROW, { padding: 0, images: [] }] },
  { name: 'decode', past: [61, 43, 37, 31, 29, 23, 19, 17], sequence: 1, rows: [{ padding: 0, images: [] }] },
  { name: 'a second image over a cache', past: [61, 43, 37, 31, 29, 23, 19, 17], sequence: 47, rows: [{ padding: 0, images: [[2, 39]] }] },
];

/**
 * Checks a compiled model.
 *
 * @throws {UsageError} PD018 when the file was not made by pdrop-compile
 * @throws {Refusal} when it is not a readable ONNX model at all
 */
export async function check(input: string): Promise<CheckReport> {
  const source = new FileSource(input);
  try {
    const model = await readModel(source);
    const compiled = planInMetadata(model);
    if (!compiled) {
      throw new UsageError({ code: 'PD018', message: `${input} carries no plan: pdrop-compile did not make it, or its metadata was stripped`, culprit: input, hint: 'give a compiled model' });
    }
    const plan = requirePlan(compiled.plan, `plan in ${input}`);
    const checks: { name: string; problems: string[] }[] = [];
    const note = (name: string, problems: string[]): void => {
      checks.push({ name, problems });
    };
    note('structure: names, order, scopes, links', verifyGraph(model.graph).map((p) => `${p.culprit}: ${p.reason}`));
    note('opset imports', opsetProblems(model));
    note('external data', problemsOf(() => checkExternalData(model, input)));
    let facts: DecoderFacts | undefined;
    note(
      'decoder and plan fit',
      problemsOf(() => {
        facts = analyseDecoder(model, { compiledWith: plan.imageMask });
        checkPlan(facts, plan);
      }),
    );
    if (facts) {
      for (const prompt of PROMPTS) note(`lengths: ${prompt.name}`, lengthProblems(model.graph, facts, plan, prompt));
    }
    return { input, plan, checks, ok: checks.every((c) => c.problems.length === 0) };
  } finally {
    source.close();
  }
}

function problemsOf(run: () => void): string[] {
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
      n.subgraphs.forEach(visit);
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

function lengthProblems(graph: Graph, facts: DecoderFacts, plan: Plan, prompt: CheckPrompt): string[] {
  if (plan.imageMask.kind === 'span') return [];
  const stageOf = (layer: number): number => plan.layers.filter((b) => b <= layer).length;
  const hasCache = facts.roles.pasts.length > 0;
  if (!hasCache && (prompt.past[0] as number) > 0) return [];
  const pastOf = (stage: number): number => (hasCache ? (prompt.past[Math.min(stage, prompt.past.length - 1)] as number) : 0);
  const fixedBatch = typeof facts.probes.axes(facts.roles.source)?.[0] === 'number';
  if (fixedBatch && prompt.rows.length > 1) return [];
  const stages = new Map<Value, number>();
  for (const { core, index } of facts.layers) {
    for (const past of [core.past?.key, core.past?.value]) {
      if (!past) continue;
      stages.set(past.value, stageOf(index));
    }
  }
  const shapes = shapesAt(graph, facts.roles, { batch: prompt.rows.length, sequence: prompt.sequence, past: pastOf(0) }, headDimsOf(facts.layers.map((l) => l.core)));
  for (const past of facts.roles.pasts) {
    const shape = shapes.get(past.value);
    if (shape) shape[past.tokenAxis] = pastOf(stages.get(past.value) ?? 0);
  }
  const pattern: TokenPattern = {
    valid: (r, t) => t >= (prompt.rows[r]?.padding ?? 0),
    image: (r, t) => prompt.rows[r]?.images.some(([from, to]) => t >= from && t < to) ?? false,
  };
  const facts2 = evaluateShapes(graph, { inputs: withContents(graph, facts.roles, shapes, plan.imageMask, pattern), dataLimit: 1 << 16 });
  const expected = expectedTokens(plan, prompt);
  const problems = facts2.conflicts.slice(0, 3).map((c) => `${c.node ? describeNode(c.node) : 'input'}: ${c.reason}`);
  for (const { core, index } of facts.layers) {
    const stage = stageOf(index);
    const want = expected[stage] as number;
    const got = facts2.shape(core.k.value)?.[core.k.layout === 'bhsd' ? 2 : 1];
    if (got !== want) problems.push(`layer ${index} sees ${got ?? 'an unknown number of'} tokens, the plan says ${want}`);
    const present = core.present && facts2.shape(core.present.key)?.[core.past?.key.tokenAxis ?? 2];
    if (core.present && !core.croppedCache && present !== want + pastOf(stage)) {
      problems.push(`layer ${index} stores ${present ?? 'an unknown number of'} tokens, the plan says ${want + pastOf(stage)}`);
    }
  }
  problems.push(...symbolProblems(graph, facts2));
  return problems;
}

/** A symbol that is declared for two lengths, or a number that is not the size. */
function symbolProblems(graph: Graph, facts: ShapeFacts): string[] {
  const problems: string[] = [];
  const sizes = new Map<string, { size: number; by: string }>();
  for (const v of [...graph.inputs, ...graph.outputs, ...graph.values.values()]) {
    const shape = facts.shape(v);
    if (!v.type?.dims || v.tensor || !shape || shape.length !== v.type.dims.length) continue;
    v.type.dims.forEach((d, i) => {
      const size = shape[i];
      if (size === null || size === undefined || d === null) return;
      if (typeof d === 'number') {
        if (d !== size) problems.push(`"${v.name}" is declared ${d} long on axis ${i} but is ${size}`);
        return;
      }
      const known = sizes.get(d);
      if (known && known.size !== size && (v.isOutput || v.isInput)) problems.push(`"${d}" is ${known.size} in "${known.by}" and ${size} in "${v.name}"`);
      if (!known) sizes.set(d, { size, by: v.name });
    });
  }
  return problems.slice(0, 4);
}
