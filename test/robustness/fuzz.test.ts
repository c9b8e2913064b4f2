/** A short seeded part of the fuzzing campaign (`npm run fuzz`): the same cases every time, so that what is found once stays found. */
import { execFile } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';

interface Totals {
  readonly cases: number;
  readonly verdicts: Readonly<Record<string, number>>;
  readonly findings: readonly { readonly number: number; readonly detail: string }[];
}

const RUN = join(import.meta.dirname, '..', '..', 'fuzz', 'run.mjs');

async function campaign(kind: string, cases: number, ...args: string[]): Promise<Totals> {
  const { stdout } = await promisify(execFile)(process.execPath, [RUN, '--kind', kind, '--time', '1000', '--cases', String(cases), '--json', ...args], { maxBuffer: 2 ** 26 }).catch(
    (error: { stdout: string; stderr: string }) => ({ stdout: error.stdout || Promise.reject(new Error(error.stderr)) }),
  );
  return (JSON.parse(await stdout) as Record<string, Totals>)[kind] as Totals;
}

it('faults: a file that another process is still taking away is not left over, one that stays is', async () => {
  const { settled } = (await import('../../fuzz/faults/folder.mjs' as string)) as { settled(folder: string, patience: number): Promise<void> };
  const folder = mkdtempSync(join(tmpdir(), 'pdrop-settled-'));
  const file = join(folder, '.model.onnx.tmp-pdrop-000000000000-1-1-000000000000');
  writeFileSync(file, '');
  await settled(folder, 50);
  expect(readdirSync(folder)).toHaveLength(1);
  setTimeout(() => rmSync(file), 100);
  await settled(folder, 10_000);
  expect(readdirSync(folder)).toEqual([]);
  rmSync(folder, { recursive: true });
});

describe('a short campaign', () => {
  it('damaged bytes: compiled and equal, or refused by code', { timeout: 600_000 }, async () => {
    const totals = await campaign('bytes', 120, '--seed', '20', '--fixture', 'genai-llama-embeds-fp32', '--fixture', 'mobius-llava-decoder');
    expect(totals.findings).toEqual([]);
    expect(totals.cases).toBe(120);
    expect(totals.verdicts.refused).toBeGreaterThan(50);
    expect((totals.verdicts.compiled ?? 0) + (totals.verdicts.equal ?? 0)).toBeGreaterThan(10);
    expect(totals.verdicts.equal).toBeGreaterThan(0);
  });

  it('another spelling of the same graph: equal, or refused by code', { timeout: 600_000 }, async () => {
    const totals = await campaign('meaning', 12, '--seed', '20', '--fixture', 'genai-llama-embeds-fp32/4', '--fixture', 'llama-dynamo20-nocache/4');
    expect(totals.findings).toEqual([]);
    expect(totals.cases).toBe(12);
    expect(totals.verdicts.equal).toBeGreaterThan(6);
  });

  it('damaged samples, configurations and models given to validate, sweep and tune: a code of their own, and no silent pass', { timeout: 600_000 }, async () => {
    const totals = await campaign('validate', 8, '--seed', '2');
    expect(totals.findings).toEqual([]);
    expect(totals.cases).toBe(8);
    expect(totals.verdicts.refused).toBeGreaterThan(2);
  });
});
