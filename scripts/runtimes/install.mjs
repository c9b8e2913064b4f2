/** Libraries of npm that are run here, in a folder of their own: out/runtimes/npm. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Versions that docs/runtimes.md is made with. */
export const NPM = { '@huggingface/transformers': '4.3.1', 'onnxruntime-web': '1.30.0' };

/** @returns the folder whose node_modules has them */
export function npmInstall(root) {
  const installed = join(root, 'out', 'runtimes', 'npm');
  if (Object.keys(NPM).every((n) => existsSync(join(installed, 'node_modules', n)))) return installed;
  mkdirSync(installed, { recursive: true });
  writeFileSync(join(installed, 'package.json'), JSON.stringify({ private: true, type: 'module' }));
  // Without install scripts: the libraries' own downloads (CUDA) are not needed.
  const done = spawnSync('npm', ['install', '--ignore-scripts', '--no-audit', '--no-fund', ...Object.entries(NPM).map(([n, v]) => `${n}@${v}`)], { cwd: installed, stdio: ['ignore', 'ignore', 'inherit'] });
  if (done.status !== 0) throw new Error('npm install failed');
  return installed;
}
