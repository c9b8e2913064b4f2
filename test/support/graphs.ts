/** Small graphs made by hand: what a decoder is at its barest, and things that look like one. */
import { FLOAT, float32, int64, INT64, modelOf, node, type ModelProto, type NodeProto, type TensorProto, valueInfo, weight } from './proto.js';

/** Patches and two attention layers: [batch, patches, 64] from pixels, no tokens anywhere. */
export function visionEncoder(): ModelProto {
  const layers = [0, 1].flatMap((l): NodeProto[] => attention(`v${l}`, l === 0 ? 'patches' : 'v0/out', l === 0 ? 'patches' : 'v0/out', `v${l}/out`));
  return modelOf({
    nodes: [
      node('Conv', ['pixel_values', 'kernel'], ['conv'], { kernel_shape: [4, 4], strides: [4, 4] }),
      node('Reshape', ['conv', 'flat'], ['flattened']),
      node('Transpose', ['flattened'], ['patches'], { perm: [0, 2, 1] }),
      ...layers,
    ],
    inputs: [valueInfo('pixel_values', FLOAT, ['batch', 3, 16, 16])],
    outputs: [valueInfo('v1/out', FLOAT, ['batch', 16, 64])],
    initializers: [weight('kernel', [64, 3, 4, 4]), int64('flat', [0, 64, -1]), ...attentionWeights(['v0', 'v1'])],
  });
}

function attention(name: string, x: string, memory: string, out: string, bias?: string): NodeProto[] {
  const part = (which: string, from: string): NodeProto[] => [
    node('MatMul', [from, `${name}/w${which}`], [`${name}/${which}`]),
    node('Reshape', [`${name}/${which}`, 'heads'], [`${name}/${which}4`]),
    node('Transpose', [`${name}/${which}4`], [`${name}/${which}t`], { perm: which === 'k' ? [0, 2, 3, 1] : [0, 2, 1, 3] }),
  ];
  return [
    ...part('q', x),
    ...part('k', memory),
    ...part('v', memory),
    node('MatMul', [`${name}/qt`, `${name}/kt`], [`${name}/scores`]),
    node('Mul', [`${name}/scores`, 'scale'], [`${name}/scaled`]),
    ...(bias ? [node('Add', [`${name}/scaled`, bias], [`${name}/masked`])] : []),
    node('Softmax', [bias ? `${name}/masked` : `${name}/scaled`], [`${name}/weights`], { axis: -1 }),
    node('MatMul', [`${name}/weights`, `${name}/vt`], [`${name}/mixed`]),
    node('Transpose', [`${name}/mixed`], [`${name}/back`], { perm: [0, 2, 1, 3] }),
    node('Reshape', [`${name}/back`, 'joined'], [`${name}/flat`]),
    node('MatMul', [`${name}/flat`, `${name}/wo`], [`${name}/o`]),
    node('Add', [x, `${name}/o`], [out]),
  ];
}

function attentionWeights(names: readonly string[]): TensorProto[] {
  return [
    int64('heads', [0, 0, 4, 16]),
    int64('joined', [0, 0, 64]),
    float32('scale', [0.25], []),
    ...names.flatMap((n) => ['wq', 'wk', 'wv', 'wo'].map((w) => weight(`${n}/${w}`, [64, 64]))),
  ];
}

export interface DecoderOptions {
  readonly layers?: number;
  /** Each layer is followed by attention to image features. */
  readonly cross?: boolean;
  /** Adds attention_mask [batch, sequence], added to the scores of every layer. */
  readonly mask?: boolean;
}

/** Layers of bare attention over inputs_embeds [batch, sequence, 64]; values of layer l are named `l<l>/…`. */
export function decoder({ layers = 4, cross = false, mask = false }: DecoderOptions = {}): ModelProto {
  const nodes: NodeProto[] = mask
    ? [
        node('Unsqueeze', ['attention_mask', 'mask_axes'], ['mask4']),
        node('Cast', ['mask4'], ['mask_number'], { to: FLOAT }),
        node('Sub', ['mask_number', 'unit'], ['mask_negative']),
        node('Mul', ['mask_negative', 'large'], ['bias']),
      ]
    : [];
  const names: string[] = [];
  let x = 'inputs_embeds';
  for (let l = 0; l < layers; l++) {
    nodes.push(...attention(`l${l}`, x, x, `l${l}/out`, mask ? 'bias' : undefined));
    names.push(`l${l}`);
    x = `l${l}/out`;
    if (cross) {
      nodes.push(...attention(`c${l}`, x, 'image_features', `c${l}/out`));
      names.push(`c${l}`);
      x = `c${l}/out`;
    }
  }
  nodes.push(node('MatMul', [x, 'head'], ['logits']));
  return modelOf({
    nodes,
    inputs: [valueInfo('inputs_embeds', FLOAT, ['batch', 'sequence', 64]), ...(cross ? [valueInfo('image_features', FLOAT, ['batch', 'patches', 64])] : []), ...(mask ? [valueInfo('attention_mask', INT64, ['batch', 'sequence'])] : [])],
    outputs: [valueInfo('logits', FLOAT, ['batch', 'sequence', 128])],
    initializers: [...attentionWeights(names), weight('head', [64, 128]), ...(mask ? [int64('mask_axes', [1, 2]), float32('unit', [1], []), float32('large', [1e4], [])] : [])],
  });
}
