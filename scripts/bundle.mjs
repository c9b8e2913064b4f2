/**
 * Puts what bin/ runs, dist/src/cli/main.js and all that it imports, into a few files in dist/cli/: each module that is loaded
 * by itself takes half a millisecond or more, and a command had 190 of them. What is imported when it is used stays apart.
 * The library, dist/src/, is as tsc made it.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = fileURLToPath(new URL('..', import.meta.url));
const FOLDER = 'dist/cli';

/** Packages that are loaded from where npm puts them: large ones, each only by what needs it. */
const EXTERNAL = ['@huggingface/tokenizers', '@huggingface/transformers', 'ajv', 'onnx-proto', 'onnxruntime-node', 'sharp'];

/** Node's module for processes takes as long to load as a hundred of ours, and most runs start none: commander and what is ours load it with the first process. */
const LATE = {
  name: 'late',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^node:child_process$/ }, ({ namespace }) => (namespace === 'late' ? undefined : { path: 'child_process', namespace: 'late' }));
    onLoad({ filter: /.*/, namespace: 'late' }, () => ({
      contents: ['spawn', 'fork'].map((name) => `export const ${name} = (...call) => require('node:child_process').${name}(...call);`).join('\n'),
    }));
  },
};

const DYNAMIC = /\bimport\('(\.[^']+)'\)/g;

/**
 * All of ours that is imported when it is used comes from one file, but for what the executable itself loads: with an entry for each, what
 * they share falls into twenty files, which compiling would load.
 */
const LATER = {
  name: 'later',
  setup({ onResolve, onLoad }) {
    const folders = ['dist/src', 'dist/passes'];
    const files = folders.flatMap((folder) => readdirSync(join(root, folder), { recursive: true }).filter((file) => file.endsWith('.js')).map((file) => join(root, folder, file)));
    const names = new Map();
    const targetOf = (file, path) => join(dirname(file), path);
    for (const file of files) {
      if (file === join(root, 'dist/src/cli/main.js')) continue;
      for (const [, path] of readFileSync(file, 'utf8').matchAll(DYNAMIC)) {
        const target = targetOf(file, path);
        if (!names.has(target)) names.set(target, `module${names.size}`);
      }
    }
    onResolve({ filter: /^later$/ }, () => ({ path: 'later', namespace: 'later' }));
    onLoad({ filter: /.*/, namespace: 'later' }, () => ({ contents: [...names].map(([path, name]) => `export * as ${name} from ${JSON.stringify(path)};`).join('\n'), resolveDir: root }));
    onLoad({ filter: /[/\\]dist[/\\](src|passes)[/\\].*\.js$/ }, ({ path }) => {
      const text = readFileSync(path, 'utf8');
      return { contents: text.replace(DYNAMIC, (whole, to) => (names.has(targetOf(path, to)) ? `import('later').then((later) => later.${names.get(targetOf(path, to))})` : whole)) };
    });
  },
};

/** Licences of the packages that are bundled, one after another. */
function licences(inputs) {
  const packages = [...new Set(Object.keys(inputs).flatMap((path) => /^node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1] ?? []))].sort();
  return packages.map((name) => {
    const { version, license } = JSON.parse(readFileSync(join(root, 'node_modules', name, 'package.json'), 'utf8'));
    const file = readdirSync(join(root, 'node_modules', name)).find((f) => /^licen[cs]e/i.test(f));
    if (file === undefined) throw new Error(`${name} is bundled, and has no licence that could be kept`);
    return `${name} ${version}, ${license}\n\n${readFileSync(join(root, 'node_modules', name, file), 'utf8').trim()}\n`;
  }).join(`\n${'-'.repeat(80)}\n\n`);
}

/** @returns every file of the bundle: its path from the package's folder, and its text */
export async function bundle() {
  const { outputFiles, metafile } = await build({
    absWorkingDir: root,
    entryPoints: ['dist/src/cli/main.js'],
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    external: EXTERNAL,
    plugins: [LATE, LATER],
    outdir: FOLDER,
    legalComments: 'none',
    // Packages of the CommonJS kind ask for Node's modules by require.
    banner: { js: "import { createRequire as requireOfBundle } from 'node:module';\nconst require = requireOfBundle(import.meta.url);" },
    write: false,
    metafile: true,
    logLevel: 'warning',
  });
  return [...outputFiles.map(({ path, text }) => [path.slice(root.length), text]), [`${FOLDER}/LICENSES.txt`, licences(metafile.inputs)]];
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const files = await bundle();
  if (existsSync(join(root, FOLDER))) rmSync(join(root, FOLDER), { recursive: true });
  for (const [path, text] of files) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
}
