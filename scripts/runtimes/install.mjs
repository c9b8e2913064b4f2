/** Libraries of npm that are run here, in a folder of their own: out/runtimes/npm. `node install.mjs NAME…` installs them from the command line. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Versions that docs/runtimes.md is made with. */
export const NPM = { '@huggingface/transformers': '4.3.1', 'onnxruntime-web': '1.30.0' };

/** @returns the folder whose node_modules has them */
export function npmInstall(root, names = Object.keys(NPM)) {
  const installed = join(root, 'out', 'runtimes', 'npm');
  if (names.every((n) => existsSync(join(installed, 'node_modules', n)))) return installed;
  mkdirSync(installed, { recursive: true });
  writeFileSync(join(installed, 'package.json'), JSON.stringify({ private: true, type: 'module' }));
  // Without install scripts: the libraries' own downloads (CUDA) are not needed.
  const done = spawnSync('npm', ['install', '--ignore-scripts', '--no-audit', '--no-fund', ...names.map((n) => `${n}@${NPM[n]}`)], { cwd: installed, stdio: ['ignore', 'ignore', 'inherit'] });
  if (done.status !== 0) throw new Error('npm install failed');
  return installed;
}

if (process.argv[1] === import.meta.filename) npmInstall(join(import.meta.dirname, '..', '..'), process.argv.slice(2));
