/** The plan a rewritten model carries, and what it says about token counts. */
import { METADATA } from '../../compile.js';
import { UsageError } from '../../diagnostics.js';
import { keepCount } from '../../cost/keep.js';
import type { Model } from '../../ir/graph.js';
import type { Plan } from '../../plan/plan.js';
import type { Layout } from '../feeding/prompt.js';

/** @throws {UsageError} PD009 when the model was not made by pdrop-compile. */
export function planOf(model: Model, name: string): Plan {
  for (const [key, text] of model.metadata) {
    if (key !== METADATA.plan) continue;
    try {
      const parsed = JSON.parse(text) as Plan & { plan?: Plan };
      const plan = parsed.plan ?? parsed;
      if (!Array.isArray(plan.layers) || !Array.isArray(plan.keep)) continue;
      return plan;
    } catch {
      // Falls through to the message below.
    }
  }
  throw new UsageError({ code: 'PD009', message: `${name} carries no plan: it was not written by pdrop-compile, or its metadata was stripped`, culprit: name, hint: 'give the original first and the compiled model second; tools that drop metadata_props must run before compiling' });
}

export function hasPlan(model: Model): boolean {
  return model.metadata.has(METADATA.plan);
}

/** Tokens after each boundary and in each stage for a prompt; the contract of semantics.md in integers. */
export interface Schedule {
  /** Chunk tokens stage i sees, stage 0 included. */
  readonly stageTokens: readonly number[];
  /** Image tokens stage i sees in each row. */
  readonly stageImage: readonly (readonly number[])[];
  /** Tokens dropped from every row before stage i. */
  readonly dropped: readonly number[];
}

export function scheduleFor(plan: Pick<Plan, 'keep'>, layout: Layout): Schedule {
  const { rows, length, image } = layout;
  const perRow = Array.from({ length: rows }, (_, r) => {
    let n = 0;
    for (let i = 0; i < length; i++) n += image[r * length + i] ?? 0;
    return n;
  });
  const stageTokens = [length];
  const stageImage = [perRow];
  const dropped = [0];
  for (const ratio of plan.keep) {
    let d = Math.min(...perRow.map((n) => n - keepCount(n, ratio)));
    d = Math.min(d, ...perRow.map((n, r) => n - (lastIsImage(layout, r) ? 1 : 0)));
    dropped.push(d);
    stageTokens.push(length - d);
    stageImage.push(perRow.map((n) => n - d));
  }
  return { stageTokens, stageImage, dropped };
}

/** The last valid token is never dropped, image or not. */
function lastIsImage(layout: Layout, row: number): boolean {
  const last = layout.length - 1 - (layout.trailing[row] ?? 0);
  return layout.image[row * layout.length + last] === 1;
}

/** Stage of each layer. */
export function stageOfLayer(plan: Pick<Plan, 'layers'>, layer: number): number {
  return plan.layers.filter((b) => b <= layer).length;
}
