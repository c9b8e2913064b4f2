/**
 * Turns the placeholders of one boundary ("in a chunk that loses tokens this, else that") into one If, and moves into
 * its branches everything that only they need.
 *
 *   in:   kept = Gather(h, rank(h)); mask' = …; h' = Select(kept, h); m' = Select(mask', Slice(mask))
 *   out:  h', m' = If(any) { then: rank, Gather, … } else: { Identity(h), Slice(mask) }
 *
 * All boundaries share one condition, so a branch may read what the branch of an earlier boundary has worked out: it is
 * handed on as one more output, which is never read where the other side ran.
 */
import { Refusal } from '../diagnostics.js';
import { carriesNoContent } from '../analyse/spine.js';
import { addOutputs, DataType, type Graph, type Node, type Value } from '../ir/graph.js';
import { runReshapesBehind } from './behind-branches.js';
import { type Reading, runOnBothSides } from './both-sides.js';
import type { BranchShapes } from './branch-shapes.js';
import { type Declaring, declaring, makeBranch } from './branch-outputs.js';
import { type Builder, SELECT } from './builder.js';
import type { GraphEditor } from './editor.js';

/** Where a node runs: always, or in one side of one boundary's If. */
interface Region {
  readonly boundary: number;
  readonly side: 'then' | 'else';
}

export interface BranchInput {
  /** bool scalar. */
  readonly condition: Value;
  /** Nodes of a selection, with the boundary they run at. */
  readonly pinned: ReadonlyMap<Node, number>;
  readonly content: ReadonlySet<Value>;
  /** What a no-op that was put back passes on; undefined for other nodes. */
  readonly passedBy: (node: Node) => Value | undefined;
  /** What has the batch as its first axis, wherever a branch may be. */
  readonly source: Value;
  /** Nodes of boundary layers that run for the tokens of the finished stage. */
  readonly shared: ReadonlySet<Node>;
  /** Made when the selections are in their regions. */
  readonly shapes: () => BranchShapes;
  /** Nodes that passes made; no others move. */
  readonly made: (node: Node) => boolean;
}

export interface Branches {
  readonly ifs: readonly Node[];
  /** Nodes inside the branches. */
  readonly inside: ReadonlySet<Node>;
}

const isSelect = (n: Node): boolean => n.is(SELECT.op, SELECT.domain);
const keyOf = (r: Region): string => `${r.boundary}|${r.side}`;

export function buildBranches(editor: GraphEditor, b: Builder, input: BranchInput): Branches {
  editor.sort();
  const { graph } = editor;
  const ofContent = contentNodes(graph, input.content);
  runReshapesBehind(editor, b, (n) => ofContent.has(n));
  const regions = assignRegions(editor, input);
  editor.sort();
  const sides = runOnBothSides(editor, b, {
    shared: input.shared,
    readingOf: (reader, index) => readingOf(reader, index, regions),
    passedBy: input.passedBy,
    isCandidate: (n) => !input.made(n) && (input.shared.has(n) || n.outputs.some((o) => o !== null && input.content.has(o))),
  });
  for (const [n, boundary] of sides.copies) regions.node.set(n, { boundary, side: 'then' });
  for (const [n, boundary] of sides.originals) regions.node.set(n, { boundary, side: 'else' });
  const shapes = input.shapes();
  const boundaries = [...new Set(graph.nodes.filter(isSelect).map((n) => n.int('boundary', 0)))].sort((x, y) => x - y);
  const ifs: Node[] = [];
  const says = declaring(b, input.source);
  for (const boundary of boundaries) ifs.push(makeIf(editor, boundary, { regions, condition: input.condition, shapes, says }));
  editor.sort();
  return { ifs, inside: new Set(regions.node.keys()) };
}

interface Regions {
  readonly node: Map<Node, Region>;
  /** Placeholders that only then-branches read: there is nothing to work out for the other side. */
  readonly thenOnly: Set<Node>;
}

function assignRegions(editor: GraphEditor, { pinned, content, made }: BranchInput): Regions {
  const { graph } = editor;
  const node = new Map<Node, Region>();
  const thenOnly = new Set<Node>();
  const ofContent = contentNodes(graph, content);
  for (let i = graph.nodes.length - 1; i >= 0; i--) {
    const n = graph.nodes[i] as Node;
    if (!made(n)) continue;
    const readers = readersOf(n, node, thenOnly);
    if (readers === 'always' || readers.size === 0) continue;
    const all = [...readers.values()];
    const onlyThen = all.every((r) => r.side === 'then');
    if (isSelect(n)) {
      if (onlyThen) thenOnly.add(n);
      continue;
    }
    if (!onlyThen) {
      if (all.length === 1) node.set(n, all[0] as Region);
      continue;
    }
    all.sort((x, y) => x.boundary - y.boundary);
    const pin = pinned.get(n);
    const first: Region = { boundary: Math.min(pin ?? Number.POSITIVE_INFINITY, (all[0] as Region).boundary), side: 'then' };
    node.set(n, first);
    // What is worked out on the host from the masks alone is worked out again: handing it on would cost a device a copy.
    if (pin !== undefined || ofContent.has(n) || !all.some((r) => r.boundary !== first.boundary) || !isHostWork(n)) continue;
    for (const region of all) if (region.boundary !== first.boundary) repeat(editor, n, region, node, thenOnly);
  }
  return { node, thenOnly };
}

/** Regions of everything that reads the node's outputs, or `always`. */
function readersOf(n: Node, node: ReadonlyMap<Node, Region>, thenOnly: ReadonlySet<Node>): Map<string, Region> | 'always' {
  const readers = new Map<string, Region>();
  for (const o of n.outputs) {
    if (!o) continue;
    if (o.isOutput) return 'always';
    // What an If inside a side reads goes where it goes.
    for (const reader of o.capturedBy) {
      const region = node.get(reader);
      if (region?.side !== 'else') return 'always';
      readers.set(keyOf(region), region);
    }
    for (const use of o.uses) {
      const region = regionOfUse(use.node, use.index, node, thenOnly);
      if (region === 'always') return 'always';
      if (region) readers.set(keyOf(region), region);
    }
  }
  return readers;
}

function regionOfUse(reader: Node, index: number, node: ReadonlyMap<Node, Region>, thenOnly: ReadonlySet<Node>): Region | 'always' | undefined {
  if (!isSelect(reader)) return node.get(reader) ?? 'always';
  if (index === 0) return 'always';
  if (index === SELECT.whole && thenOnly.has(reader)) return undefined;
  return { boundary: reader.int('boundary', 0), side: index === SELECT.dropping ? 'then' : 'else' };
}

/** Where a use is, for what is not made by a pass. */
function readingOf(reader: Node, index: number, { node, thenOnly }: Regions): Reading {
  const region = regionOfUse(reader, index, node, thenOnly);
  return region === 'always' ? undefined : (region ?? 'none');
}

const INTEGER_OPS: ReadonlySet<string> = new Set(['Shape', 'Squeeze', 'Unsqueeze', 'Slice', 'Gather', 'Concat', 'Range', 'Add', 'Sub', 'Mul', 'Neg', 'Max', 'Min', 'Div', 'ArgMax', 'Cast', 'Reshape', 'Expand', 'ReduceSum']);

/** Integer arithmetic of the passes on masks and sizes. */
function isHostWork(n: Node): boolean {
  return INTEGER_OPS.has(n.opType) && n.stamps.get('pdrop.pass') !== undefined && n.record === undefined && !(n.is('Cast') && n.int('to', 0) === DataType.FLOAT);
}

/** Nodes that depend on hidden states other than through a shape. */
function contentNodes(graph: Graph, content: ReadonlySet<Value>): Set<Node> {
  const values = new Set<Value>(content);
  const nodes = new Set<Node>();
  for (let i = 0; i < graph.nodes.length; i++) {
    const n = graph.nodes[i] as Node;
    if (carriesNoContent(n) || !n.readsOneOf(values)) continue;
    nodes.add(n);
    addOutputs(n, values);
  }
  return nodes;
}

/** A second copy of the node for the readers of another region. */
function repeat(editor: GraphEditor, n: Node, region: Region, node: Map<Node, Region>, thenOnly: ReadonlySet<Node>): void {
  const copy = editor.builder.clone(n, n.inputs);
  copy.stamps = n.stamps;
  n.outputs.forEach((o, i) => {
    const other = copy.outputs[i];
    if (!o || !other) return;
    for (const use of [...o.uses]) {
      const at = regionOfUse(use.node, use.index, node, thenOnly);
      if (at && at !== 'always' && keyOf(at) === keyOf(region)) editor.setInput(use.node, use.index, other);
    }
  });
  node.set(copy, region);
}

interface Making {
  readonly regions: Regions;
  /** bool scalar. */
  readonly condition: Value;
  readonly shapes: BranchShapes;
  readonly says: Declaring;
}

function makeIf(editor: GraphEditor, boundary: number, { regions: { node: regions, thenOnly }, condition, shapes, says }: Making): Node {
  const { graph, builder: b } = editor;
  const selects = graph.nodes.filter((n) => isSelect(n) && n.int('boundary', 0) === boundary);
  const of = (side: Region['side']): Node[] => graph.nodes.filter((n) => regions.get(n)?.boundary === boundary && regions.get(n)?.side === side);
  const thenNodes = of('then');
  const elseNodes = of('else');
  const inThen = new Set(thenNodes);
  // What branches of later boundaries read of this one is one more output.
  const handedOn = thenNodes.flatMap((n) => n.outputs.filter((o): o is Value => o !== null && o.uses.some((u) => !inThen.has(u.node) && !(isSelect(u.node) && u.node.int('boundary', 0) === boundary))));
  b.scope('branch', boundary);
  const outputs: Value[] = [];
  const dropping: Value[] = [];
  const whole: (Value | undefined)[] = [];
  for (const s of selects) {
    outputs.push(s.outputs[0] as Value);
    dropping.push(s.inputs[SELECT.dropping] as Value);
    whole.push(thenOnly.has(s) ? undefined : (s.inputs[SELECT.whole] as Value));
  }
  for (const v of handedOn) {
    outputs.push(b.newValue(`${v.name}/after`));
    dropping.push(v);
    whole.push(undefined);
  }
  handedOn.forEach((v, i) => {
    const outer = outputs[selects.length + i] as Value;
    for (const use of [...v.uses]) if (!inThen.has(use.node) && !selects.includes(use.node)) editor.setInput(use.node, use.index, outer);
  });
  for (const s of selects) s.inputs.forEach((_, i) => editor.setInput(s, i, null));
  const types = dropping.map((v, i) => ({ dtype: shapes.dtype(v), rank: shapes.rank(v), dims: shapes.dims(boundary, v, whole[i], `b${boundary}_${i}`) }));
  for (const [i, t] of types.entries()) {
    if (t.dtype) continue;
    throw new Refusal({
      code: 'PD332',
      message: `the type of what crosses boundary ${boundary} is not known, and a branch must declare it`,
      culprit: dropping[i]?.name,
      hint: 'an op of a domain that is not known makes it: export with standard ONNX or ONNX Runtime ops, or compile with --no-control-flow, which needs no types',
    });
  }
  const branches = {
    then_branch: makeBranch(editor, says, { name: `boundary ${boundary}: tokens are dropped`, nodes: thenNodes, wanted: dropping, types }),
    else_branch: makeBranch(editor, says, { name: `boundary ${boundary}: all tokens stay`, nodes: elseNodes, wanted: whole, types }),
  };
  editor.take(new Set([...selects, ...thenNodes, ...elseNodes]));
  return b.control('If', `boundary ${boundary}`, condition, branches, outputs);
}
