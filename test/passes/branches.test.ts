/**
 * What ONNX Runtime's transformers optimizer (1.32) can see of graphs with an If: it looks into branches, not into branches of branches, and not at
 * what a branch gives out. The optimizer itself: npm run test:runtimes -- --only tools.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { compile } from '../../src/index.js';
import { LoadedFixture } from '../support/fixtures.js';
import { folder } from '../support/folder.js';
import { decodeModel, type GraphProto, graphOf } from '../support/proto.js';

const branchesOf = (graph: GraphProto): GraphProto[] => (graph.node ?? []).flatMap((n) => (n.attribute ?? []).flatMap((a) => (a.g ? [a.g as GraphProto] : [])));
const readsOf = (graph: GraphProto): string[] => (graph.node ?? []).flatMap((n) => n.input ?? []);

describe.each(['llama-dynamo18-eager', 'llama-ts17-sdpa', 'bloom-ts17', 'gemma2-ts17', 'gptj-ts17'])('%s', (name) => {
  const branches = (async () => {
    const fixture = new LoadedFixture(name);
    const { layers, keep, positions, imageMask } = Object.values(fixture.info.plans)[0] as (typeof fixture.info.plans)[string];
    const output = join(folder(), `${name}.onnx`);
    await compile(fixture.model, { layers, keep, positions, imageMask, output });
    const graph = graphOf(decodeModel(readFileSync(output)));
    return { graph, branches: branchesOf(graph) };
  })();

  test('what a branch of a branch reads of the graph is read one level up as well', async () => {
    const made = await branches;
    const seen = new Set([...readsOf(made.graph), ...made.branches.flatMap(readsOf)]);
    const outer = new Set([...(made.graph.initializer ?? []).map((t) => t.name), ...(made.graph.node ?? []).flatMap((n) => n.output ?? [])]);
    const inner = made.branches.flatMap(branchesOf);
    expect(inner.length).toBeGreaterThan(0);
    expect([...new Set(inner.flatMap(readsOf))].filter((v) => outer.has(v) && !seen.has(v))).toEqual([]);
  });

  test('masks that are made of And over what an If gives say how many they are of, the batch too', async () => {
    const { graph, branches: of } = await branches;
    const reshaped = of.flatMap((g) => (g.node ?? []).filter((n) => n.opType === 'Reshape' && n.name?.endsWith('/as_declared') && g.output?.some((v) => n.output?.includes(v.name ?? ''))));
    // Gemma 2 alone has such masks, of its windows, on the side where all tokens stay of each boundary.
    expect(reshaped.length).toBe(name === 'gemma2-ts17' ? 3 : 0);
    // One shape for all boundaries: [batch, 1, as it is, as it is].
    const shapes = new Set(reshaped.map((n) => n.input?.[1]));
    expect(shapes.size).toBe(name === 'gemma2-ts17' ? 1 : 0);
    for (const shape of shapes) {
      const made = graph.node?.find((n) => n.output?.includes(shape ?? ''));
      expect([made?.opType, made?.input?.slice(1)]).toEqual(['Concat', ['pdrop/const/i64/1', 'pdrop/const/i64/0', 'pdrop/const/i64/0']]);
      expect(graph.node?.find((n) => n.output?.[0] === made?.input?.[0])).toMatchObject({ opType: 'Shape', input: ['inputs_embeds'] });
    }
  });

  test('no branch leaves to a Reshape to say what remains of masks and biases: a sum of tokens does not cancel there', async () => {
    const { graph, branches: of } = await branches;
    const ends = of.flatMap((g) => (g.output ?? []).map((v) => g.node?.find((n) => n.output?.includes(v.name ?? ''))));
    expect(ends.filter((n) => n?.opType === 'Reshape' && n.input?.[1] === 'pdrop/const/i64/-1_1_0')).toEqual([]);
    // BLOOM's bias, [batch · heads, 1, tokens], is laid out behind the If of each boundary.
    const behind = (graph.node ?? []).filter((n) => n.opType === 'Reshape' && n.input?.[1] === 'pdrop/const/i64/-1_1_0');
    const given = new Set((graph.node ?? []).filter((n) => n.opType === 'If').flatMap((n) => n.output ?? []));
    expect(behind.filter((n) => given.has(n.input?.[0] ?? '')).length).toBe(name === 'bloom-ts17' ? 3 : 0);
  });

  test('no sizes are put together in a branch from one that the optimizer would ask for the rank of: it knows no value of a branch', async () => {
    for (const branch of (await branches).branches) {
      const made = new Map((branch.node ?? []).flatMap((n) => (n.output ?? []).map((o) => [o, n] as const)));
      const rooted = (branch.node ?? []).filter((n) => n.opType === 'Concat').flatMap((n) => {
        const [unsqueeze] = [made.get(n.input?.[0] ?? '')].filter((u) => u?.opType === 'Unsqueeze');
        const gather = made.get(unsqueeze?.input?.[0] ?? '');
        const shape = gather?.opType === 'Gather' ? made.get(gather.input?.[0] ?? '') : undefined;
        return shape?.opType === 'Shape' && made.has(shape.input?.[0] ?? '') ? [n.name] : [];
      });
      expect(rooted).toEqual([]);
    }
  });

  test('nothing that does nothing moves into a branch: the optimizer knows no norm with a cast in it', async () => {
    const casts = (await branches).branches.flatMap((g) => (g.node ?? []).filter((n) => n.opType === 'Cast' && /norm/i.test(n.name ?? '')));
    expect(casts.map((n) => n.name)).toEqual([]);
  });

  test('a sum that a branch gives out and a norm reads is read once more', async () => {
    let sums = 0;
    for (const branch of (await branches).branches) {
      const given = new Set((branch.output ?? []).map((v) => v.name));
      for (const n of branch.node ?? []) {
        const [sum] = n.output ?? [];
        const readers = (branch.node ?? []).filter((r) => sum && r.input?.includes(sum));
        if (n.opType !== 'Add' || !sum || !given.has(sum) || readers.length === 0) continue;
        sums++;
        expect(readers.length, sum).toBeGreaterThan(1);
      }
    }
    expect(sums).toBeGreaterThan(0);
  });
});
