/** A folder in, a folder out. */
import { copyFileSync, cpSync, existsSync, linkSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import * as ort from 'onnxruntime-node';
import { expect, test } from 'vitest';
import { compile, compileFolder, type FolderReport, inspectFolder } from '../../src/index.js';
import { schemaComplaint, schemaOf } from '../../src/disk/schemas.js';
import { cli } from '../support/cli.js';
import { externalize } from '../support/external.js';
import { FIXTURES, SESSION } from '../support/fixtures.js';
import { files, folder } from '../support/folder.js';
import { encodeModel, FLOAT, float32, INT64, int64, modelOf, node, valueInfo } from '../support/proto.js';

const CONFIGS = ['config.json', 'generation_config.json', 'preprocessor_config.json', 'tokenizer.json', 'tokenizer_config.json'];

/** The shipped LVLM as transformers.js loads it; `variants`: precisions of the decoder (the same file under several names). */
function transformersJs(variants: readonly string[] = ['']): string {
  const root = join(folder(), 'lvlm');
  mkdirSync(join(root, 'onnx'), { recursive: true });
  for (const name of CONFIGS) copyFileSync(join(FIXTURES, 'lvlm', name), join(root, name));
  for (const name of ['vision_encoder', 'embed_tokens']) copyFileSync(join(FIXTURES, 'lvlm', `${name}.onnx`), join(root, 'onnx', `${name}.onnx`));
  for (const v of variants) copyFileSync(join(FIXTURES, 'lvlm', 'decoder_model_merged.onnx'), join(root, 'onnx', `decoder_model_merged${v}.onnx`));
  return root;
}

test('transformers.js: all variants with one plan, vision marked, the rest taken over, a table of it', async () => {
  const root = transformersJs(['', '_fp16', '_q4']);
  writeFileSync(join(root, 'onnx', 'large.bin'), Buffer.alloc(2 << 20, 7));
  const out = `${root}-out`;
  const before = files(root).map((f) => [f, statSync(join(root, f)).size]);
  const { code, out: text } = await cli(root, '-o', out, '--lambda', '0.7', '--no-measure');
  expect(code).toBe(0);
  for (const line of [/laid out for transformers\.js; compiled for transformers\.js/, /decoder_model_merged_q4\.onnx +compiled/, /vision_encoder\.onnx +marked/, /large\.bin +linked/, /tokenizer\.json +copied/]) expect(text).toMatch(line);
  expect(files(root).map((f) => [f, statSync(join(root, f)).size])).toEqual(before);
  expect(files(out)).toEqual(files(root));
  expect(statSync(join(out, 'onnx', 'large.bin')).ino).toBe(statSync(join(root, 'onnx', 'large.bin')).ino);
  expect(statSync(join(out, 'config.json')).ino).not.toBe(statSync(join(root, 'config.json')).ino);
  const bytes = (v: string): Buffer => readFileSync(join(out, 'onnx', `decoder_model_merged${v}.onnx`));
  expect(bytes('_q4').equals(bytes(''))).toBe(true);
  const session = await ort.InferenceSession.create(join(out, 'onnx', 'decoder_model_merged_fp16.onnx'), SESSION);
  expect(session.inputNames).not.toContain('image_token_mask');
  await session.release();
  expect(files(dirname(root)).some((f) => f.includes('.tmp-pdrop-'))).toBe(false);
});

test('the report follows its schema; --only leaves other precisions out', async () => {
  const root = transformersJs(['', '_q4f16']);
  const report = await compileFolder(root, { only: ['q4f16'], measure: false, lambda: 0.5 });
  expect(report.output).toBe(`${root}-pdrop`);
  expect(files(`${root}-pdrop`)).toEqual(files(root).filter((f) => f !== 'onnx/decoder_model_merged.onnx'));
  expect(report.files.find((f) => f.file === 'onnx/decoder_model_merged.onnx')).toMatchObject({ what: 'left out' });
  const check = schemaOf('report-folder');
  expect(check(JSON.parse(JSON.stringify(report))), schemaComplaint(check)).toBe(true);
  const one = schemaOf('report');
  for (const d of report.decoders) expect(one(JSON.parse(JSON.stringify(d))), schemaComplaint(one)).toBe(true);
  await expect(compileFolder(root, { only: ['int3'], output: `${root}-x` })).rejects.toMatchObject({ code: 'PD611', hint: expect.stringContaining('fp32, q4f16') });
});

test('external data comes along under its own name, once', async () => {
  const root = transformersJs();
  const model = externalize('llama-ts17-sdpa', 'decoder_model_merged_q4.onnx_data');
  rmSync(join(root, 'onnx', 'decoder_model_merged.onnx'));
  copyFileSync(model, join(root, 'onnx', 'decoder_model_merged_q4.onnx'));
  copyFileSync(join(dirname(model), 'decoder_model_merged_q4.onnx_data'), join(root, 'onnx', 'decoder_model_merged_q4.onnx_data'));
  const report = await compileFolder(root, { imageMask: 'input', measure: false });
  expect(files(report.output as string)).toEqual(files(root));
  expect(report.marks).toBe(null);
  await (await ort.InferenceSession.create(join(report.output as string, 'onnx', 'decoder_model_merged_q4.onnx'), SESSION)).release();
});

test('optimum: graphs beside their configs, marks where vision and embeddings are there', async () => {
  const root = join(folder(), 'flat');
  mkdirSync(root);
  for (const name of [...CONFIGS, 'vision_encoder.onnx', 'embed_tokens.onnx', 'decoder_model_merged.onnx']) copyFileSync(join(FIXTURES, 'lvlm', name), join(root, name));
  const report = await compileFolder(root, { dryRun: true });
  expect(report).toMatchObject({ layout: 'optimum', runtime: 'generic', output: null, plan: { imageMask: { kind: 'marks' } } });
  expect(files(dirname(root)).every((f) => f.startsWith('flat/'))).toBe(true);
});

test('monolithic: model.onnx, whose ids say which tokens are image tokens', async () => {
  const root = join(folder(), 'mono');
  mkdirSync(root);
  for (const name of ['config.json', 'model.onnx']) copyFileSync(join(FIXTURES, 'lvlm', name), join(root, name));
  const report = await compileFolder(root, { stages: 2 });
  expect(report).toMatchObject({ layout: 'monolithic', plan: { imageMask: { kind: 'input-ids', id: 4 } } });
  expect((await inspectFolder(root)).decoders[0]?.layers).toHaveLength(8);
  const { code, out } = await cli('inspect', report.output as string);
  expect(out).toMatch(/model\.onnx +decoder +compiled already/);
  expect(code).toBe(0);
});

/** An embedding graph that puts features into the places of image tokens and scales: them, or everything. */
function merging(scaled: 'before' | 'behind'): Uint8Array {
  const [features, merged] = scaled === 'before' ? ['scaled', 'inputs_embeds'] : ['image_features', 'merged'];
  const at = scaled === 'before' ? ['image_features', 'scaled'] : ['merged', 'inputs_embeds'];
  return encodeModel(
    modelOf({
      nodes: [
        node('Gather', ['table', 'input_ids'], ['looked']),
        node('Equal', ['input_ids', 'image'], ['is_image']),
        node('Unsqueeze', ['is_image', 'axis'], ['where']),
        ...(scaled === 'before' ? [node('Mul', [at[0] as string, 'factor'], [at[1] as string])] : []),
        node('Where', ['where', features as string, 'looked'], [merged as string]),
        ...(scaled === 'behind' ? [node('Mul', [at[0] as string, 'factor'], [at[1] as string])] : []),
      ],
      inputs: [valueInfo('input_ids', INT64, ['batch', 'sequence']), valueInfo('image_features', FLOAT, ['batch', 'sequence', 128])],
      outputs: [valueInfo('inputs_embeds', FLOAT, ['batch', 'sequence', 128])],
      initializers: [float32('table', Array.from({ length: 64 * 128 }, (_, i) => Math.sin(i)), [64, 128]), int64('image', [4], []), int64('axis', [2]), float32('factor', [11.3], [])],
    }),
  );
}

/** A genai folder of three graphs; `edit` changes its configuration. */
function genai(edit: (config: { model: Record<string, unknown>; search: Record<string, unknown> }) => void = () => {}): string {
  const root = join(folder(), 'genai');
  cpSync(join(FIXTURES, 'genai-phi3v'), root, { recursive: true });
  const path = join(root, 'genai_config.json');
  const config = JSON.parse(readFileSync(path, 'utf8'));
  edit(config);
  writeFileSync(path, JSON.stringify(config));
  return root;
}

const NAMED = { '<image_soft_token>': 77, '<|image|>': 78, '[IMG]': 79, '<|image_pad|>': 80 } as const;

test.each<[string, number | 'negative']>([['phi3v', 'negative'], ['phi4mm', 200010], ['gemma3', 77], ['gemma4', 78], ['mistral3', 79], ['qwen2_5_vl', 80]])('genai: image tokens of model type %s', async (type, id) => {
  const root = genai(({ model }) => {
    model.type = type;
  });
  writeFileSync(join(root, 'tokenizer.json'), JSON.stringify({ added_tokens: [null, ...Object.entries(NAMED).map(([content, i]) => ({ id: i, content }))] }));
  const report = await compileFolder(root, { lambda: 0.5 });
  expect(report.decoders[0]?.plan.imageMask).toEqual({ kind: 'input-ids', id });
  expect(report.warnings.join()).toMatch(/one beam.*rewind_to 0.*chunk_size/);
  expect(JSON.parse(readFileSync(join(report.output as string, 'genai_config.json'), 'utf8'))).toMatchObject({ model: { decoder: { inputs: { input_ids: 'input_ids' } } }, search: { past_present_share_buffer: true } });
});

test('genai: what the configuration says of image tokens comes first; a token that the tokenizer lacks is asked for', async () => {
  const said = genai(({ model }) => {
    Object.assign(model, { type: 'gemma3', image_token_id: 9 });
  });
  expect((await compileFolder(said, { lambda: 0.5 })).decoders[0]?.plan.imageMask).toEqual({ kind: 'input-ids', id: 9 });
  const unknown = genai(({ model }) => {
    model.type = 'gemma3';
  });
  await expect(compileFolder(unknown, { lambda: 0.5 })).rejects.toMatchObject({ code: 'PD320', hint: expect.stringContaining('input-ids:<id>') });
});

test('genai: negative ids mark what a mask marks', async () => {
  const root = genai();
  const out = { ids: join(root, 'ids.onnx'), mask: join(root, 'mask.onnx') };
  const options = { layers: [2, 4], keep: ['0.5', '0.25'], probe: true };
  await compile(join(root, 'model.onnx'), { ...options, imageMask: 'input-ids:negative', output: out.ids });
  await compile(join(root, 'model.onnx'), { ...options, imageMask: 'input', output: out.mask });
  const ids = [5, 9, -1, -1, -1, -1, -1, 7, -2, -2, -2, 11, 4];
  const feeds = {
    inputs_embeds: new ort.Tensor('float32', Float32Array.from({ length: ids.length * 32 }, (_, i) => Math.sin(i * i)), [1, ids.length, 32]),
    attention_mask: new ort.Tensor('int64', new BigInt64Array(ids.length).fill(1n), [1, ids.length]),
  };
  const run = async (path: string, extra: Record<string, ort.Tensor>): Promise<ort.InferenceSession.OnnxValueMapType> => {
    const session = await ort.InferenceSession.create(path, SESSION);
    const caches = Object.fromEntries(session.inputNames.filter((n) => n.startsWith('past')).map((n) => [n, new ort.Tensor('float32', [], [1, 1, 0, 16])]));
    const outputs = await session.run({ ...feeds, ...caches, ...extra });
    await session.release();
    return outputs;
  };
  const got = await run(out.ids, { input_ids: new ort.Tensor('int64', BigInt64Array.from(ids, BigInt), [1, ids.length]) });
  const want = await run(out.mask, { image_token_mask: new ort.Tensor('bool', Uint8Array.from(ids, (i) => Number(i < 0)), [1, ids.length]) });
  // 8 image tokens: 4 and 2 are kept, of 5 that are text.
  expect(got.logits?.dims).toEqual([1, 7, 128]);
  expect(Object.keys(got).sort()).toEqual(Object.keys(want).sort());
  for (const [name, value] of Object.entries(got)) expect(value.data, name).toEqual(want[name]?.data);
});

interface Bad {
  readonly code: string;
  readonly what: string;
  readonly spoil: (root: string) => void;
  readonly args?: (root: string) => string[];
  readonly culprit: RegExp;
  readonly hint: RegExp;
  readonly exit?: number;
}

const BAD: readonly Bad[] = [
  { code: 'PD607', what: 'no decoder', spoil: (r) => rmSync(join(r, 'onnx', 'decoder_model_merged.onnx')), culprit: /embed_tokens/, hint: /decoder file itself/ },
  { code: 'PD607', what: 'an unknown layout', spoil: (r) => renameSync(join(r, 'onnx', 'decoder_model_merged.onnx'), join(r, 'onnx', 'text.onnx')), culprit: /text\.onnx/, hint: /decoder_model_merged/ },
  { code: 'PD604', what: 'embeddings that are scaled behind the merge with features', spoil: (r) => writeFileSync(join(r, 'onnx', 'embed_tokens.onnx'), merging('behind')), culprit: /embed_tokens|Mul|Where|merged/, hint: /--image-mask input/ },
  { code: 'PD604', what: 'features that are scaled before they are merged', spoil: (r) => writeFileSync(join(r, 'onnx', 'embed_tokens.onnx'), merging('before')), culprit: /Where|Mul/, hint: /--image-mask input/ },
  { code: 'PD607', what: 'no graph', spoil: (r) => rmSync(join(r, 'onnx'), { recursive: true }), culprit: /lvlm/, hint: /known are/ },
  { code: 'PD608', what: 'two decoders', spoil: (r) => copyFileSync(join(FIXTURES, 'lvlm', 'model.onnx'), join(r, 'onnx', 'model.onnx')), culprit: /decoder_model_merged.*model\.onnx/, hint: /leave one/ },
  { code: 'PD602', what: 'no vision encoder', spoil: (r) => rmSync(join(r, 'onnx', 'vision_encoder.onnx')), culprit: /marks/, hint: /--image-mask input/ },
  { code: 'PD609', what: 'genai_config.json that names a missing file', spoil: (r) => writeFileSync(join(r, 'genai_config.json'), '{"model":{"decoder":{"filename":"decoder.onnx"}}}'), culprit: /model\.decoder\.filename/, hint: /download or build/ },
  { code: 'PD610', what: 'genai_config.json that is not JSON', spoil: (r) => writeFileSync(join(r, 'genai_config.json'), '{"model":'), culprit: /genai_config/, hint: /download/, exit: 2 },
  { code: 'PD617', what: 'beams in genai_config.json', spoil: (r) => writeFileSync(join(r, 'genai_config.json'), '{"model":{"decoder":{"filename":"onnx/decoder_model_merged.onnx"}},"search":{"num_beams":4}}'), culprit: /search\.num_beams/, hint: /num_beams to 1/ },
  { code: 'PD005', what: 'the output within the input', spoil: () => {}, args: (r) => ['-o', join(r, 'out')], culprit: /out/, hint: /-o/, exit: 2 },
  { code: 'PD004', what: 'an output that exists', spoil: (r) => mkdirSync(join(`${r}-pdrop`, 'x'), { recursive: true }), culprit: /pdrop/, hint: /--force/, exit: 2 },
  { code: 'PD301', what: 'a decoder that is none', spoil: (r) => copyFileSync(join(r, 'onnx', 'vision_encoder.onnx'), join(r, 'onnx', 'decoder_model_merged.onnx')), culprit: /pixel_values/, hint: /decoder/ },
  { code: 'PD101', what: 'an embedding graph that is cut off', spoil: (r) => writeFileSync(join(r, 'onnx', 'embed_tokens.onnx'), readFileSync(join(r, 'onnx', 'embed_tokens.onnx')).subarray(0, 9000)), culprit: /./, hint: /./ },
];

test.each(BAD)('$code: $what, and nothing is written', async ({ code, spoil, args, culprit, hint, exit }) => {
  const root = transformersJs();
  spoil(root);
  const before = files(dirname(root));
  const { code: got, err } = await cli(root, '--no-measure', ...(args?.(root) ?? []));
  expect(err).toContain(code);
  expect(err).toMatch(culprit);
  expect(err).toMatch(hint);
  expect(got).toBe(exit ?? 3);
  expect(files(dirname(root))).toEqual(before);
});

test('a second variant that is refused leaves nothing of the first', async () => {
  const root = transformersJs(['', '_q4']);
  copyFileSync(join(FIXTURES, 'lvlm', 'vision_encoder.onnx'), join(root, 'onnx', 'decoder_model_merged_q4.onnx'));
  await expect(compileFolder(root, { measure: false })).rejects.toMatchObject({ code: expect.stringMatching(/^PD3/) });
  expect(existsSync(`${root}-pdrop`)).toBe(false);
  expect(files(dirname(root)).every((f) => f.startsWith('lvlm/'))).toBe(true);
});

test('--force replaces what an earlier run made, and no folder that holds something else', async () => {
  const root = transformersJs();
  const out = `${root}-pdrop`;
  mkdirSync(join(out, 'onnx'), { recursive: true });
  writeFileSync(join(out, 'mine.txt'), 'mine');
  await expect(compileFolder(root, { force: true, measure: false })).rejects.toMatchObject({ code: 'PD004' });
  expect(files(out)).toEqual(['mine.txt']);
  renameSync(join(out, 'mine.txt'), join(out, 'config.json'));
  linkSync(join(out, 'config.json'), join(dirname(root), 'kept.txt'));
  const report: FolderReport = await compileFolder(root, { force: true, measure: false });
  expect(report.output).toBe(out);
  expect(files(out)).toEqual(files(root));
  expect(readFileSync(join(dirname(root), 'kept.txt'), 'utf8')).toBe('mine');
});

test('a link that leads out of the folder is not followed: a stranger’s folder fetches no files of the user', async () => {
  const root = transformersJs();
  const secret = join(dirname(root), 'secret.json');
  writeFileSync(secret, '{}');
  symlinkSync(secret, join(root, 'tokenizer_extra.json'));
  await expect(compileFolder(root, { measure: false })).rejects.toMatchObject({ code: 'PD108' });
  expect(existsSync(`${root}-pdrop`)).toBe(false);
  await compileFolder(root, { measure: false, allowExternalLinks: true });
  expect(readFileSync(join(`${root}-pdrop`, 'tokenizer_extra.json'), 'utf8')).toBe('{}');
});
