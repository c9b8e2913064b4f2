/** Progress on the error stream of a terminal, one line that is rewritten and then gone; nothing when output is redirected. */
import { inline } from '../report/text.js';
import type { Progress } from '../validate/options.js';
import { bytes, percent } from './terminal.js';
import { now } from '../clock.js';

type Stream = Pick<NodeJS.WriteStream, 'isTTY' | 'write'>;

const ERASE = '\r\u001b[K';

/** While something runs that cannot say how far it is: its name. */
export async function whileShowing<T>(label: string, work: () => Promise<T>, stream: Stream = process.stderr): Promise<T> {
  if (!stream.isTTY) return work();
  stream.write(`\r${inline(label)} …\u001b[K`);
  try {
    return await work();
  } finally {
    stream.write(ERASE);
  }
}

/** Bytes written of all there are; not shown when the work is short. */
export function progressLine(label: string, stream: Stream = process.stderr): ((done: number, total: number) => void) & { end(): void } {
  const started = now();
  let shown = false;
  let last = 0;
  const update = (done: number, total: number): void => {
    const at = now();
    if (!stream.isTTY || at - started < 500 || at - last < 100) return;
    last = at;
    shown = true;
    stream.write(`\r${label} ${bytes(done)} of ${bytes(total)} (${percent(total === 0 ? 1 : done / total)})\u001b[K`);
  };
  return Object.assign(update, {
    end(): void {
      if (shown) stream.write(ERASE);
    },
  });
}

/** A bar over samples, with the time left. */
export function progressLines(quiet: boolean, stream: Stream = process.stderr): Progress {
  let label = '';
  let total: number | undefined;
  let started = 0;
  const show = stream.isTTY && !quiet;
  const draw = (done: number): void => {
    const elapsed = (now() - started) / 1000;
    const left = total && done > 0 ? `, about ${Math.ceil((elapsed / done) * (total - done))} s left` : '';
    const width = 24;
    const filled = total ? Math.round((Math.min(done, total) / total) * width) : 0;
    const bar = total ? `[${'#'.repeat(filled)}${'.'.repeat(width - filled)}] ${done}/${total}` : `${done > 0 ? done : ''}`;
    stream.write(`\r${label} ${bar}${left}\u001b[K`);
  };
  return {
    start(name, of) {
      label = inline(name);
      total = of;
      started = now();
      if (show) draw(0);
    },
    tick(done) {
      if (show) draw(done);
    },
    end() {
      if (show) stream.write(ERASE);
    },
  };
}
