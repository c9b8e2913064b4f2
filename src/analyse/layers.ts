/** From the residual stream and what stands beside it to layers: where each is entered, and which values a cut before it crosses. */
import { describeNode, Refusal } from '../diagnostics.js';
import { isRead, type Node, type Value } from '../ir/graph.js';
import { requireSoundCore } from './attention/sound.js';
import type { AttentionCore, Cut, Layer, Mixer } from './facts.js';
import { placeOf } from './bypass.js';
import type { PlacedMixer } from './mixers.js';
import type { Link, Spine } from './spine.js';

/**
 * The layers in order: each attention op and each mixer behind the link of the residual stream that it starts from. Attention that
 * stands behind none (a vision tower's) is no layer.
 *
 * @throws {Refusal} PD102 head counts that do not go together, PD303 two attention ops behind one link
 */
export function layersOf(spine: Spine, content: ReadonlySet<Value>, cores: readonly AttentionCore[], mixers: readonly PlacedMixer[]): Layer[] {
  const { links: chain } = spine;
  const found = new Map<number, { core?: AttentionCore; mixer?: Mixer }>();
  for (const { at, mixer } of mixers) found.set(at, { mixer });
  for (const core of cores) {
    requireSoundCore(core);
    const at = placeOf(spine, core);
    if (at < 0) continue;
    const beside = found.get(at);
    if (beside?.core) {
      throw new Refusal({
        code: 'PD303',
        message: 'two attention ops stand between the same two points of the residual stream',
        culprit: describeNode(core.anchor),
        hint: 'something bypasses the layers: cross-attention (image tokens must be part of the decoder sequence), keys shared between layers, or a skip connection over several layers; such graphs cannot be cut between layers',
      });
    }
    found.set(at, { ...beside, core });
  }
  const placed = [...found].sort(([a], [b]) => a - b);
  const entered = placed.map(([at, { core, mixer }], index): Layer => {
    const cut = cutAt(chain, at, content);
    const keysOf = core && placed.findIndex(([, earlier]) => earlier.core?.k.value === core.k.value && earlier.core.anchor !== core.anchor);
    const residual = cut.node ? residualOf(cut.node) : cut.values[0];
    return { index, cut, core, mixer, keysOf: keysOf !== undefined && keysOf >= 0 && keysOf < index ? keysOf : undefined, residual, middle: undefined };
  });
  return entered.map((layer, i): Layer => ({ ...layer, middle: middleOf(chain.slice((placed[i]?.[0] as number) + 1, placed[i + 1]?.[0]), entered[i + 1]) }));
}

/** The sum that a fused skip norm gives beside its norm; undefined for other nodes. */
function residualOf(node: Node): Value | undefined {
  return /^Skip(Simplified)?LayerNormalization$/.test(node.opType) ? (node.outputs[3] ?? undefined) : undefined;
}

/** Of the chain's links between two layers' entries: the hidden states that stand before the next layer's. */
function middleOf(links: readonly Link[], next: Layer | undefined): Value | undefined {
  if (!next) return undefined;
  for (const link of links) {
    const value = link.value ?? residualOf(link.node as Node);
    if (!value || value === next.residual || value.producer?.is('Cast') || value.producer?.is('Identity')) continue;
    if (link.node ? link.node === next.cut.node : next.cut.values.includes(value)) return undefined;
    if (value.producer?.is('Add') || link.node) return value;
  }
  return undefined;
}

/** Up through Cast and Identity, so that what is gathered is the residual stream itself. */
function cutAt(chain: readonly Link[], at: number, content: ReadonlySet<Value>): Cut {
  let i = at;
  for (;;) {
    const producer: Node | null | undefined = chain[i]?.value?.producer;
    if (i === 0 || !producer || !(producer.is('Cast') || producer.is('Identity'))) break;
    i--;
  }
  const link = chain[i] as Link;
  if (link.value) return { values: [link.value], node: undefined };
  const values = link.node.outputs.filter((o): o is Value => o !== null && content.has(o) && isRead(o));
  return { values, node: link.node };
}
