/** What the two versions of an instance (src/rewrite/dropped.ts, src/rewrite/whole.ts) need of the frames. */
import type { DecoderFacts } from '../analyse/facts.js';
import type { Node, Value } from '../ir/graph.js';
import type { Builder } from './builder.js';
import type { Gathering } from './gathering.js';
import type { Lengths } from './lengths.js';
import type { Relations } from './relations.js';
import type { MaskStart } from './roots.js';
import type { Selections } from './selections.js';
import type { Stages } from './stages.js';
import type { Standing } from './standing.js';
import type { ChunkTokens, StageTokens } from './tokens.js';

/** `branches`: two versions, of which one runs. `flat`: the version for a chunk that loses tokens, always. `whole`: nothing is ever lost. */
export type FrameForm = 'branches' | 'flat' | 'whole';

export interface FramesView {
  readonly facts: DecoderFacts;
  readonly stages: Stages;
  readonly builder: Builder;
  readonly positions: 'compact' | 'keep';
  readonly form: FrameForm;
  readonly dependent: ReadonlySet<Value>;
  readonly positionValues: ReadonlySet<Value>;
  readonly standing: Standing;
  readonly lengths: Lengths;
  readonly gathering: Gathering;
  readonly relations: Relations;
  readonly maskStart: MaskStart;
  readonly selections: Selections;
  readonly chunk: ChunkTokens;
  tokens(stage: number): StageTokens;
  instantiate(value: Value, stage: number): Value;
  isInFirst(value: Value): boolean;
  fold(value: Value): Value | undefined;
  cloneNode(node: Node, instance: (v: Value) => Value): Node;
  noteClone(node: Node, copy: Node): void;
}
