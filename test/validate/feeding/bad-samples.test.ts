/** Finds of `npm run fuzz -- --kind validate`: samples that cannot be read end sweep and tune by their own code, never as a bug or in silence. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { cliJson } from '../../support/cli.js';
import { LoadedFixture } from '../../support/fixtures.js';
import { temporaryFolder } from '../support.js';

const folder = temporaryFolder();
const fixture = new LoadedFixture('llama-ts17-ids');
const imageMask = fixture.info.plans.default?.imageMask as string;
const image = Number(imageMask.split(':')[1]);
const good = JSON.stringify({ inputs: { input_ids: [[1, 2, ...new Array<number>(16).fill(image), 5, 6, 7]] } });

const commands: Readonly<Record<string, readonly string[]>> = {
  sweep: ['sweep', fixture.model, '--lambda', '0.5', '--stages', '2'],
  tune: ['tune', fixture.model, '--target-flops', '0.8', '--ratios', '0.5', '--ranks', 'uniform', '--boundaries', '1'],
};

function dataOf(name: string, lines: readonly string[]): string {
  const path = join(folder, `${name}.jsonl`);
  writeFileSync(path, lines.join('\n'));
  return path;
}

describe.each(Object.entries(commands))('%s', (_, args) => {
  const rest = ['--image-mask', imageMask, '--continue', '2', '--work-dir', folder];

  it('ends at a line that is no sample', async () => {
    const { code, json } = await cliJson(...args, ...rest, '--data', dataOf('third', [good, good, '{"inputs": {}, "nswers": []}', '{}']));
    expect(code, JSON.stringify(json)).toBe(4);
    expect((json.error as { code: string }).code).toBe('PD510');
  });

  it('does not go on with nothing', async () => {
    const { code, json } = await cliJson(...args, ...rest, '--keep-going', '--data', dataOf('other', [JSON.stringify({ inputs: { input_ids: [['x']] } }), '7']));
    expect(code, JSON.stringify(json)).toBeGreaterThan(1);
    expect(code, JSON.stringify(json)).toBeLessThan(5);
  });
});
