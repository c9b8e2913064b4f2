#!/usr/bin/env node
/** npm run web: serves the page with vite; onnxruntime-web is installed into out/runtimes on first use. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { createServer } from 'vite';
import { npmInstall } from '../../scripts/runtimes/install.mjs';

const root = join(import.meta.dirname, '..', '..');

/** @returns {Promise<{ url: string, close(): Promise<void> }>} */
export async function serve(port = 5180) {
  if (!existsSync(join(root, 'dist', 'src', 'core.js'))) throw new Error('run npm run build first');
  const runtime = join(npmInstall(root), 'node_modules', 'onnxruntime-web', 'dist');
  const server = await createServer({
    root: import.meta.dirname,
    configFile: false,
    logLevel: 'error',
    cacheDir: join(root, 'out', 'web'),
    server: { port, fs: { allow: [root] }, hmr: false, watch: null },
    resolve: {
      alias: {
        'pdrop-compile/core': join(root, 'dist', 'src', 'core.js'),
        'pdrop-compile/report': join(root, 'dist', 'src', 'report', 'compile-report.js'),
        '/runtime/onnxruntime-web.mjs': join(runtime, 'ort.wasm.bundle.min.mjs'),
      },
    },
    optimizeDeps: { include: ['protobufjs/minimal.js', '@huggingface/tokenizers'] },
  });
  await server.listen();
  return { url: `http://localhost:${server.config.server.port}/`, close: () => server.close() };
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const { url } = await serve();
  console.log(`open ${url}`);
}
