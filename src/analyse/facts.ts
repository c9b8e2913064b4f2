/** What analysis finds out about a decoder graph: frozen facts, no editing. */
import type { Graph, Model, Node, Value } from '../ir/graph.js';
import type { NoOps } from './no-ops.js';
import type { Probes } from './probes.js';
import type { Spine } from './spine.js';

/** A KV cache input: float [batch, kv_heads, past, head_dim] (or token axis 1). */
export interface PastInput {
  readonly value: Value;
  readonly tokenAxis: number;
}

/** What the graph's inputs are, found by data flow. */
export interface InputRoles {
  /** Where the hidden states start: the `inputs_embeds` input, or the output of the embedding lookup. */
  readonly source: Value;
  readonly sourceKind: 'inputs_embeds' | 'input_ids';
  /** int [batch, sequence], when the graph takes token ids. */
  readonly inputIds: Value | undefined;
  /** [batch, past + sequence], 1 or true where a token is valid. */
  readonly attentionMask: Value | undefined;
  /** int [batch, sequence] or [n, batch, sequence] (mRoPE). */
  readonly positionIds: Value | undefined;
  /** int [sequence]: index of each token of the chunk in the cache. */
  readonly cachePosition: Value | undefined;
  /** Other inputs aligned with tokens: [.., batch, sequence, ..]. */
  readonly tokenInputs: readonly Value[];
  /** The one of them that marks image tokens, bool [batch, sequence], where the graph has one. */
  readonly imageMask: Value | undefined;
  readonly pasts: readonly PastInput[];
  /** Inputs of fixed size a row that come back renewed: the states of convolutions and recurrences. */
  readonly states: readonly Value[];
}

/** Rotary embedding that happens inside the attention op. */
export interface InternalRotary {
  readonly cos: Value;
  readonly sin: Value;
  readonly interleaved: boolean;
  /** 0: the whole head. */
  readonly rotaryDim: number;
  /** The op's position input, if it is given one. */
  readonly positions: Value | undefined;
}

export interface InternalNorm {
  readonly q: Value;
  readonly k: Value;
  readonly epsilon: number;
}

/**
 * How q or k lies in memory: `bhsd` [B,H,S,D], `bshd` [B,S,H,D], `bsx` [B,S,H*D]; `bhtd` [B,H,P+S,D] for keys that are made of
 * what the cache holds (multi-head latent attention), the chunk's last.
 */
export type HeadLayout = 'bhsd' | 'bshd' | 'bsx' | 'bhtd';

/** q or k as the attention sees it before the cache; a slice of the last axis when it is packed with others. */
export interface HeadOperand {
  readonly value: Value;
  readonly layout: HeadLayout;
  /** First element of the slice on the last axis; undefined when the whole value is meant. */
  readonly offset: number | undefined;
}

/** One attention, whatever ops it is made of. Nothing above knows dialects. */
export interface AttentionCore {
  readonly dialect: 'decomposed' | 'Attention' | 'GroupQueryAttention' | 'MultiHeadAttention';
  /** The fused op, or the Softmax. */
  readonly anchor: Node;
  /** All nodes of the core: from the QK product to the PV product. */
  readonly nodes: readonly Node[];
  readonly q: HeadOperand;
  readonly k: HeadOperand;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** Factor on q·k. */
  readonly scale: number;
  /** 0: none; else logits become c·tanh(logits / c). */
  readonly softcap: number;
  /** A bias that differs by head (ALiBi): times `factor` it is added to the logits, and ranks. Not content. */
  readonly bias: { readonly value: Value; readonly factor: number } | undefined;
  /** A logit a head that takes part in the softmax without a value; one of 0 where there is no parameter. */
  readonly sinks: { readonly value: Value | undefined } | undefined;
  readonly rotary: InternalRotary | undefined;
  readonly norm: InternalNorm | undefined;
  /** int32 [batch]: valid tokens − 1, of GroupQueryAttention. */
  readonly seqlensK: Value | undefined;
  readonly past: { readonly key: PastInput; readonly value: PastInput | undefined } | undefined;
  readonly present: { readonly key: Value; readonly value: Value | undefined } | undefined;
  /** True when the window is shorter than the context (local_window_size, cropped cache). */
  readonly croppedCache: boolean;
}

/** Where hidden states can be cut before a layer: these values cross, all else flows through them. */
export interface Cut {
  /** Values that cross. One for a value dominator; the used outputs for a node dominator. */
  readonly values: readonly Value[];
  readonly node: Node | undefined;
}

/** What mixes tokens in a layer without softmax attention: a short convolution, linear attention, a state space. */
export interface Mixer {
  /** Inputs of fixed size a row, [batch, …]. */
  readonly states: readonly Value[];
  /** The outputs they are handed on in. */
  readonly renewed: readonly Value[];
  /** All content nodes between the two links of the residual stream it stands between. */
  readonly nodes: ReadonlySet<Node>;
  /** What leaves it to the residual stream, aligned with tokens again. */
  readonly exits: readonly Value[];
}

/** One decoder layer, whatever mixes tokens in it: attention, another mixer, or both side by side. */
export interface Layer {
  readonly index: number;
  readonly cut: Cut;
  readonly core: AttentionCore | undefined;
  readonly mixer: Mixer | undefined;
  /** The earlier layer whose keys and values this one uses again; undefined where it has its own. */
  readonly keysOf: number | undefined;
  /** Hidden states that enter the layer, [batch, sequence, hidden], where one value holds them. */
  readonly residual: Value | undefined;
  /** Hidden states between the layer's attention (or other mixer) and its MLP; undefined where they stand side by side. */
  readonly middle: Value | undefined;
}

export interface AttentionLayer extends Layer {
  readonly core: AttentionCore;
}

export interface DecoderFacts {
  readonly model: Model;
  readonly graph: Graph;
  readonly roles: InputRoles;
  readonly logits: Value;
  readonly spine: Spine;
  readonly layers: readonly Layer[];
  /** The layers that have attention. */
  readonly attention: readonly AttentionLayer[];
  /** Values that depend on the hidden states other than through their shape. */
  readonly content: ReadonlySet<Value>;
  readonly probes: Probes;
  /** Attention found in the graph that is not on the decoder's chain (a vision tower's). */
  readonly otherAttention: number;
  readonly hiddenSize: number;
  /** Length of the chunk where the export fixed it (the decode half of a split pair takes 1). */
  readonly fixedSequence: number | undefined;
  /** What was taken out of the graph because it does nothing; to be put back before it is written. */
  readonly noOps: NoOps;
  /** Inputs with a size that nothing tells, and whatever is made of them: what the probes say of these is a guess. */
  readonly guessed: ReadonlySet<Value>;
  /** Inputs declared like the tokens that are something else, with the node that tells. */
  readonly notAligned: ReadonlyMap<Value, { readonly reason: string; readonly node: Node }>;
}
