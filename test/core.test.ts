/** The core (src/core.ts) as a web page has it: bundled with what it imports, run where there is no Node. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createContext, runInContext } from 'node:vm';
import { build } from 'vite';
import { expect, it } from 'vitest';
import { compileModel, writeCompiled } from '../src/compile.js';
import { MemorySink, MemorySource } from '../src/onnx/bytes.js';
import { packageRoot } from '../src/disk/own-files.js';
import { fixturePath } from './support/proto.js';

async function bundle(): Promise<string> {
  const made = await build({
    root: packageRoot(),
    configFile: false,
    logLevel: 'silent',
    build: { write: false, minify: false, target: 'esnext', lib: { entry: 'src/core.ts', formats: ['iife'], name: 'core' } },
  });
  const [{ output }] = made as [{ output: [{ code: string }] }];
  return output[0].code;
}

it('compiles in a page what it compiles in Node, byte for byte', async () => {
  const code = await bundle();
  expect(code).not.toMatch(/from "node:|require\("node:/);
  const bytes = new Uint8Array(readFileSync(fixturePath('llama-ts14-eager')));
  const options = { imageMask: 'input', stages: 3 } as const;
  const sink = new MemorySink();
  await writeCompiled(await compileModel(new MemorySource(bytes), options), sink);
  // What pages have of what the core uses, and nothing of Node: no Buffer, no process, no require.
  const page = createContext({ TextDecoder, TextEncoder, performance, bytes, options });
  const script = `${code}
    (async () => {
      const sink = new core.MemorySink();
      await core.writeCompiled(await core.compileModel(new core.MemorySource(new Uint8Array(bytes)), options), sink);
      return sink.bytes();
    })()`;
  const hash = (b: Uint8Array): string => createHash('sha256').update(b).digest('hex');
  expect(hash((await runInContext(script, page)) as Uint8Array)).toBe(hash(sink.bytes()));
});
