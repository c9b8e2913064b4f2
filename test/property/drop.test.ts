/**
 * Any schedule, any layout of masks, any batch: the compiled fixture in onnxruntime against a plain TypeScript decoder with
 * rank and drop (reference.ts). Kept indices must be equal, caches as long, logits of valid tokens the same.
 *
 * A few cases run in the suite; `npm run property` runs more (PDROP_PROPERTY_RUNS cases of each, PDROP_PROPERTY_SEED).
 */
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { toNumbers } from '../support/fixtures.js';
import { seeded } from '../support/random.js';
import { Compiled, HIDDEN, keptOf, modelOf, type RunOutputs, VOCABULARY, weightsOf } from './decoder.js';
import { type Cache, emptyCache, keepCount, type Result, type RowInput, runChunk, type Schedule } from './reference.js';

const RUNS = Number(process.env.PDROP_PROPERTY_RUNS ?? 0);
const PARAMETERS = { numRuns: RUNS || 6, seed: Number(process.env.PDROP_PROPERTY_SEED ?? 20241022), endOnFailure: RUNS === 0 } as const;
const TIMEOUT = RUNS > 0 ? 3_600_000 : 300_000;
const LAYERS = 8;
/** Scores closer than this, relative to the larger, may be ordered either way by single precision. */
const NEAR = 2e-5;

const schedules: fc.Arbitrary<Schedule> = fc
  .record({
    layers: fc.uniqueArray(fc.integer({ min: 1, max: LAYERS - 1 }), { minLength: 1, maxLength: 4 }).map((l) => l.sort((a, b) => a - b)),
    keep: fc.array(fc.oneof(fc.integer({ min: 0, max: 100 }), fc.constantFrom(0, 25, 33, 50, 67, 100)), { minLength: 4, maxLength: 4 }),
    positions: fc.constantFrom<'compact' | 'keep'>('compact', 'compact', 'keep'),
  })
  .map(({ layers, keep, positions }) => ({ layers, keep: keep.slice(0, layers.length).sort((a, b) => b - a), positions }));

/** What a row of the first chunk looks like: padding on one side, runs of text and image tokens, images with holes. */
interface Layout {
  readonly padding: number;
  readonly kinds: readonly boolean[];
  /** Padding that is marked as image all the same: it must not count. */
  readonly markedPadding: boolean;
}

const layouts: fc.Arbitrary<Layout> = fc.record({
  padding: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 6 })),
  kinds: fc
    .array(fc.oneof({ weight: 3, arbitrary: fc.integer({ min: 1, max: 9 }).map((n) => new Array<boolean>(n).fill(true)) }, { weight: 2, arbitrary: fc.integer({ min: 1, max: 4 }).map((n) => new Array<boolean>(n).fill(false)) }), { minLength: 1, maxLength: 5 })
    .map((runs) => runs.flat()),
  markedPadding: fc.boolean(),
});

interface Prompt {
  readonly rows: readonly Layout[];
  readonly side: 'left' | 'right';
  readonly steps: number;
  readonly seed: number;
}

const prompts = (most: { rows: number; steps: number }, sides: readonly ('left' | 'right')[]): fc.Arbitrary<Prompt> =>
  fc.record({ rows: fc.array(layouts, { minLength: 1, maxLength: most.rows }), side: fc.constantFrom(...sides), steps: fc.integer({ min: 0, max: most.steps }), seed: fc.integer({ min: 0, max: 2 ** 31 - 1 }) });

/** Rows of one length, padded on one side. */
function rowsOf(prompt: Prompt): RowInput[] {
  const random = seeded(prompt.seed);
  const length = Math.max(...prompt.rows.map((r) => r.kinds.length + r.padding));
  return prompt.rows.map(({ kinds, markedPadding }) => {
    const rest = length - kinds.length;
    const pad = <T>(own: readonly T[], fill: T): T[] => (prompt.side === 'left' ? [...new Array<T>(rest).fill(fill), ...own] : [...own, ...new Array<T>(rest).fill(fill)]);
    const mask = pad(kinds.map(() => 1), 0);
    return { embeds: mask.map(() => vector(random)), mask, positions: positionsOf(mask), image: pad(kinds, markedPadding) };
  });
}

function positionsOf(mask: readonly number[]): number[] {
  let seen = 0;
  return mask.map((m) => (m === 1 ? seen++ : Math.max(0, seen - 1)));
}

function vector(random: ReturnType<typeof seeded>): Float64Array {
  return Float64Array.from({ length: HIDDEN }, () => Math.fround((random.below(2001) - 1000) / 1000));
}

/** The next chunk of every row: one text token after what its mask says is there. */
function nextStep(rows: readonly RowInput[], random: ReturnType<typeof seeded>): RowInput[] {
  return rows.map((row) => ({ embeds: [vector(random)], mask: [...row.mask, 1], positions: [row.mask.reduce((a, m) => a + m, 0)], image: [false] }));
}

function compare(outputs: RunOutputs, wanted: Result, schedule: Schedule, at: string): void {
  expect(keptOf(outputs, schedule.layers.length), `${at}: kept`).toEqual(wanted.kept);
  const lengths = wanted.cacheLengths.map((_, l) => outputs[`present.${l}.key`]?.dims[2]);
  expect(lengths, `${at}: cache lengths`).toEqual(wanted.cacheLengths);
  const logits = toNumbers(outputs.logits as never);
  const width = wanted.logits[0]?.length as number;
  let [low, high, worst] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 0];
  wanted.logits.forEach((row, r) =>
    row.forEach((token, t) =>
      token?.forEach((v, i) => {
        low = Math.min(low, v);
        high = Math.max(high, v);
        const difference = Math.abs(v - (logits[(r * width + t) * VOCABULARY + i] as number));
        if (!(difference <= worst)) worst = difference;
      }),
    ),
  );
  expect(worst / (high - low), `${at}: logits, relative to their range`).toBeLessThan(1e-4);
}

/** Runs a prompt and its decode steps in both; prompts whose choice single precision cannot tell are left out. */
async function agree(compiled: Compiled, weights: ReturnType<typeof weightsOf>, schedule: Schedule, prompt: Prompt): Promise<boolean> {
  const random = seeded(prompt.seed ^ 0x5a5a);
  let rows = rowsOf(prompt);
  const cache: Cache = emptyCache(weights, rows.length);
  compiled.reset();
  for (let step = 0; step <= prompt.steps; step++) {
    const wanted = runChunk(weights, schedule, rows, cache);
    if (wanted.gap < NEAR) return false;
    compare(await compiled.run(rows), wanted, schedule, step === 0 ? 'prompt' : `step ${step}`);
    rows = nextStep(rows, random);
  }
  return true;
}

/** Compiling costs more than running: several prompts to a schedule. */
const EACH = 4;
let compared = 0;

async function holds(fixture: string, schedule: Schedule, several: readonly Prompt[], zeroQueries = false): Promise<void> {
  const model = modelOf(fixture, zeroQueries);
  const weights = weightsOf(model);
  const compiled = await Compiled.of(model, schedule);
  try {
    for (const prompt of several) if (await agree(compiled, weights, schedule, prompt)) compared++;
  } finally {
    await compiled.release();
  }
}

afterAll(() => {
  if (RUNS > 0) process.stdout.write(`${compared} prompts compared\n`);
});

describe('rank and drop, any schedule, any masks, any batch', { timeout: TIMEOUT }, () => {
  it('GroupQueryAttention, rotary inside: right padding; one row decodes', async () => {
    const prompt = fc.oneof(prompts({ rows: 1, steps: 2 }, ['left']).map((p) => ({ ...p, rows: p.rows.map((r) => ({ ...r, padding: 0 })) })), prompts({ rows: 3, steps: 0 }, ['right']));
    await fc.assert(
      fc.asyncProperty(schedules, fc.array(prompt, { minLength: EACH, maxLength: EACH }), (schedule, several) => holds('genai-llama-embeds-fp32', schedule, several)),
      PARAMETERS,
    );
    expect(compared).toBeGreaterThan(0);
  });

  it('decomposed attention, mask and positions given: padding left or right, batches decode', async () => {
    const before = compared;
    await fc.assert(
      fc.asyncProperty(schedules, fc.array(prompts({ rows: 3, steps: 2 }, ['left', 'right']), { minLength: EACH, maxLength: EACH }), (schedule, several) => holds('llama-dynamo18-eager', schedule, several)),
      { ...PARAMETERS, numRuns: Math.ceil(PARAMETERS.numRuns / 2) },
    );
    expect(compared).toBeGreaterThan(before);
  });

  it('where all scores are equal, the first image tokens stay', async () => {
    const before = compared;
    await fc.assert(
      fc.asyncProperty(schedules, fc.array(prompts({ rows: 2, steps: 0 }, ['right']), { minLength: EACH, maxLength: EACH }), (schedule, several) => holds('genai-llama-embeds-fp32', schedule, several, true)),
      { ...PARAMETERS, numRuns: Math.ceil(PARAMETERS.numRuns / 2) },
    );
    expect(compared).toBeGreaterThan(before);
  });

  it.each(['uniform', 'random:5'])('%s keeps as many, in order, text and the last token among them', async (rank) => {
    await fc.assert(
      fc.asyncProperty(schedules, fc.array(prompts({ rows: 3, steps: 0 }, ['right']), { minLength: EACH, maxLength: EACH }), async (schedule, several) => {
        const compiled = await Compiled.of(modelOf('genai-llama-embeds-fp32'), schedule, rank);
        try {
          for (const prompt of several) {
            const rows = rowsOf(prompt);
            compiled.reset();
            const kept = keptOf(await compiled.run(rows), schedule.layers.length);
            const marked = rows.map((row) => row.image.map((i, t) => i && row.mask[t] === 1));
            const last = rows.map((row) => row.mask.lastIndexOf(1));
            schedule.keep.forEach((share, b) => {
              const drops = Math.min(...marked.map((m, r) => Math.min(m.filter(Boolean).length - keepCount(m.filter(Boolean).length, share), m.filter(Boolean).length - (m[last[r] as number] ? 1 : 0))));
              kept[b]?.forEach((row, r) => {
                expect(row.length).toBe((rows[r]?.mask.length as number) - drops);
                expect(row).toEqual([...new Set(row)].sort((x, y) => x - y));
                const gone = (marked[r] as boolean[]).flatMap((_, t) => (row.includes(t) ? [] : [t]));
                expect(gone.every((t) => marked[r]?.[t] && t !== last[r])).toBe(true);
              });
            });
          }
        } finally {
          await compiled.release();
        }
      }),
      { ...PARAMETERS, numRuns: Math.ceil(PARAMETERS.numRuns / 3) },
    );
  });
});
