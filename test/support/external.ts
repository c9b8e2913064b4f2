/** Fixtures with their weights in a file beside the model. */
import { writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { modelFile } from './folder.js';
import { encodeModel, graphOf, loadModel } from './proto.js';

/**
 * Moves all initializers above 1 KiB to `file`. `location` and `offset` are what the model then says, when they are
 * to differ from the truth.
 */
export function externalize(fixture: string, file: string, location = file, offset?: string, over = 1024): string {
  const model = loadModel(fixture);
  const parts: Uint8Array[] = [];
  let at = 0;
  for (const t of graphOf(model).initializer ?? []) {
    const raw = t.rawData as Uint8Array | undefined;
    if (!raw || raw.length <= over) continue;
    t.rawData = new Uint8Array(0);
    t.dataLocation = 1;
    t.externalData = [
      { key: 'location', value: location },
      { key: 'offset', value: offset ?? String(at) },
      { key: 'length', value: String(raw.length) },
    ] as never;
    parts.push(raw);
    at += raw.length;
  }
  const path = modelFile(encodeModel(model));
  writeFileSync(join(dirname(path), file), Buffer.concat(parts));
  return path;
}
