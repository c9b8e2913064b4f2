/** Starting a process. Node's module for it takes as long to load as a hundred of ours, and most runs start none: it is loaded when it is used. */
import type { spawn as Spawn } from 'node:child_process';
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);

/** As Node's `spawn`. */
export const spawn = ((...call: Parameters<typeof Spawn>) => (require('node:child_process') as { readonly spawn: typeof Spawn }).spawn(...call)) as typeof Spawn;
