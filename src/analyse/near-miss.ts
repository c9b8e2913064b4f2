/** For a graph that is refused: what in it looks like a layer, where understanding stopped, and what would help. */
import { describeNode, type DiagnosticDetail } from '../diagnostics.js';
import type { Decline } from './completeness.js';
import type { CrossAttention } from './cross-attention.js';

/** What an analysis had found when it ended. */
export interface Trace {
  /** Attention ops that were understood. */
  understood: number;
  declines: readonly Decline[];
  cross: readonly CrossAttention[];
}

export interface NearMiss {
  /** The softmax, or the fused op. */
  readonly node: string;
  readonly looksLike: 'cross-attention' | 'attention in a spelling that is not understood' | 'fused attention in a form that is not understood';
  /** The node where the way to its queries, keys or values ends; null where nothing more is known. */
  readonly stoppedAt: string | null;
  readonly reason: string;
  readonly help: string;
  /** How many others stopped for the same reason. */
  readonly alike: number;
}

const HELP = {
  cross: 'nothing to compile: docs/cross-attention.md says what can be done instead',
  spelled: 'export with a current exporter (torch.onnx.export dynamo=True, opset 23: the standard Attention op), and before graph optimizers run; model-local functions inlined',
  fused: 'build it with separate query, key and value inputs of 3 dimensions, without a QKV bias input; for onnxruntime-genai models: GroupQueryAttention',
} as const;

export function nearMisses(trace: Trace, refusal: DiagnosticDetail): NearMiss[] {
  const found: NearMiss[] = [
    ...trace.cross.map(({ node, inputs }): NearMiss => ({
      node: describeNode(node),
      looksLike: 'cross-attention',
      stoppedAt: null,
      reason: `its keys are made of ${inputs.map((v) => `"${v.name}"`).slice(0, 3).join(', ')}`,
      help: HELP.cross,
      alike: 0,
    })),
    ...trace.declines.map(({ node, reason, at }): NearMiss => {
      const fused = !node.is('Softmax');
      return {
        node: describeNode(node),
        looksLike: fused ? 'fused attention in a form that is not understood' : 'attention in a spelling that is not understood',
        stoppedAt: at ? describeNode(at) : null,
        reason,
        help: fused ? HELP.fused : HELP.spelled,
        alike: 0,
      };
    }),
  ];
  // A meeting of tokens that does not even look like a softmax: what the refusal itself has found.
  if (found.length === 0 && refusal.code === 'PD319' && refusal.culprit) {
    found.push({ node: refusal.culprit, looksLike: 'attention in a spelling that is not understood', stoppedAt: null, reason: refusal.message, help: HELP.spelled, alike: 0 });
  }
  const kinds = new Map<string, NearMiss>();
  for (const miss of found) {
    // The first of each kind stands for the others: a decoder is refused layer by layer.
    const key = `${miss.looksLike}|${miss.reason}|${kindOf(miss.stoppedAt)}`;
    const first = kinds.get(key);
    kinds.set(key, first ? { ...first, alike: first.alike + 1 } : miss);
  }
  return [...kinds.values()].slice(0, 8);
}

function kindOf(node: string | null): string {
  return node?.split(' ')[0] ?? '';
}

