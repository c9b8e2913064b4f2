/** A walk over values must not be as deep as the graph is long: 100,000 nodes in one chain. */
import { expect, test } from 'vitest';
import { Graph, Node, Value } from '../../src/ir/graph.js';
import type { Builder } from '../../src/rewrite/builder.js';
import { GraphEditor } from '../../src/rewrite/editor.js';
import type { DecoderFacts } from '../../src/analyse/facts.js';
import { Standing } from '../../src/rewrite/standing.js';
import type { Stages } from '../../src/rewrite/stages.js';
import { lmHead } from '../../src/validate/cost/cost.js';
import type { ModelFile } from '../../src/validate/models/model.js';

const LENGTH = 100_000;

/** MatMul → Identity × LENGTH; the product and the last value. */
function chain(): { product: Node; last: Value } {
  const link = (type: string, input: Value): Node => {
    const node = new Node(type, '', '');
    node.inputs.push(input);
    input.uses.push({ node, index: 0 });
    const out = new Value('');
    out.producer = node;
    node.outputs.push(out);
    return node;
  };
  const product = link('MatMul', new Value('hidden'));
  let last = product.outputs[0] as Value;
  for (let i = 0; i < LENGTH; i++) last = link('Identity', last).outputs[0] as Value;
  return { product, last };
}

test('the LM head is found behind a chain of 100,000 nodes', () => {
  const { product, last } = chain();
  last.name = 'logits';
  const file = { model: { graph: { outputs: [last] } }, io: { logits: { name: 'logits' } } } as unknown as ModelFile;
  expect([...lmHead(file)]).toEqual([product]);
});

const isContentFree = (value: Value, content: Value[]): boolean => new Standing({ content: new Set(content) } as unknown as DecoderFacts, {} as Stages, new Set()).isContentFree(value);

test('a chain of 100,000 nodes is content-free exactly when nothing in it is content', () => {
  const { product, last } = chain();
  expect(isContentFree(last, [])).toBe(true);
  expect(isContentFree(last, product.outputs as Value[])).toBe(false);
});

test('a graph of 300,000 nodes is put in order: more than a call takes arguments', () => {
  const graph = new Graph();
  for (let i = 0; i < 3 * LENGTH; i++) graph.nodes.push(new Node('Identity', '', String(i)));
  const last = graph.nodes.at(-1);
  new GraphEditor(graph, { created: [] } as unknown as Builder).sort();
  expect(graph.nodes.length).toBe(3 * LENGTH);
  expect(graph.nodes.at(-1)).toBe(last);
});
