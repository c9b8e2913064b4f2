/** The command line: options, their conflicts, what is printed, replaying plans, inspect and check. */
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { Ajv } from 'ajv';
import { beforeAll, describe, expect, it } from 'vitest';
import { PASSES } from '../../passes/index.js';
import { type CompileReport, check, compile, plan, verifyPlan } from '../../src/index.js';
import { packageRoot } from '../../src/disk/own-files.js';
import { VERSION } from '../../src/version.js';
import { cli, cliJson } from '../support/cli.js';
import { files, folder, modelFile } from '../support/folder.js';
import { decodeModel, encodeModel, everyGraph, everyNode, fixturePath, graphOf, type ModelProto } from '../support/proto.js';
import { loads, planArgs, runScenarios } from '../support/run.js';

const SMALL = 'genai-llama-embeds-fp32';
const IDS = 'llama-ts17-ids';

function copyOf(fixture = SMALL): string {
  const path = join(folder(), 'model.onnx');
  cpSync(fixturePath(fixture), path);
  return path;
}

function schema(name: string): { (value: unknown): boolean; errors?: unknown } {
  const { Ajv: AjvClass } = createRequire(import.meta.url)('ajv') as { Ajv: typeof Ajv };
  return new AjvClass({ strict: false }).compile(JSON.parse(readFileSync(join(packageRoot(), 'schemas', `${name}.schema.json`), 'utf8')) as object) as never;
}

async function errorOf(...args: string[]): Promise<{ exit: number; code: string }> {
  const { code, json } = await cliJson(...args);
  return { exit: code, code: (json.error as { code: string } | undefined)?.code ?? 'none' };
}

describe('a report', () => {
  it('is the same whether it is printed, written or both, and the model is the same without one', async () => {
    const [model, place] = [fixturePath(SMALL), folder()];
    const at = (name: string): string => join(place, name);
    const printed = await cli(model, '-o', at('a.onnx'), '--json', '--quiet');
    const silent = await cli(model, '-o', at('b.onnx'), '--quiet', '--report', at('b.json'));
    const nothing = await cli(model, '-o', at('c.onnx'), '--quiet');
    expect([silent.out + silent.err, nothing.out + nothing.err, printed.err]).toEqual(['', '', '']);
    const told = (text: string): object => {
      const { output: _, milliseconds: __, passes, ...rest } = JSON.parse(text) as CompileReport;
      return { ...rest, passes: passes.map((p) => p.name) };
    };
    expect(told(readFileSync(at('b.json'), 'utf8'))).toEqual(told(printed.out));
    expect((JSON.parse(printed.out) as CompileReport).macs.original).toBeGreaterThan(0);
    for (const name of ['b.onnx', 'c.onnx']) expect(readFileSync(at(name)).equals(readFileSync(at('a.onnx')))).toBe(true);
  });
});

describe('what is asked for', () => {
  it('without arguments: help, and a usage error', async () => {
    const { code, out, err } = await cli();
    expect(code).toBe(2);
    expect(out + err).toContain('pdrop-compile');
  });

  it('--help and --version', async () => {
    expect((await cli('--version')).out.trim()).toBe(VERSION);
    const { code, out } = await cli('compile', '--help');
    expect(code).toBe(0);
    for (const option of ['--stages', '--lambda', '--layers', '--keep', '--image-mask', '--positions', '--config', '--external-data', '--plan', '--report', '--dry-run', '--probe', '--rank', '--force', '--json', '--quiet', '--image-tokens', '--stop-after', '--skip-pass']) {
      expect(out).toContain(option);
    }
  });

  it('unknown options, unknown choices and missing values are usage errors', async () => {
    const path = copyOf();
    for (const args of [['--frobnicate'], ['--positions', 'sideways'], ['--external-data', 'teleport'], ['--stages'], ['--stop-after', 'nothing'], ['more.onnx', 'models.onnx']]) {
      const { code, err } = await cli(path, ...args);
      expect([args, code]).toEqual([args, 2]);
      expect(err).toContain('error');
    }
    expect(files(dirname(path))).toEqual(['model.onnx']);
  });

  it('the default schedule: four stages, half the image tokens each time, beside the model', async () => {
    const path = copyOf();
    const { code, out, err } = await cli(path);
    expect(code).toBe(0);
    expect(err).toBe('');
    expect(out).toContain('tokens dropped before layers 2, 4, 6; keep 0.5, 0.25, 0.125');
    expect(out).toContain('model.pdrop.onnx');
    expect(out).toMatch(/stage\s+layers\s+tokens\s+image\s+MACs/);
    expect(files(dirname(path))).toEqual(['model.onnx', 'model.pdrop.onnx']);
  });

  it('--quiet prints nothing, --json prints a report that fits its schema', async () => {
    const path = copyOf();
    expect(await cli(path, '--quiet')).toEqual({ code: 0, out: '', err: '' });
    const { json } = await cliJson(path, '--force');
    const valid = schema('report');
    expect(valid(json), JSON.stringify(valid.errors)).toBe(true);
  });

  it('--dry-run writes nothing at all', async () => {
    const path = copyOf();
    const report = join(dirname(path), 'report.json');
    const { code, json } = await cliJson(path, '--dry-run', '-o', join(dirname(path), 'new', 'out.onnx'));
    expect(code).toBe(0);
    expect(json.output).toBeNull();
    expect(files(dirname(path))).toEqual(['model.onnx']);
    expect(existsSync(join(dirname(path), 'new'))).toBe(false);
    expect((await cli(path, '--dry-run', '--report', report)).out).toContain('nothing written');
  });

  it('--report writes the same report, and does not overwrite one', async () => {
    const path = copyOf();
    const report = join(dirname(path), 'report.json');
    const { json } = await cliJson(path, '--report', report);
    expect(JSON.parse(readFileSync(report, 'utf8'))).toEqual(json);
    expect(schema('report')(json)).toBe(true);
    expect(schema('plan')(json.plan)).toBe(true);
    expect(await errorOf(path, '-o', join(dirname(path), 'two.onnx'), '--report', report)).toEqual({ exit: 2, code: 'PD004' });
    expect(files(dirname(path))).toEqual(['model.onnx', 'model.pdrop.onnx', 'report.json']);
    expect((await cli(path, '-o', join(dirname(path), 'two.onnx'), '--report', report, '--force', '--quiet')).code).toBe(0);
  });

  it('--explain lists the passes in order', async () => {
    const { out } = await cli('--explain');
    const places = PASSES.map((p) => out.indexOf(p.name));
    expect(places.every((p, i) => p >= 0 && p >= (places[i - 1] ?? 0))).toBe(true);
  });

  it('--image-tokens sets the prompt that costs are shown for', async () => {
    const path = copyOf();
    const { json } = await cliJson(path, '--dry-run', '--image-tokens', '1000', '--text-tokens', '24');
    expect((json as unknown as CompileReport).stages.map((s) => s.tokens)).toEqual([1024, 524, 274, 149]);
    expect((json as unknown as CompileReport).stages.map((s) => s.imageTokens)).toEqual([1000, 500, 250, 125]);
  });

  it('refusals go to stderr, with the way forward', async () => {
    const { code, out, err } = await cli(copyOf(IDS));
    expect([code, out]).toEqual([3, '']);
    expect(err).toMatch(/^error PD320: .*\n {2}at: input_ids\n {2}give it with --image-mask/);
  });
});

describe('--config', () => {
  function config(content: unknown): string {
    const path = join(folder(), 'pdrop.json');
    writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content));
    return path;
  }

  it('gives the same as the command line, which wins', async () => {
    const path = copyOf();
    const file = config({ layers: [3, 5], keep: [0.5, '0.1'], positions: 'compact', rank: 'random:7', probe: true });
    const { json } = await cliJson(path, '--config', file, '--dry-run');
    expect(json.plan).toMatchObject({ layers: [3, 5], keep: ['0.5', '0.1'], rank: 'random', seed: 7, probe: true });
    const other = await cliJson(path, '--config', file, '--dry-run', '--stages', '2', '--lambda', '0.25', '--rank', 'uniform');
    expect(other.json.plan).toMatchObject({ layers: [4], keep: ['0.25'], rank: 'uniform' });
  });

  it.each([
    ['an unknown key', { lamda: 0.5 }],
    ['a wrong type', { stages: 'four' }],
    ['a wrong choice', { positions: 'sideways' }],
    ['no object', [1]],
    ['no JSON', '{ stages: 4 }'],
  ])('%s is a usage error that names it', async (_, content) => {
    const path = copyOf();
    const { code, json } = await cliJson(path, '--config', config(content));
    expect(code).toBe(2);
    expect(json.error).toMatchObject({ code: 'PD017' });
    if (!Array.isArray(content) && typeof content === 'object') expect((json.error as { message: string }).message).toContain(Object.keys(content)[0]);
    expect(files(dirname(path))).toEqual(['model.onnx']);
  });

  it('a missing file is a usage error', async () => {
    expect((await errorOf(copyOf(), '--config', join(folder(), 'none.json'))).exit).toBe(2);
  });
});

describe('--plan', () => {
  it('replays a report and a bare plan to the same bytes', async () => {
    const path = copyOf();
    const report = join(dirname(path), 'report.json');
    const at = (name: string): string => join(dirname(path), name);
    await cli(path, '--layers', '1,3', '--keep', '0.6,0.3', '--rank', 'random:5', '--report', report, '--quiet', '-o', at('a.onnx'));
    writeFileSync(at('plan.json'), JSON.stringify((JSON.parse(readFileSync(report, 'utf8')) as CompileReport).plan));
    expect((await cli(path, '--plan', report, '-o', at('b.onnx'), '--quiet')).err).toBe('');
    expect((await cli(path, '--plan', at('plan.json'), '-o', at('c.onnx'), '--quiet')).err).toBe('');
    expect(readFileSync(at('b.onnx')).equals(readFileSync(at('a.onnx')))).toBe(true);
    expect(readFileSync(at('c.onnx')).equals(readFileSync(at('a.onnx')))).toBe(true);
  });

  it('a plan that is none, or does not fit, is told', async () => {
    const path = copyOf();
    const whole = await plan(path, {});
    const write = (content: unknown): string => {
      const file = join(folder(), 'plan.json');
      writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content));
      return file;
    };
    expect(await errorOf(path, '--plan', write('{'))).toEqual({ exit: 2, code: 'PD017' });
    expect(await errorOf(path, '--plan', write({ ...whole, extra: 1 }))).toEqual({ exit: 2, code: 'PD017' });
    expect(await errorOf(path, '--plan', write({ ...whole, keep: ['2', '1', '0.5'] }))).toEqual({ exit: 2, code: 'PD017' });
    expect(await errorOf(path, '--plan', write({ ...whole, keep: ['0.2', '0.5', '0.1'] }))).toEqual({ exit: 2, code: 'PD012' });
    expect(await errorOf(path, '--plan', write({ ...whole, layers: [2, 4, 60] }))).toEqual({ exit: 3, code: 'PD314' });
    expect(await errorOf(path, '--plan', join(folder(), 'none.json'))).toEqual({ exit: 2, code: 'PD002' });
    expect(await verifyPlan(path, whole)).toEqual(whole);
  });
});

describe('the graphs that come out', () => {
  it('--probe adds the kept indices of every boundary', async () => {
    const path = copyOf();
    const out = join(dirname(path), 'out.onnx');
    await cli(path, '--probe', '-o', out, '--quiet');
    const model = decodeModel(readFileSync(out));
    expect((graphOf(model).output ?? []).slice(-3).map((o) => o.name)).toEqual(['pdrop_kept.1', 'pdrop_kept.2', 'pdrop_kept.3']);
    expect(await loads(out)).toBeUndefined();
  });

  it('--rank: three methods, three graphs; the seed matters', async () => {
    const path = copyOf();
    const made: Buffer[] = [];
    for (const [i, rank] of ['attention', 'uniform', 'random', 'random:0', 'random:1'].entries()) {
      const out = join(dirname(path), `${i}.onnx`);
      expect((await cli(path, '--rank', rank, '-o', out, '--quiet', ...planArgs(SMALL), '--probe')).err).toBe('');
      made.push(readFileSync(out));
    }
    expect(made[2]?.equals(made[3] as Buffer)).toBe(true);
    expect(new Set(made.map((b) => b.toString('base64'))).size).toBe(4);
    const kept = await Promise.all([0, 1, 4].map(async (i) => (await runScenarios(join(dirname(path), `${i}.onnx`), SMALL, 'default', 1))[0]?.['pdrop_kept.1']?.data.join()));
    expect(new Set(kept).size).toBe(3);
  });

  it('--image-mask on a graph of ids: input, input-ids, span, none', async () => {
    const path = copyOf(IDS);
    const inputs = async (source: string): Promise<string[]> => {
      const out = join(dirname(path), `${source.replaceAll(':', '-')}.onnx`);
      const { code, err } = await cli(path, '--image-mask', source, '-o', out);
      expect(code).toBe(0);
      expect(err.includes('warning')).toBe(/^span|^none/.test(source));
      expect(await loads(out)).toBeUndefined();
      expect((await cli('check', out)).out).toContain('follows its plan');
      return (graphOf(decodeModel(readFileSync(out))).input ?? []).map((v) => v.name as string).filter((n) => /image|ids$/.test(n) && n !== 'position_ids');
    };
    expect(await inputs('input')).toEqual(['input_ids', 'image_token_mask']);
    expect(await inputs('input-ids:5')).toEqual(['input_ids']);
    expect(await inputs('span:2:8')).toEqual(['input_ids']);
    expect(await inputs('none')).toEqual(['input_ids']);
  });

  it('input-ids on a graph of embeddings adds input_ids', async () => {
    const path = copyOf();
    const { json } = await cliJson(path, '--image-mask', 'input-ids:7');
    expect(json.addedInputs).toEqual(['input_ids']);
  });

  it('reads the image token id from a config beside the model', async () => {
    const path = copyOf(IDS);
    writeFileSync(join(dirname(path), 'config.json'), JSON.stringify({ image_token_index: 17, vision_config: { image_size: 224, patch_size: 14 } }));
    const { json } = await cliJson(path, '--dry-run');
    expect(json.plan).toMatchObject({ imageMask: { kind: 'input-ids', id: 17 } });
    expect((json as unknown as CompileReport).prompt.imageTokens).toBe(256);
    writeFileSync(join(dirname(path), 'config.json'), '{ not json');
    expect((await errorOf(path, '--dry-run')).code).toBe('PD320');
  });

  it('--positions keep and compact differ; auto keeps where the graph is given positions and no op rotates inside', async () => {
    for (const [path, auto] of [[copyOf(), 'compact'], [copyOf('llama-ts17-sdpa'), 'keep']] as const) {
      for (const [mode, made] of [['auto', auto], ['compact', 'compact'], ['keep', 'keep']] as const) {
        expect((await cliJson(path, '--positions', mode, '--dry-run')).json.plan).toMatchObject({ positions: made });
      }
    }
  });

  it('--preset paper is the paper’s setting, and what is given besides wins', async () => {
    const path = copyOf('llama-ts17-sdpa');
    const planOf = async (...more: string[]): Promise<unknown> => (await cliJson(path, '--preset', 'paper', ...more, '--dry-run')).json.plan;
    expect(await planOf()).toMatchObject({ layers: [2, 4, 6], keep: ['0.5', '0.25', '0.125'], rank: 'attention', positions: 'compact' });
    expect(await planOf('--lambda', '0.7', '--rank', 'uniform')).toMatchObject({ keep: ['0.7', '0.49', '0.343'], rank: 'uniform', positions: 'compact' });
    expect(await planOf('--layers', '3', '--keep', '0.4')).toMatchObject({ layers: [3], keep: ['0.4'], positions: 'compact' });
    expect((await errorOf(path, '--preset', 'papers', '--dry-run')).code).toBe('PD001');
    expect((await errorOf(copyOf('qwen2.5-vl-dynamo18'), '--preset', 'paper', '--dry-run')).code).toBe('PD315');
  });
});

describe('for pass authors', () => {
  it('--stop-after and --skip-pass leave passes out', async () => {
    const path = copyOf();
    const { json } = await cliJson(path, '--stop-after', 'rank', '--dry-run');
    expect((json as unknown as CompileReport).passes.map((p) => p.name)).toEqual(['image-tokens', 'rank']);
    const skipped = await cliJson(path, '--skip-pass', 'clean,declare', '--dry-run');
    expect((skipped.json as unknown as CompileReport).passes.map((p) => p.name)).toEqual(PASSES.map((p) => p.name).filter((n) => n !== 'clean' && n !== 'declare'));
    expect((await errorOf(path, '--skip-pass', 'polish')).exit).toBe(2);
  });

  it('PDROP_DEBUG=1 verifies, =2 dumps the graph after every pass', async () => {
    const path = copyOf();
    const dumps = folder();
    try {
      process.env.PDROP_DEBUG = '1';
      expect((await cli(path, '--dry-run', '--quiet')).code).toBe(0);
      process.env.PDROP_DEBUG = '2';
      process.env.PDROP_DEBUG_DIR = dumps;
      const { code, err } = await cli(path, '--dry-run', '--quiet');
      expect(code).toBe(0);
      expect(err).toContain('PDROP_DEBUG');
    } finally {
      delete process.env.PDROP_DEBUG;
      delete process.env.PDROP_DEBUG_DIR;
    }
    expect(readdirSync(dumps).length).toBe(PASSES.length);
    expect(readFileSync(join(dumps, readdirSync(dumps).sort()[0] as string), 'utf8')).toContain('MatMul');
  });
});

describe('inspect', () => {
  it('shows layers, roles and image tokens, as text and as JSON', async () => {
    const { code, out } = await cli('inspect', fixturePath(SMALL));
    expect(code).toBe(0);
    for (const text of ['GroupQueryAttention', 'hidden states', 'attention mask', 'keys in the cache of layer 0', 'logits']) expect(out).toContain(text);
    const { json } = await cliJson('inspect', fixturePath(SMALL));
    expect((json.layers as unknown[]).length).toBe(8);
    expect(json.refusal).toBeNull();
  });

  it('says why a graph would be refused, with exit code 3', async () => {
    const { code, out } = await cli('inspect', fixturePath(IDS));
    expect(code).toBe(3);
    expect(out).toContain('would be refused: PD320');
  });

  it('shows the plan of a compiled graph', async () => {
    const path = copyOf();
    await cli(path, '--quiet', '--lambda', '0.25');
    const { code, out } = await cli('inspect', join(dirname(path), 'model.pdrop.onnx'));
    expect(code).toBe(0);
    expect(out).toContain('keep 0.25, 0.0625, 0.015625');
  });

  it('of what is no model is refused', async () => {
    expect(await errorOf('inspect', modelFile('text'))).toEqual({ exit: 3, code: 'PD101' });
    expect((await errorOf('inspect', join(folder(), 'none'))).exit).toBe(2);
  });
});

describe('check', () => {
  let compiled: Buffer;
  const LLAMA = 'llama-ts17-sdpa';
  beforeAll(async () => {
    const path = mkdtempSync(join(tmpdir(), 'pdrop-check-'));
    await compile(fixturePath(LLAMA), { output: join(path, 'out.onnx') });
    compiled = readFileSync(join(path, 'out.onnx'));
    rmSync(path, { recursive: true });
  });

  it.each([LLAMA, SMALL, 'qwen3-dynamo23-sdpa', 'gemma2-ts17', 'qwen2-dynamo20-sdpa', 'genai-llama-mha-fp16', 'tf-llama-split-decode'].filter((f) => existsSync(fixturePath(f))))('passes on what was compiled: %s', { timeout: 20_000 }, async (fixture) => {
    const out = join(folder(), 'out.onnx');
    expect((await cli(fixturePath(fixture), '-o', out, '--quiet', ...planArgs(fixture))).err).toBe('');
    const { code, out: text } = await cli('check', out);
    expect(text).not.toContain('FAIL');
    expect(code).toBe(0);
    expect((await check(out)).ok).toBe(true);
  });

  const TAMPERED: readonly [string, (model: ModelProto) => void][] = [
    [
      'another plan in the metadata',
      (m) => {
        for (const p of m.metadataProps ?? []) if (p.key === 'pdrop.plan') p.value = (p.value as string).replace('"0.5"', '"0.6"');
      },
    ],
    [
      'other layers in the metadata',
      (m) => {
        for (const p of m.metadataProps ?? []) if (p.key === 'pdrop.plan') p.value = (p.value as string).replace('[2,4,6]', '[2,4,7]');
      },
    ],
    [
      'a TopK of another length',
      (m) => {
        for (const n of everyNode(graphOf(m))) if (/^pdrop\/b2\/select\/(best|ordered)$/.test(n.name as string)) n.input = [n.input?.[0] as string, 'pdrop/b1/select/left:0/after'];
      },
    ],
    [
      'ratios swapped',
      (m) => {
        for (const t of graphOf(m).initializer ?? []) {
          if (!(t.name as string).startsWith('pdrop/const/i64/500000_')) continue;
          const raw = (t.rawData as Uint8Array).slice();
          t.rawData = Buffer.concat([raw.slice(8), raw.slice(0, 8)]);
        }
      },
    ],
    [
      'a gather of one stage used in another',
      (m) => {
        const gathers = everyNode(graphOf(m)).filter((n) => n.opType === 'Gather' && n.input?.[1] === 'pdrop/b2/select/rows:0');
        for (const g of gathers) g.input = [g.input?.[0] as string, 'pdrop/b1/select/index:0/after'];
      },
    ],
    [
      'a symbol that lies',
      (m) => {
        for (const v of graphOf(m).output ?? []) {
          const dim = v.type?.tensorType?.shape?.dim;
          for (const d of dim ?? []) if (d.dimParam === 'total_length_stage2') d.dimParam = 'total_length_stage1';
        }
      },
    ],
    [
      'a wrong fixed size',
      (m) => {
        const logits = graphOf(m).output?.find((o) => o.name === 'logits')?.type?.tensorType?.shape?.dim;
        if (logits) logits[2] = { dimValue: 127 } as never;
      },
    ],
    [
      'an opset import that went missing',
      (m) => {
        m.opsetImport = m.opsetImport?.filter((o) => o.domain) ?? [];
      },
    ],
    [
      'a node that went missing',
      (m) => {
        for (const g of everyGraph(graphOf(m))) g.node = g.node?.filter((n) => n.name !== 'pdrop/b2/select/rows') ?? [];
      },
    ],
  ];

  it.each(TAMPERED)('fails on %s', async (_, tamper) => {
    const model = decodeModel(compiled);
    const before = encodeModel(model);
    tamper(model);
    const bytes = encodeModel(model);
    expect(Buffer.compare(before, bytes)).not.toBe(0);
    const path = modelFile(bytes);
    const { code, out, err } = await cli('check', path);
    expect([0, 70, 2]).not.toContain(code);
    expect(out + err).toMatch(/FAIL|error PD10/);
  });

  it('without a plan there is nothing to check', async () => {
    expect(await errorOf('check', fixturePath(LLAMA))).toEqual({ exit: 2, code: 'PD018' });
  });
});
