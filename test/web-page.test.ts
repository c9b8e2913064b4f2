/**
 * examples/web in headless Chromium: the shipped model is compiled in the page, and onnxruntime-web answers a question with the original
 * and with what was made of it. Needs onnxruntime-web, which `npm run test:runtimes` installs (and then runs this).
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FIXTURES } from './support/fixtures.js';
import { findChromium, Page } from './report/chromium.js';

const ROOT = join(import.meta.dirname, '..');
const LVLM = join(FIXTURES, 'lvlm');
const chromium = findChromium();
const installed = existsSync(join(ROOT, 'out', 'runtimes', 'npm', 'node_modules', 'onnxruntime-web')) && existsSync(join(ROOT, 'dist', 'src', 'core.js'));

describe.skipIf(chromium === undefined || !installed)('the page', { timeout: 240_000 }, () => {
  let page: Page;
  let server: { url: string; close(): Promise<void> };

  beforeAll(async () => {
    const module = '../examples/web/serve.mjs';
    const { serve } = (await import(module)) as { serve(port: number): Promise<typeof server> };
    server = await serve(5187);
    page = await Page.open(chromium as string);
    await page.send('DOM.enable');
    await page.show(server.url, { width: 1000, scheme: 'light' });
  }, 120_000);

  afterAll(async () => {
    await page?.close();
    await server?.close();
  });

  /** Gives files to an input, as a reader who chooses them does. */
  async function choose(selector: string, files: readonly string[]): Promise<void> {
    const { root } = (await page.send('DOM.getDocument')) as { root: { nodeId: number } };
    const { nodeId } = (await page.send('DOM.querySelector', { nodeId: root.nodeId, selector })) as { nodeId: number };
    await page.send('DOM.setFileInputFiles', { files, nodeId });
  }

  const until = (condition: string): Promise<boolean> =>
    page.evaluate(`new Promise((done) => { const look = () => (${condition} || document.getElementById('status').className === 'error' ? done(true) : setTimeout(look, 100)); look(); })`);
  const status = (): Promise<string> => page.evaluate("document.getElementById('status').textContent");
  const cells = (table: string): Promise<string[][]> => page.evaluate(`[...document.querySelectorAll('#${table} tbody tr')].map((r) => [...r.cells].map((c) => c.textContent))`);

  it('refuses what is no decoder, with the way forward', async () => {
    await page.evaluate("document.getElementById('file').removeAttribute('accept')");
    await choose('#file', [join(LVLM, 'vision_encoder.onnx')]);
    await until("document.getElementById('compile').disabled === false");
    await page.evaluate("document.getElementById('compile').click()");
    await until('false');
    expect(await status()).toMatch(/^PD\d{3}: .+ — /);
  });

  it('compiles a folder, and both decoders answer', async () => {
    const names = ['decoder_model_merged.onnx', 'vision_encoder.onnx', 'embed_tokens.onnx', 'tokenizer.json', 'tokenizer_config.json', 'preprocessor_config.json', 'config.json', 'generation_config.json'];
    await page.evaluate("document.getElementById('file').multiple = true");
    await choose('#file', names.map((n) => join(LVLM, n)));
    await until("document.getElementById('compile').disabled === false");
    await page.evaluate("document.getElementById('compile').click()");
    await until("document.getElementById('question').hidden === false");
    expect(await status()).toMatch(/8 layers; tokens dropped before layers 2, 4, 6; prefill of 144 image and 16 text tokens: \d\d\.\d% of the MACs/);
    expect((await cells('stages-table')).map((r) => [r[2], r[3]])).toEqual([['160', '144'], ['88', '72'], ['52', '36'], ['34', '18']]);
    const download = await page.evaluate<{ bytes: number; name: string }>("fetch(document.getElementById('download').href).then((r) => r.arrayBuffer()).then((b) => ({ bytes: b.byteLength, name: document.getElementById('download').download }))");
    expect(download).toEqual({ bytes: expect.any(Number), name: 'decoder_model_merged.pdrop.onnx' });
    expect(download.bytes).toBeGreaterThan(100_000);
    await choose('#picture', [join(LVLM, 'demo', 'picture-0.png')]);
    await page.evaluate("document.getElementById('text').value = 'which digit is at c2 ?'; document.getElementById('ask').click()");
    await until("document.getElementById('answers').hidden === false");
    expect(await status()).toBe('');
    expect((await cells('answers')).map((r) => r.slice(0, 2))).toEqual([['original', '9'], ['compiled', '9']]);
    expect(await page.evaluate("[...document.querySelectorAll('#maps figcaption')].map((c) => c.textContent)")).toEqual([72, 36, 18].map((n, i) => `after boundary ${i + 1}: ${n} of 144 image tokens`));
    expect(page.requests.every((r) => r.startsWith(server.url) || r.startsWith('blob:'))).toBe(true);
  });
});
