/** The mistakes people make, one a line: each is answered by name, with the way forward. */
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CODES } from '../../src/cli/codes.js';
import { compile } from '../../src/index.js';
import { cliJson } from '../support/cli.js';
import { folder } from '../support/folder.js';
import { encodeModel, fixturePath, type GraphProto, type ModelProto } from '../support/proto.js';

const MODEL = fixturePath('genai-llama-embeds-fp32');
const LVLM = dirname(fixturePath('lvlm'));
const bytes = (...parts: (string | number[])[]): Buffer => Buffer.concat(parts.map((p) => Buffer.from(p as string)));

/** A small convolutional classifier, as image models are exported. */
function resnet(): Uint8Array {
  const tensor = (name: string, dims: (number | string)[]) => ({ name, type: { tensorType: { elemType: 1, shape: { dim: dims.map((d) => (typeof d === 'number' ? { dimValue: d } : { dimParam: d })) } } } });
  const weight = (name: string, dims: number[]) => ({ name, dims, dataType: 1, rawData: new Uint8Array(4 * dims.reduce((a, b) => a * b, 1)) });
  const graph = {
    name: 'resnet',
    input: [tensor('data', ['N', 3, 32, 32])],
    output: [tensor('logits', ['N', 10])],
    initializer: [weight('w0', [4, 3, 3, 3]), weight('w1', [4, 4, 3, 3]), weight('fc', [10, 4])],
    node: [
      { opType: 'Conv', name: 'conv0', input: ['data', 'w0'], output: ['c0'] },
      { opType: 'Relu', name: 'relu0', input: ['c0'], output: ['r0'] },
      { opType: 'Conv', name: 'conv1', input: ['r0', 'w1'], output: ['c1'] },
      { opType: 'GlobalAveragePool', name: 'pool', input: ['c1'], output: ['p'] },
      { opType: 'Flatten', name: 'flat', input: ['p'], output: ['f'] },
      { opType: 'Gemm', name: 'fc', input: ['f', 'fc'], output: ['logits'], attribute: [{ name: 'transB', type: 2, i: 1 }] },
    ],
  };
  return encodeModel({ irVersion: 8, opsetImport: [{ domain: '', version: 17 }], graph: graph as unknown as GraphProto } as unknown as ModelProto);
}

describe('typical mistakes', () => {
  let compiled: string;
  const given = (name: string, content: string | Uint8Array): string => {
    const path = join(folder(), name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, content);
    return path;
  };
  beforeAll(async () => {
    compiled = join(mkdtempSync(join(tmpdir(), 'pdrop-mistakes-')), 'model.pdrop.onnx');
    await compile(MODEL, { output: compiled });
  });
  afterAll(() => rmSync(dirname(compiled), { recursive: true, force: true }));

  it.each<[what: string, args: () => string[], code: string, says: RegExp, forward: RegExp]>([
    ['the vision encoder', () => [join(LVLM, 'vision_encoder.onnx')], 'PD301', /this is a vision encoder: it turns pictures \(pixel_values\)/, /compile the decoder beside it/],
    ['the embedding graph', () => [join(LVLM, 'embed_tokens.onnx')], 'PD301', /this is an embedding graph: it looks up token ids/, /compile the decoder beside it.*--embed/],
    ['a ResNet', () => [given('resnet.onnx', resnet())], 'PD301', /a convolutional network over pictures \(data\)/, /there are none here/],
    ['an encoder-decoder', () => [join(LVLM, '..', 'refused', 'bart-decoder-ts17', 'model.onnx')], 'PD318', /cross-attention/, /./],
    ['a language model for text only', () => [fixturePath('llama-ts17-ids')], 'PD320', /which tokens are image tokens/, /text only has no image tokens, and nothing to drop/],
    ['OpenVINO', () => [given('openvino_model.xml', '<?xml version="1.0"?><net name="m"></net>')], 'PD101', /OpenVINO/, /ONNX export/],
    ['safetensors', () => [given('model.safetensors', bytes([72, 0, 0, 0, 0, 0, 0, 0], '{"__metadata__":{}}'))], 'PD101', /safetensors file: weights without a graph/, /export the model to ONNX/],
    ['an ORT-format model', () => [given('model.ort', bytes([24, 0, 0, 0], 'ORTM', [...Buffer.alloc(64)]))], 'PD101', /ORT-format/, /\.onnx file it was converted from/],
    ['GGUF', () => [given('model.gguf', 'GGUF\u0003\u0000\u0000\u0000')], 'PD101', /GGUF/, /original checkpoint/],
    ['a pointer of Git LFS', () => [given('model.onnx', 'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n')], 'PD101', /Git LFS pointer/, /git lfs pull/],
    ['an HTML page', () => [given('page.onnx', '<!DOCTYPE html><html></html>')], 'PD101', /HTML page/, /login/],
    ['config.json', () => [join(LVLM, 'config.json')], 'PD101', /JSON/, /\.onnx file of the decoder/],
    ['the weights beside a model', () => [given('model.onnx_data', 'weights')], 'PD002', /holds the weights of a model/, /the \.onnx file beside it: .*model\.onnx$/],
    ['an empty folder', () => [dirname(given('empty/.keep', ''))], 'PD607', /no ONNX graph/, /decoder file itself/],
    ['a folder of a checkpoint', () => [dirname(given('hf/model.safetensors', 'x'))], 'PD607', /a checkpoint: weights without a graph/, /optimum-cli export onnx/],
    ['a path that is not there', () => [join(folder(), 'model.onnx')], 'PD002', /ENOENT/, /check the path/],
    ['a model that is compiled already', () => [compiled], 'PD316', /compiled by pdrop-compile already/, /compile the original/],
    ['λ of 50', () => [MODEL, '--lambda', '50'], 'PD010', /"50" is outside/, /write 0\.5 for 50%/],
    ['λ with a comma', () => [MODEL, '--lambda', '0,5'], 'PD010', /"0,5" is not a decimal/, /write 0\.5, with a point/],
    ['λ of 0', () => [MODEL, '--lambda', '0'], 'PD010', /outside \(0, 1\]/, /use --keep with 0/],
    ['more stages than layers', () => [MODEL, '--stages', '40'], 'PD314', /40 stages are more than the decoder has layers \(8\)/, /at most 8/],
    ['one stage', () => [MODEL, '--stages', '1'], 'PD011', /at least 2 stages/, /from 2/],
    ['layer 0', () => [MODEL, '--layers', '0,4'], 'PD011', /0 is not a layer tokens can be dropped before/, /is 1$/],
    ['a keep for every layer', () => [MODEL, '--keep', '0.5,0.25'], 'PD012', /2 ratios for 3 boundaries/, /one cumulative ratio for each boundary/],
    ['no image token id', () => [MODEL, '--image-mask', 'input-ids'], 'PD013', /input-ids is not understood/, /input-ids:<id>/],
    ['models in the wrong order', () => ['validate', compiled, MODEL], 'PD009', /wrong order/, /^validate .*model\.onnx .*model\.pdrop\.onnx$/],
    ['the original twice', () => ['validate', MODEL, MODEL], 'PD009', /carries no plan/, /original first and the compiled model second/],
    ['check of an original', () => ['check', MODEL], 'PD018', /carries no plan/, /compiled model/],
    ['a command with a letter too few', () => ['inspct', MODEL], 'PD001', /did you mean inspect\?/, /inspect --help/],
    ['an option with a letter too few', () => [MODEL, '--lamda', '0.5'], 'PD001', /did you mean --lambda\?/, /compile --help/],
    ['an option of another command', () => ['validate', MODEL, compiled, '--max-kll', '1'], 'PD001', /did you mean --max-kl\?/, /validate --help/],
    ['two models at once', () => [MODEL, compiled], 'PD001', /one model at a time/, /once for each/],
    ['a threshold in percent', () => ['validate', MODEL, compiled, '--min-top1', '95'], 'PD001', /shares go up to 1/, /write 0\.95 for 95%/],
    ['the output on the input', () => { const copy = given('copy.onnx', ''); cpSync(MODEL, copy); return [copy, '-o', copy, '--force']; }, 'PD005', /./, /./],
  ])('%s', async (_, args, code, says, forward) => {
    const { json, err } = await cliJson(...args());
    const error = json.error as { code: string; message: string; hint: string };
    expect([error.code, error.message, error.hint]).toEqual([code, expect.stringMatching(says), expect.stringMatching(forward)]);
    // Both ways to read on exist.
    expect(Object.keys(CODES)).toContain(code);
    expect(err).toContain(`docs/errors.md#${code.toLowerCase()}`);
  });
});
