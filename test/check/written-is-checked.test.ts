/** What `check` would refuse is not written: compile checks the bytes it is about to write. */
import { dirname } from 'node:path';
import { describe, expect, it } from 'vitest';
import { compile } from '../../src/index.js';
import { files, modelFile } from '../support/folder.js';
import { encodeModel, graphOf, loadModel, type ModelProto } from '../support/proto.js';

/** Each was compiled with exit code 0, and refused by `check` afterwards. */
const LIES: readonly [string, string, (m: ModelProto) => void, string, RegExp][] = [
  [
    'logits declared one shorter than they are',
    'llama-ts17-sdpa',
    (m) => {
      const dims = graphOf(m).output?.find((o) => o.name === 'logits')?.type?.tensorType?.shape?.dim;
      if (dims) dims[2] = { dimValue: 127 } as never;
    },
    'PD330',
    /"logits" is declared 127 long on axis 2 but is \d+/,
  ],
  [
    'a weight of the MLP without columns',
    'llama-dynamo18-eager',
    (m) => {
      const { node = [], initializer = [] } = graphOf(m);
      const product = node.findLast((n) => n.opType === 'Mul' && n.input?.some((i) => i.startsWith('silu')));
      const projection = node.find((n) => n.output?.[0] === product?.input?.[1]);
      for (const t of initializer) if (t.name === projection?.input?.[1]) Object.assign(t, { dims: [t.dims?.[0], 0], rawData: new Uint8Array() });
    },
    'PD102',
    /cannot broadcast/,
  ],
];

describe('a graph whose rewritten form fails the check is refused, and nothing is written', () => {
  it.each(LIES)('%s', async (_, fixture, lie, code, reason) => {
    for (const copyFirstBytes of [undefined, 0]) {
      const model = loadModel(fixture);
      lie(model);
      const path = modelFile(encodeModel(model));
      await expect(compile(path, { stages: 3, copyFirstBytes })).rejects.toMatchObject({ code, exitCode: 3, message: expect.stringMatching(reason) });
      expect(files(dirname(path))).toEqual(['model.onnx']);
    }
  });
});
