/**
 * Frames: what a value is worth in each stage.
 *
 * `instantiate(value, j)` returns the value as stage j sees it. A root (attention mask, positions, the cache of a layer
 * of another stage) is replaced by the stage's own; content of an earlier stage is gathered; content of a later stage
 * is cloned (ranking needs the next layer's keys); any other node is cloned when, and only when, one of its inputs
 * changes. Masks, positions and lengths are thus computed by the model's own subgraph, on a shorter sequence.
 */
import { describeNode, InternalError, Refusal } from '../diagnostics.js';
import { DataType, type Node, type Value } from '../ir/graph.js';
import type { DecoderFacts, PastInput } from '../analyse/facts.js';
import type { Axis } from '../analyse/probes.js';
import type { Builder } from './builder.js';
import { dequantizes } from './quantized.js';
import { Standing } from './standing.js';
import { frameDependent, hasTokenRows, type Stages, uncuttable } from './stages.js';
import type { ChunkDrops, ChunkTokens, StageTokens } from './tokens.js';

export class Frames {
  readonly facts: DecoderFacts;
  readonly stages: Stages;
  readonly builder: Builder;
  readonly positions: 'compact' | 'keep';
  /** Non-content values that change with the frame. */
  readonly dependent: ReadonlySet<Value>;
  /** Clones by the node they were made from, in the order they were made. */
  readonly clones = new Map<Node, Node[]>();
  readonly #standing: Standing;
  readonly #memo: Map<Value, Value>[];
  readonly #tokens: StageTokens[] = [];
  readonly #flat = new Map<Value, Value>();
  readonly #cache = new Map<string, Value>();
  #chunk: ChunkTokens | undefined;
  #carried: Value | undefined;
  /** With kept positions that the graph computes itself: where a stage gathers frame 0's values. */
  readonly #positionValues: ReadonlySet<Value>;

  constructor(facts: DecoderFacts, stages: Stages, builder: Builder, positions: 'compact' | 'keep', positionValues: ReadonlySet<Value>) {
    this.facts = facts;
    this.stages = stages;
    this.builder = builder;
    this.positions = positions;
    this.dependent = frameDependent(facts);
    this.#standing = new Standing(facts, stages, this.dependent);
    this.#positionValues = positionValues;
    this.#memo = Array.from({ length: stages.count + 1 }, () => new Map());
  }

  setChunk(chunk: ChunkTokens): void {
    this.#chunk = chunk;
  }

  get chunk(): ChunkTokens {
    if (!this.#chunk) throw new InternalError('the pass that counts tokens has not run');
    return this.#chunk;
  }

  /** What the chunk loses; ranking and selecting need it. */
  get drops(): ChunkDrops {
    const { drops } = this.chunk;
    if (!drops) throw new InternalError('nothing is dropped without image tokens');
    return drops;
  }

  addStage(tokens: StageTokens): void {
    this.#tokens.push(tokens);
  }

  tokens(stage: number): StageTokens {
    const t = this.#tokens[stage];
    if (!t) throw new InternalError(`stage ${stage} has no tokens yet`);
    return t;
  }

  /** The value as stage `j` sees it. */
  instantiate(value: Value, j: number): Value {
    const memo = this.#memo[j] as Map<Value, Value>;
    let instance = memo.get(value);
    if (!instance) {
      instance = this.#make(value, j);
      memo.set(value, instance);
    }
    return instance;
  }

  #make(value: Value, j: number): Value {
    const { content } = this.facts;
    if (content.has(value)) {
      const home = this.stages.homeOf(value);
      if (home === j) return value;
      // Rows are gathered as they were quantized: a product with its dequantized inputs stays what a runtime fuses.
      if (home < j && dequantizes(value.producer, content)) return this.#clone(value, j);
      if (home < j) return this.gatherRows(this.instantiate(value, j - 1), this.facts.probes.axes(value), j, value);
      return this.#clone(value, j);
    }
    if (!this.dependent.has(value)) return value;
    if (j > 0 && this.#positionValues.has(value)) {
      const whole = this.instantiate(value, 0);
      const axes = this.facts.probes.axes(value);
      return axes?.includes('S') ? this.gatherFromChunk(whole, axes, j, value) : whole;
    }
    if (!value.producer) return this.#root(value, j);
    if (this.#standing.stageOf(value) === j) return value;
    const constant = this.fold(value);
    if (constant) return constant;
    if (value.producer.is('Shape') && value.producer.inputs[0] && content.has(value.producer.inputs[0])) return this.#shapeOfContent(value, value.producer, j);
    return this.#clone(value, j);
  }

  /** The value's node with its inputs instantiated. */
  #clone(value: Value, j: number): Value {
    const node = value.producer as Node;
    const inputs = node.inputs.map((v) => (v ? this.instantiate(v, j) : null));
    const captured = node.captures.map((v) => this.instantiate(v, j));
    if (captured.some((v, i) => v !== node.captures[i])) {
      throw new Refusal({
        code: 'PD308',
        message: 'a subgraph (If, Loop, Scan) reads values that differ between stages',
        culprit: describeNode(node),
        hint: 'export without control flow on the sequence path',
      });
    }
    const copy = this.builder.clone(node, inputs);
    this.noteClone(node, copy);
    const memo = this.#memo[j] as Map<Value, Value>;
    node.outputs.forEach((o, i) => {
      const made = copy.outputs[i];
      if (o && made) memo.set(o, made);
    });
    return copy.outputs[value.outputIndex] as Value;
  }

  noteClone(node: Node, copy: Node): void {
    const list = this.clones.get(node);
    if (list) list.push(copy);
    else this.clones.set(node, [copy]);
  }

  /**
   * A small value that is the same at all sizes, as a constant. Being equal at the probe sizes is not enough (a length
   * compared with a limit is): it must be made of fixed sizes only.
   */
  fold(value: Value): Value | undefined {
    const data = this.#standing.isFixed(value) ? this.facts.probes.constant(value) : undefined;
    const axes = this.facts.probes.axes(value);
    const dtype = this.facts.probes.dtype(value);
    const foldable = dtype === DataType.INT64 || dtype === DataType.INT32 || dtype === DataType.FLOAT || dtype === DataType.BOOL;
    if (!data || data.length > 64 || !axes?.every((a) => typeof a === 'number') || !foldable) return undefined;
    if (dtype !== DataType.FLOAT && !data.every(Number.isSafeInteger)) return undefined;
    return this.builder.constant(dtype, data, axes as number[]);
  }

  // ---- roots -------------------------------------------------------------------------------------------------

  #root(value: Value, j: number): Value {
    const { roles } = this.facts;
    const past = roles.pasts.find((p) => p.value === value);
    if (past) return this.#pastOf(past, j);
    if (j === 0) return value;
    if (value === roles.attentionMask) return this.#attentionMask(value, j);
    if (value === roles.positionIds) return this.#positionIds(value, j);
    if (value === roles.cachePosition) return this.#cachePosition(value, j);
    return this.gatherFromChunk(value, this.facts.probes.axes(value), j, value);
  }

  /** A cache of another stage is replaced by one of this stage: an exporter may read lengths from any layer. */
  #pastOf(past: PastInput, j: number): Value {
    const { attention: layers } = this.facts;
    const owner = layers.find((l) => l.core.past?.key.value === past.value || l.core.past?.value?.value === past.value);
    if (owner && this.stages.stageOfLayer(owner.index) === j) return past.value;
    const isValue = owner !== undefined && owner.core.past?.value?.value === past.value;
    const inStage = layers.filter((l) => l.core.past && this.stages.stageOfLayer(l.index) === j);
    const alike = inStage.find((l) => l.core.croppedCache === (owner?.core.croppedCache ?? false)) ?? inStage.find((l) => !l.core.croppedCache);
    if (!alike?.core.past) throw noCache(j, past.value);
    return (isValue ? alike.core.past.value : alike.core.past.key)?.value ?? alike.core.past.key.value;
  }

  get hasCache(): boolean {
    return this.facts.roles.pasts.length > 0;
  }

  #once(key: string, make: () => Value): Value {
    let v = this.#cache.get(key);
    if (!v) {
      v = make();
      this.#cache.set(key, v);
    }
    return v;
  }

  /** Lengths do not show in caches: `row` int64 [m], what stages 1 … m have dropped before the chunk. */
  setCarried(row: Value): void {
    this.#carried = row;
  }

  /** int64 [1]: tokens in the cache of stage j's layers before the chunk. */
  pastLength(j: number): Value {
    return this.#once(`past${j}`, () => {
      const b = this.builder;
      if (!this.hasCache) return b.ints([0]);
      const mask = this.facts.roles.attentionMask;
      if (this.#carried && mask) {
        if (j > 0) return b.op('Sub', `past_length_s${j}`, [this.pastLength(0), b.gather(`carried_s${j}`, this.#carried, b.ints([j - 1]), 0)]);
        return b.op('Sub', 'past_length_s0', [b.gather('total_length', b.op('Shape', 'total_shape', [mask]), b.ints([1]), 0), this.tokens(0).length1]);
      }
      const layer = this.facts.attention.find((l) => l.core.past && !l.core.croppedCache && this.stages.stageOfLayer(l.index) === j);
      const key = layer?.core.past?.key;
      // The layers before the first boundary may all be without a cache (a hybrid's convolutions): the mask spans it.
      if (!key && j === 0 && this.facts.roles.attentionMask) return this.#once('mask_past', () => b.op('Sub', 'mask_past', [this.#maskWidth(this.facts.roles.attentionMask as Value), this.tokens(0).length1]));
      if (!key) throw noCache(j, this.facts.roles.pasts[0]?.value);
      return b.gather(`past_length_s${j}`, b.op('Shape', `past_shape_s${j}`, [key.value]), b.ints([key.tokenAxis]), 0);
    });
  }

  #maskWidth(mask: Value): Value {
    const b = this.builder;
    return this.#once('mask_width', () => b.gather('mask_width', b.op('Shape', 'mask_shape', [mask]), b.ints([1]), 0));
  }

  /** int64 [1]: P_0 − P_j. */
  #pastShift(j: number): Value {
    return this.#once(`shift${j}`, () => this.builder.op('Sub', `past_shift_s${j}`, [this.pastLength(0), this.pastLength(j)]));
  }

  /** int64 [S_j]: 0, 1, …, S_j − 1. */
  range(j: number): Value {
    return this.#once(`range${j}`, () => {
      const b = this.builder;
      const length = b.op('Squeeze', `length_s${j}`, b.opset >= 13 ? [this.tokens(j).length1, b.ints([0])] : [this.tokens(j).length1]);
      return b.op('Range', `range_s${j}`, [b.int(0), length, b.int(1)]);
    });
  }

  /**
   * [B, P_j + S_j]: P_j entries of the incoming mask's past part, the first ones where the row starts with padding,
   * else the last ones; then the entries of the tokens that are left.
   */
  #attentionMask(mask: Value, j: number): Value {
    const b = this.builder;
    const origin = this.tokens(j).origin as Value;
    if (!this.hasCache) return b.gatherElements(`attention_mask_s${j}`, mask, origin, 1);
    const width = this.#maskWidth(mask);
    const past = this.#once('mask_past', () => b.op('Sub', 'mask_past', [width, this.tokens(0).length1]));
    const padded = this.#once('mask_padded', () => {
      const first = b.slice('mask_first', mask, b.ints([0]), b.ints([1]), 1);
      return b.op('Not', 'mask_padded', [b.cast('mask_first_bool', first, DataType.BOOL)]);
    });
    const skip = b.op('Where', `mask_skip_s${j}`, [padded, b.ints([0]), b.op('Sub', `mask_excess_s${j}`, [past, this.pastLength(j)])]);
    const pastScalar = b.op('Squeeze', `past_scalar_s${j}`, b.opset >= 13 ? [this.pastLength(j), b.ints([0])] : [this.pastLength(j)]);
    const pastRange = b.op('Range', `past_range_s${j}`, [b.int(0), pastScalar, b.int(1)]);
    const pastIndex = b.op('Add', `mask_past_index_s${j}`, [skip, pastRange]);
    const index = b.concat(`mask_index_s${j}`, [pastIndex, b.op('Add', `mask_chunk_index_s${j}`, [origin, past])], 1);
    return b.gatherElements(`attention_mask_s${j}`, mask, index, 1);
  }

  /** int64 [B, S_j]: tokens dropped before each token in its row, plus P_0 − P_j. */
  #compaction(j: number): Value {
    return this.#once(`compaction${j}`, () => {
      const b = this.builder;
      if (!this.tokens(j).rowsInPrevious) return this.#pastShift(j);
      const before = b.op('Sub', `dropped_before_s${j}`, [this.tokens(j).origin as Value, this.range(j)]);
      return this.hasCache ? b.op('Add', `compaction_s${j}`, [before, this.#pastShift(j)]) : before;
    });
  }

  #positionIds(positions: Value, j: number): Value {
    const b = this.builder;
    const kept = this.gatherFromChunk(positions, this.facts.probes.axes(positions), j, positions);
    if (this.positions === 'keep') return kept;
    const dtype = this.facts.probes.dtype(positions);
    const shift = dtype === DataType.INT64 ? this.#compaction(j) : b.cast(`compaction_cast_s${j}`, this.#compaction(j), dtype);
    // Padding may carry any position; a negative one would be out of range for ops that look positions up.
    return b.op('Max', `position_ids_s${j}`, [b.op('Sub', `position_ids_signed_s${j}`, [kept, shift]), b.constant(dtype, [0], [])]);
  }

  /** The stage's slots in its own cache: contiguous, from the first slot minus P_0 − P_j. */
  #cachePosition(value: Value, j: number): Value {
    const b = this.builder;
    const first = b.slice('cache_position_first', value, b.ints([0]), b.ints([1]), 0);
    const start = b.op('Sub', `cache_position_start_s${j}`, [first, this.#pastShift(j)]);
    return b.op('Add', `cache_position_s${j}`, [start, this.range(j)]);
  }

  // ---- gathering tokens --------------------------------------------------------------------------------------

  /** [B, S, X…] as [B·S, X…], made once. */
  flatten(value: Value, axes: readonly Axis[] | null, original: Value): Value {
    let flat = this.#flat.get(value);
    if (!flat) {
      if (!hasTokenRows(axes)) throw uncuttable(original, `it crosses the boundary but is laid out ${describeAxes(axes)}, not [batch, sequence, …]`);
      flat = this.builder.reshape(`${short(original)}_rows`, value, [-1, ...((axes as Axis[]).slice(2) as number[])]);
      this.#flat.set(value, flat);
    }
    return flat;
  }

  /** The rows of `value` (of stage j − 1) that stage j keeps. */
  gatherRows(value: Value, axes: readonly Axis[] | null, j: number, original: Value): Value {
    const rows = this.tokens(j).rowsInPrevious;
    if (!rows) return value;
    return this.builder.gather(`${short(original)}_s${j}`, this.flatten(value, axes, original), rows, 0);
  }

  /** int64 [B, S_j]: row of each of stage j's tokens in the incoming chunk's [B·S, …]. */
  #rowsInChunk(j: number): Value {
    if (j === 1) return this.tokens(1).rowsInPrevious as Value;
    return this.#once(`rows${j}`, () => {
      const b = this.builder;
      const offset = this.#once('row_offset', () => b.op('Mul', 'row_offset', [this.chunk.rows, this.chunk.length]));
      return b.op('Add', `rows_in_chunk_s${j}`, [this.tokens(j).origin as Value, offset]);
    });
  }

  /** The entries of stage j's tokens in a value of frame 0: [B, S], [n…, B, S, X…], or [1, S, X…] without a batch. */
  gatherFromChunk(value: Value, axes: readonly Axis[] | null, j: number, original: Value): Value {
    if (!this.tokens(j).rowsInPrevious) return value;
    const b = this.builder;
    const at = axes?.indexOf('S') ?? -1;
    if (!axes || at < 0 || axes.lastIndexOf('S') !== at) throw uncuttable(original, `it is laid out ${describeAxes(axes)} and must be gathered by token`);
    const origin = this.tokens(j).origin as Value;
    const label = `${short(original)}_s${j}`;
    if (axes.length === 2 && at === 1 && axes[0] === 'B') return b.gatherElements(label, value, origin, 1);
    const tail = axes.slice(at + 1);
    const lead = axes.slice(0, at - 1);
    if (at >= 1 && axes[at - 1] === 'B' && [...lead, ...tail].every((a) => typeof a === 'number')) {
      const rows = b.reshape(`${short(original)}_rows`, value, [...(lead as number[]), -1, ...(tail as number[])]);
      return b.gather(label, rows, this.#rowsInChunk(j), lead.length);
    }
    // No batch axis: every row keeps other tokens, so the batch takes the place of a leading 1.
    if (at >= 1 && axes.slice(0, at).every((a) => a === 1) && tail.every((a) => typeof a === 'number')) {
      const table = b.reshape(`${short(original)}_table`, value, [-1, ...(tail as number[])]);
      const gathered = b.gather(label, table, origin, 0);
      return at === 1 ? gathered : b.unsqueeze(`${label}_aligned`, gathered, Array.from({ length: at - 1 }, (_, i) => i + 1));
    }
    throw new Refusal({
      code: 'PD305',
      message: `positions laid out ${describeAxes(axes)} have no batch axis, so rows cannot keep different tokens`,
      culprit: original.name,
      hint: 'use --positions compact, or export with position_ids [batch, sequence] as an input',
    });
  }

  // ---- shapes ------------------------------------------------------------------------------------------------

  /** int64 [1] for one axis of a value in stage j. */
  #axisSize(axis: Axis, j: number, original: Value): Value {
    const b = this.builder;
    switch (axis) {
      case 'B':
        return this.chunk.batch1;
      case 'S':
        return this.tokens(j).length1;
      case 'P':
        return this.pastLength(j);
      case 'T':
        return this.#once(`total${j}`, () => b.op('Add', `total_length_s${j}`, [this.pastLength(j), this.tokens(j).length1]));
      case 'BS':
        return this.#once(`count${j}`, () => b.op('Mul', `token_count_s${j}`, [this.chunk.batch1, this.tokens(j).length1]));
      case '?':
        throw uncuttable(original, `its size in a later stage is not known (${describeAxes(this.facts.probes.axes(original))})`);
      default:
        return b.ints([axis]);
    }
  }

  /** Shape of a content value in stage j, without computing the value there merely for its shape. */
  #shapeOfContent(value: Value, node: Node, j: number): Value {
    const x = node.inputs[0] as Value;
    const home = this.stages.homeOf(x);
    const here = home === j || (this.#memo[j] as Map<Value, Value>).has(x);
    const crosses = home < j && Array.from({ length: j - home }, (_, i) => home + i).every((i) => this.stages.crossing[i]?.has(x));
    if (here || crosses) return this.#clone(value, j);
    const axes = this.facts.probes.axes(x);
    if (!axes) throw uncuttable(x, 'its rank is not known');
    const wanted = axes.slice(node.int('start', 0), node.attributes.has('end') ? node.int('end', 0) : undefined);
    return this.#once(`shape|${j}|${wanted.join()}`, () =>
      this.builder.concat(
        `shape_s${j}`,
        wanted.map((a) => this.#axisSize(a, j, x)),
        0,
      ),
    );
  }
}

export function describeAxes(axes: readonly Axis[] | null): string {
  const words: Record<string, string> = { B: 'batch', S: 'sequence', P: 'past', T: 'past+sequence', BS: 'batch·sequence' };
  return axes ? `[${axes.map((a) => words[a] ?? String(a)).join(', ')}]` : '(rank unknown)';
}

/** The last part of a name, for readable names of what is made from it. */
function short(value: Value): string {
  return value.name.replace(/^.*\/(?=.*\/)/, '').replace(/[^\w./-]/g, '_').slice(-40);
}

function noCache(stage: number, culprit: Value | undefined): Refusal {
  return new Refusal({
    code: 'PD309',
    message: `no layer of stage ${stage} has a full-length cache: how many tokens the stage has seen cannot be read`,
    culprit: culprit?.name,
    hint: 'move the boundaries with --layers so that every stage has a full-attention layer; see `pdrop-compile inspect`',
  });
}

