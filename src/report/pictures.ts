/** Pictures of samples as data URIs, for the HTML report. */
import { readRegularFile } from '../disk/small-files.js';
import type { KeptReport } from '../validate/result.js';

const KINDS: readonly (readonly [string, (b: Buffer) => boolean])[] = [
  ['png', (b) => b.subarray(0, 4).toString('latin1') === '\u0089PNG'],
  ['jpeg', (b) => b[0] === 0xff && b[1] === 0xd8],
  ['gif', (b) => b.subarray(0, 4).toString('latin1') === 'GIF8'],
  ['webp', (b) => b.subarray(8, 12).toString('latin1') === 'WEBP'],
  ['avif', (b) => b.subarray(4, 12).toString('latin1') === 'ftypavif'],
  ['bmp', (b) => b.subarray(0, 2).toString('latin1') === 'BM'],
];

/**
 * Reads the pictures that the kept-token maps name. What is missing, larger than `limitBytes` or no picture a browser
 * shows is left out: its map is drawn without it.
 * @returns data URIs by the path that the report has
 */
export function readPictures(kept: KeptReport | null, limitBytes = 2 * 2 ** 20): Map<string, string> {
  const out = new Map<string, string>();
  for (const { picture } of kept?.samples ?? []) {
    if (picture === undefined || out.has(picture)) continue;
    try {
      const content = readRegularFile(picture, limitBytes);
      const kind = KINDS.find(([, is]) => is(content))?.[0];
      if (kind) out.set(picture, `data:image/${kind};base64,${content.toString('base64')}`);
    } catch {
      // Maps are drawn without their picture.
    }
  }
  return out;
}
