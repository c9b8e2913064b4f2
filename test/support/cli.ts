/** The command line, run in this process, one at a time: exit code and what it printed. */
import { main } from '../../src/cli/main.js';

export interface CliResult {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

type Write = typeof process.stdout.write;

export async function cli(...args: string[]): Promise<CliResult> {
  let out = '';
  let err = '';
  const { stdout, stderr } = process;
  const outWrite = stdout.write;
  const errWrite = stderr.write;
  const before = process.exitCode;
  stdout.write = ((chunk: string | Uint8Array) => {
    out += String(chunk);
    return true;
  }) as Write;
  stderr.write = ((chunk: string | Uint8Array) => {
    err += String(chunk);
    return true;
  }) as Write;
  try {
    const code = await main(['node', 'pdrop-compile', ...args]);
    return { code, out, err };
  } finally {
    stdout.write = outWrite;
    stderr.write = errWrite;
    process.exitCode = before;
  }
}

/** Compiles with `--json`; parsed output, or the error object. */
export async function cliJson(...args: string[]): Promise<{ code: number; json: Record<string, unknown>; err: string }> {
  const { code, out, err } = await cli(...args, '--json');
  return { code, json: JSON.parse(out) as Record<string, unknown>, err };
}
