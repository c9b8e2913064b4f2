/**
 * Frames: what a value is worth in each stage.
 *
 * `instantiate(value, j)` returns the value as stage j sees it. A root (attention mask, positions, the cache of a layer
 * of another stage) is replaced by the stage's own; content of an earlier stage is gathered; content of a later stage
 * is cloned (ranking needs the next layer's keys); any other node is cloned when, and only when, one of its inputs
 * changes. Masks, positions and lengths are thus computed by the model's own subgraph, on a shorter sequence.
 *
 * Most chunks lose nothing: every decode step, every text. So what several stages share comes in two versions, one for
 * a chunk that loses tokens (src/rewrite/dropped.ts) and one for a chunk that does not (src/rewrite/whole.ts), and the
 * stage reads the one that applies. Lengths need no versions: they are read off shapes.
 */
import { describeNode, InternalError, Refusal } from '../diagnostics.js';
import { DataType, type Node, type Value } from '../ir/graph.js';
import { at, settle } from '../ir/settle.js';
import type { DecoderFacts } from '../analyse/facts.js';
import type { Builder } from './builder.js';
import { shapeFromAxes, shapePart } from './content-shapes.js';
import { noteCopy } from './copies.js';
import { DroppedView } from './dropped.js';
import type { FrameForm, FramesView } from './frames-view.js';
import { Gathering, short } from './gathering.js';
import { Lengths } from './lengths.js';
import { roundsByItself } from './quantized.js';
import { Relations } from './relations.js';
import { MaskStart, pastOfStage } from './roots.js';
import { readsCopies, ShapeOperands } from './shape-operands.js';
import { Selections } from './selections.js';
import { isShapeOf, Standing } from './standing.js';
import { type Stages, tokenRowsAt } from './stages.js';
import type { ChunkDrops, ChunkTokens, StageTokens } from './tokens.js';
import { stagesOfUse } from './uses.js';
import { WholeView } from './whole.js';

export class Frames implements FramesView {
  readonly facts: DecoderFacts;
  readonly stages: Stages;
  readonly builder: Builder;
  readonly positions: 'compact' | 'keep';
  readonly form: FrameForm;
  /** Non-content values that change with the frame. */
  readonly dependent: ReadonlySet<Value>;
  readonly standing: Standing;
  readonly lengths: Lengths;
  readonly gathering: Gathering;
  readonly relations: Relations;
  readonly maskStart: MaskStart;
  readonly selections: Selections;
  /** With kept positions that the graph computes itself: where a stage gathers frame 0's values. */
  readonly positionValues: ReadonlySet<Value>;
  /** Clones by the node they were made from, in the order they were made. */
  readonly clones = new Map<Node, Node[]>();
  readonly #memo: Map<Value, Value>[];
  readonly #tokens: StageTokens[] = [];
  readonly #dropped: DroppedView;
  readonly #whole: WholeView;
  readonly #shapeOperands: ShapeOperands;
  /** By value: the first stage that reads it. */
  readonly #firstStage: ReadonlyMap<Value, number>;
  readonly #branchable = new Map<Value, boolean>();
  readonly #places = new Map<number, Value>();
  #chunk: ChunkTokens | undefined;

  constructor(facts: DecoderFacts, stages: Stages, builder: Builder, options: { positions: 'compact' | 'keep'; positionValues: ReadonlySet<Value>; form: FrameForm }) {
    this.facts = facts;
    this.stages = stages;
    this.builder = builder;
    this.positions = options.positions;
    this.form = options.form;
    this.dependent = stages.dependent;
    this.standing = new Standing(facts, stages, this.dependent);
    this.positionValues = options.positionValues;
    this.#memo = Array.from({ length: stages.count + 1 }, () => new Map());
    this.lengths = new Lengths(facts, stages, builder, { batch: () => this.chunk.batch1, chunk: (j) => this.#chunkLength(j) });
    this.gathering = new Gathering(builder, this);
    const { first, shared } = stagesOfUse(facts, stages, this.dependent);
    this.#firstStage = first;
    this.relations = new Relations(facts, shared, options.positions);
    this.maskStart = new MaskStart(facts, builder);
    this.selections = new Selections(facts);
    this.#dropped = new DroppedView(this);
    this.#whole = new WholeView(this);
    this.#shapeOperands = new ShapeOperands(facts, builder);
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

  /** Stage of a value of the original graph: where its node runs, or, without content, where it is worked out. */
  stageOf(value: Value): number {
    return this.facts.content.has(value) ? this.stages.homeOf(value) : (this.standing.stageOf(value) ?? 0);
  }

  tokens(stage: number): StageTokens {
    const t = this.#tokens[stage];
    if (!t) throw new InternalError(`stage ${stage} has no tokens yet`);
    return t;
  }

  /** The value as stage `j` sees it. */
  instantiate(value: Value, j: number): Value {
    return settle(value, this.#memo[j] as Map<Value, Value>, (v) => {
      const direct = this.#direct(v, j);
      if (direct) return at(() => direct);
      const node = v.producer as Node;
      return { needs: [...node.inputs.filter((i) => i !== null), ...node.captures], make: () => this.#clone(v, node, j) };
    });
  }

  /** What is had without cloning the value's node. */
  #direct(value: Value, j: number): Value | undefined {
    const { content } = this.facts;
    if (content.has(value)) {
      const home = this.stages.homeOf(value);
      if (home === j) return value;
      // Rows are gathered as they were quantized: a product with its dequantized inputs stays what a runtime fuses.
      if (home > j || roundsByItself(value.producer, content, (v) => this.facts.probes.dtype(v))) return undefined;
      const before = this.instantiate(value, j - 1);
      const kept = this.gathering.fromPrevious(before, this.facts.probes.axes(value), j, value);
      return kept === before ? before : this.select(short(value), j, kept, before);
    }
    if (!this.dependent.has(value)) return value;
    const past = this.facts.roles.pasts.find((p) => p.value === value);
    if (past) return pastOfStage(this, past, j);
    if (j === 0) return this.#inFirst(value);
    if (!value.producer || this.positionValues.has(value)) return this.#either(value, j);
    if (this.standing.stageOf(value) === j) return value;
    const constant = this.fold(value);
    if (constant) return constant;
    if (this.#isShared(value, j)) {
      const relation = this.relations.always(value);
      if (relation && (relation.kind === 'sizes' || this.isInFirst(value))) return this.lengths.related(relation, () => this.instantiate(value, 0), value, j);
      if (this.#canBranch(value)) return this.#either(value, j);
    }
    return isShapeOf(value, content) ? this.#shapeOfContent(value.producer, j) : undefined;
  }

  #inFirst(value: Value): Value | undefined {
    if (!value.producer || this.standing.stageOf(value) === 0) return value;
    const constant = this.fold(value);
    if (constant) return constant;
    return isShapeOf(value, this.facts.content) ? this.#shapeOfContent(value.producer, 0) : undefined;
  }

  /** The version for a chunk that loses tokens, and the one for a chunk that does not. */
  #either(value: Value, j: number): Value {
    if (this.form === 'whole') return this.#whole.instantiate(value, j);
    const dropping = this.#dropped.instantiate(value, j);
    if (this.form === 'flat') return dropping;
    const whole = this.#whole.instantiate(value, j);
    return dropping === whole ? whole : this.select(short(value), j, dropping, whole);
  }

  select(label: string, j: number, dropping: Value, whole: Value): Value {
    return this.form === 'branches' ? this.builder.select(`${label}_s${j}`, j, this.drops.any, dropping, whole) : dropping;
  }

  /** True when the first stage reads the value, so that it is there. */
  isInFirst(value: Value): boolean {
    return this.#firstStage.get(value) === 0;
  }

  /** True when an earlier stage reads the value as well: it stays, so an instance is work that comes on top. */
  #isShared(value: Value, j: number): boolean {
    return (this.#firstStage.get(value) ?? Number.POSITIVE_INFINITY) < j;
  }

  /** True when the value can be had before anything of stage j has been computed. */
  #canBranch(value: Value): boolean {
    return settle(value, this.#branchable, (v) => {
      const node = v.producer;
      if (!node || !this.dependent.has(v)) return at(() => true);
      if (node.captures.length > 0) return at(() => false);
      if (isShapeOf(v, this.facts.content)) return at(() => shapePart(node, this.facts.probes.axes(node.inputs[0] as Value))?.every((a) => a !== '?') ?? false);
      const needs = node.inputs.filter((i) => i !== null);
      return { needs, make: () => needs.every((i) => this.#branchable.get(i)) };
    });
  }

  /** The value's node with its inputs instantiated. */
  #clone(value: Value, node: Node, j: number): Value {
    const copy = this.cloneNode(node, (v) => this.instantiate(v, j));
    this.noteClone(node, copy);
    return noteCopy(node, copy, this.#memo[j] as Map<Value, Value>, value);
  }

  /** A copy of a node over instances of its inputs. */
  cloneNode(node: Node, instance: (v: Value) => Value): Node {
    const shape = this.shapeOperand(node);
    const inputs = node.inputs.map((v, i) => (v ? (i === 1 && shape ? shape : instance(node.is('Shape') ? this.#uncast(v) : v)) : null));
    if (node.captures.some((v) => instance(v) !== v)) {
      throw new Refusal({
        code: 'PD308',
        message: 'a subgraph (If, Loop, Scan) reads values that differ between stages',
        culprit: describeNode(node),
        hint: 'export without control flow on the sequence path',
      });
    }
    const copy = this.builder.clone(node, inputs);
    if (shape) readsCopies(copy);
    return copy;
  }

  /** What has the shape of the value: a cache is not cast for its length. */
  #uncast(value: Value): Value {
    let v = value;
    while (v.producer?.is('Cast') && v.producer.inputs[0] && this.dependent.has(v)) v = v.producer.inputs[0];
    return v;
  }

  /** What a Reshape or an Expand of a later stage may read as its shape (input 1), where nothing has to be worked out for it. */
  shapeOperand(node: Node): Value | undefined {
    const shape = node.inputs[1];
    if (!shape || !this.dependent.has(shape)) return undefined;
    return this.#shapeOperands.constant(node) ?? (this.#shapeOperands.isSameInAll(node) ? this.instantiate(shape, 0) : undefined);
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
    const data = this.standing.isFixed(value) ? this.facts.probes.constant(value) : undefined;
    const axes = this.facts.probes.axes(value);
    const dtype = this.facts.probes.dtype(value);
    const foldable = dtype === DataType.INT64 || dtype === DataType.INT32 || dtype === DataType.FLOAT || dtype === DataType.BOOL;
    if (!data || data.length > 64 || !axes?.every((a) => typeof a === 'number') || !foldable) return undefined;
    if (dtype !== DataType.FLOAT && !data.every(Number.isSafeInteger)) return undefined;
    return this.builder.constant(dtype, data, axes as number[]);
  }

  // ---- tokens and shapes -------------------------------------------------------------------------------------

  /** int64 [1]: S_j, read off what crosses the boundary. */
  #chunkLength(j: number): Value {
    if (j === 0 || this.form === 'whole') return this.tokens(0).length1;
    if (this.form === 'flat') return this.tokens(j).length1;
    const { probes } = this.facts;
    const crossing = [...(this.stages.crossing[j - 1] ?? [])].find((v) => tokenRowsAt(probes.axes(v)) !== undefined);
    if (!crossing) throw new InternalError(`nothing crosses boundary ${j}`);
    return this.builder.size(`length_s${j}`, this.instantiate(crossing, j), (tokenRowsAt(probes.axes(crossing)) as number) + 1);
  }

  /** int64 [B, S_j]: index of each token of stage j in the incoming chunk. */
  placesIn(j: number): Value {
    let places = this.#places.get(j);
    if (!places) {
      const b = this.builder;
      if (j === 0) places = b.op('Expand', 'places', [this.lengths.range(0), b.concat('places_shape', [this.chunk.batch1, this.lengths.chunk(0)], 0)]);
      else {
        const { origin } = this.tokens(j);
        places = origin ? this.select('places', j, origin, this.placesIn(0)) : this.placesIn(0);
      }
      this.#places.set(j, places);
    }
    return places;
  }

  /** Shape of a content value in stage j, without computing the value there merely for its shape. */
  #shapeOfContent(node: Node, j: number): Value | undefined {
    const x = node.inputs[0] as Value;
    const home = this.stages.homeOf(x);
    const crosses = home <= j && Array.from({ length: j - home }, (_, i) => home + i).every((i) => this.stages.crossing[i]?.has(x));
    if (crosses) return undefined;
    return shapeFromAxes(this, node, j, (a) => this.lengths.axis(a, j));
  }
}
