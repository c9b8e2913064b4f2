/** Whether what was written is on the disk as it was meant: everything that was made, and the edges of all that was copied. */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { type ByteSource, isSpan, type Piece } from '../onnx/bytes.js';
import { failed } from './files.js';

/** How much of either end of a copied range is read back: weights of gigabytes are not. */
const EDGE_BYTES = 4096;

/** @throws {UsageError} PD003 when it is not */
export async function verifyWritten(path: string, pieces: readonly Piece[], source: ByteSource, shown: string): Promise<void> {
  const fd = openSync(path, 'r');
  try {
    const require = (holds: boolean, what: string): void => {
      if (!holds) throw failed(shown, new Error(`${what}; the disk or the memory is faulty, or somebody else wrote to the file`));
    };
    const equal = (offset: number, wanted: Uint8Array): void => {
      const got = new Uint8Array(wanted.length);
      const n = readSync(fd, got, 0, got.length, offset);
      require(n === wanted.length && Buffer.compare(got, wanted) === 0, `what is read back at byte ${offset} is not what was written`);
    };
    let at = 0;
    for (const piece of pieces) {
      if (!isSpan(piece)) equal(at, piece);
      else {
        for (const from of [0, Math.max(0, piece.length - EDGE_BYTES)]) {
          equal(at + from, await source.read(piece.offset + from, Math.min(EDGE_BYTES, piece.length - from)));
        }
      }
      at += piece.length;
    }
    require(fstatSync(fd).size === at, `it has ${fstatSync(fd).size} bytes, not ${at}`);
  } finally {
    closeSync(fd);
  }
}
