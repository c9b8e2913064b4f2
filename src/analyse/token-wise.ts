/**
 * Proves that behind a boundary only attention mixes tokens.
 *
 * Dropping tokens is the model's own computation on fewer tokens only where every other op treats each token alone: a
 * convolution, a recurrence, a running sum or a pooling over the sequence would silently compute something else. So
 * each content node behind the first boundary must be known to be token-wise; what is not known is refused.
 *
 * A value's token axis is followed from the cut by the ops' own rules, not guessed from sizes: an axis, and how many
 * elements of it belong to one token (more than one after a Reshape that merges heads or features into it).
 *
 * Where the rules end (a router that sorts tokens by expert, multiplies them group by group and sorts them back), the piece
 * between two links of the residual stream is evaluated instead: on some of the tokens it must give what it gives for them
 * among all.
 */
import { describeNode, Refusal } from '../diagnostics.js';
import { addOutputs, type Node, type Value } from '../ir/graph.js';
import type { AttentionCore, DecoderFacts, Layer } from './facts.js';
import type { Axis } from './probes.js';
import { carriesNoContent } from './spine.js';
import { strangers, unknownInput } from './strangers.js';
import { TokenProof } from './terms/index.js';
import { mixes, RULES, stepOf, type TokenState } from './token-rules/index.js';

/**
 * @param boundary first layer that sees fewer tokens
 * @throws {Refusal} PD308 naming the first node that mixes tokens, or whose effect on tokens is not known
 */
export function requireTokenWise(facts: DecoderFacts, boundary: number): void {
  const layer = facts.layers[boundary];
  if (layer) new Walk(facts).run(layer);
}

class Walk {
  readonly #facts: DecoderFacts;
  readonly #states = new Map<Value, TokenState>();
  /** Nodes of attention cores, each with the core it belongs to. */
  readonly #cores = new Map<Node, AttentionCore>();
  readonly #proof: TokenProof;
  /** Nodes of pieces that were evaluated. */
  readonly #proved = new Set<Node>();
  /** Nodes of convolutions and recurrences with a state: what they do with tokens is theirs, as in attention. */
  readonly #mixers = new Map<Node, Layer>();

  constructor(facts: DecoderFacts) {
    this.#facts = facts;
    for (const { core } of facts.attention) for (const n of core.nodes) this.#cores.set(n, core);
    for (const layer of facts.layers) for (const n of layer.mixer?.nodes ?? []) this.#mixers.set(n, layer);
    this.#proof = new TokenProof(facts);
  }

  run(first: Layer): void {
    const { graph, content } = this.#facts;
    const strange = strangers(this.#facts);
    const behind = new Set<Value>(first.cut.values);
    for (const v of first.cut.values) this.#states.set(v, this.#fromSizes(v));
    // The decode half of a split pair: one token, nothing to drop, nothing to mix.
    if (!first.cut.values.some((v) => this.#stateOf(v).kind === 'tokens')) return;
    for (const node of graph.nodes) {
      if (node === first.cut.node || carriesNoContent(node) || !node.readsOneOf(behind)) continue;
      const reads = node.reads.filter((v): v is Value => v !== null && content.has(v));
      if (!reads.some((v) => behind.has(v))) continue;
      addOutputs(node, behind);
      const stranger = strange.size > 0 && node.inputs.map((v) => v && strange.get(v)).find((v) => v);
      if (stranger) throw unknownInput(stranger, strange, node, this.#facts);
      if (this.#proved.has(node)) continue;
      const mixing = this.#mixers.get(node);
      if (mixing) {
        this.#mix(node, mixing, reads);
        continue;
      }
      let out: readonly TokenState[];
      try {
        out = this.#node(node, reads);
      } catch (error) {
        if (!(error instanceof Refusal)) throw error;
        this.#evaluate(node, error);
        continue;
      }
      node.outputs.forEach((o, i) => {
        if (o) this.#states.set(o, out[i] ?? out[0] ?? { kind: 'none' });
      });
    }
  }

  /** A mixer takes the stage's tokens whole and in order; what leaves it to the residual stream is aligned again. */
  #mix(node: Node, { mixer }: Layer, reads: readonly Value[]): void {
    const outside = reads.filter((v) => !v.producer || !mixer?.nodes.has(v.producer));
    if (outside.some((v) => this.#stateOf(v).kind === 'picked')) throw refusal(node, 'it takes some tokens of the sequence only');
    for (const o of node.outputs) if (o) this.#states.set(o, mixer?.exits.includes(o) ? this.#fromSizes(o) : { kind: 'picked' });
  }

  #node(node: Node, reads: readonly Value[]): readonly TokenState[] {
    const states = reads.map((v) => this.#stateOf(v));
    const core = this.#cores.get(node);
    if (core) return this.#coreNode(node, core, states);
    if (states.some((s) => s.kind === 'scores')) return [{ kind: 'scores' }];
    const aligned = states.some((s) => s.kind === 'tokens');
    const picked = states.some((s) => s.kind === 'picked');
    // Behind a selection (the last token's logits) nothing is aligned with tokens any more, and anything goes.
    if (!aligned) return [{ kind: picked ? 'picked' : 'none' }];
    if (picked) throw refusal(node, 'it brings some tokens of the sequence together with all of them');
    if (node.captures.length > 0 || node.subgraphs.length > 0) throw refusal(node, 'what its subgraph does with tokens is not analysed', node.is('If') ? BY_SIZE : undefined);
    const rule = RULES.get(node.domain)?.get(node.opType);
    if (!rule) throw refusal(node, 'it is not known to treat each token alone');
    const { content, probes } = this.#facts;
    const step = stepOf(node, probes, this.#facts.model.opsets.get('') ?? 0, (v) => (content.has(v) ? this.#stateOf(v) : { kind: 'none' }));
    const out = rule(step);
    if (mixes(out)) throw refusal(node, out.mixes);
    return out;
  }

  /** Inside a core tokens meet; its products' operands must be whole sequences, and what leaves it is aligned again. */
  #coreNode(node: Node, core: AttentionCore, states: readonly TokenState[]): readonly TokenState[] {
    if (states.some((s) => s.kind === 'picked')) throw refusal(node, 'attention over some tokens of the sequence only');
    if (node !== core.nodes.at(-1) && core.nodes.length > 1) return [{ kind: 'scores' }];
    return node.outputs.map((o, i) => (o && i === 0 ? this.#fromSizes(o) : { kind: 'picked' }));
  }

  /** Evaluates the piece of the residual stream's chain that `node` lies in; `error` is what the rules say. */
  #evaluate(node: Node, error: Refusal): void {
    const { graph, content, probes } = this.#facts;
    const { links, last } = this.#facts.spine;
    const at = Math.max(-1, ...node.inputs.map((v) => (v ? (last.get(v) ?? -1) : -1)));
    const entry = links[at]?.value;
    const exit = links[at + 1]?.value;
    if (!entry || !exit || this.#stateOf(entry).kind !== 'tokens' || !hasTokenRows(probes.axes(entry)) || !hasTokenRows(probes.axes(exit))) throw error;
    const nodes = new Set<Node>();
    for (const n of graph.nodes) {
      const of = n.outputs.find((o) => o && content.has(o));
      if (!of || carriesNoContent(n) || (of !== exit && last.get(of) !== at) || n === entry.producer) continue;
      nodes.add(n);
    }
    if ([...nodes].some((n) => this.#cores.has(n))) throw error;
    const reason = this.#proof.refute({ entry, exit, nodes });
    if (reason !== undefined) throw new Refusal({ ...error.toJSON(), message: `${error.message}; evaluated, ${reason}` });
    for (const n of nodes) {
      this.#proved.add(n);
      // What else leaves the piece (a router's logits) is not known to be aligned.
      for (const o of n.outputs) if (o) this.#states.set(o, { kind: 'picked' });
    }
    this.#states.set(exit, this.#fromSizes(exit));
  }

  #stateOf(value: Value): TokenState {
    let state = this.#states.get(value);
    if (!state) {
      state = this.#fromSizes(value);
      this.#states.set(value, state);
    }
    return state;
  }

  /** Where a walk begins: the one axis whose size is the sequence's (or batch · sequence). */
  #fromSizes(value: Value): TokenState {
    const axes = this.#facts.probes.axes(value);
    const shapes = this.#facts.probes.facts.map((f) => f.shape(value));
    const at = axes?.flatMap((a, i) => (a === 'S' || a === 'T' || a === 'BS' ? [i] : [])) ?? [];
    const [axis] = at;
    if (axes && at.length === 0 && axes.every((a) => typeof a === 'number')) return { kind: 'none' };
    if (axis === undefined || at.length > 1) return { kind: 'picked' };
    return { kind: 'tokens', axis, inner: [1, 1], count: [shapes[0]?.[axis] ?? 0, shapes[1]?.[axis] ?? 0] };
  }
}

/** [batch, sequence, fixed …]. */
function hasTokenRows(axes: readonly Axis[] | null): boolean {
  return axes !== null && axes.length >= 2 && (axes[0] === 'B' || axes[0] === 1) && axes[1] === 'S' && axes.slice(2).every((a) => typeof a === 'number');
}

const BEHIND = 'choose boundaries behind this node with --layers; in hybrid models (convolution or recurrent layers) that means behind the last such layer';
const BY_SIZE = 'an If that asks for nothing but a size, as TorchScript writes squeeze (experts as batched_mm), is taken out by onnxslim: onnxslim model.onnx slim.onnx; else choose boundaries behind this node with --layers';

function refusal(node: Node, reason: string, hint = BEHIND): Refusal {
  return new Refusal({
    code: 'PD308',
    message: `behind a boundary only attention may mix tokens, but here ${reason}`,
    culprit: describeNode(node),
    hint,
  });
}
