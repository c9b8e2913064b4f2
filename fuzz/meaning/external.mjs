/** A model with its weights in files beside it, in the layouts exporters and hand-written tools produce. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { encode } from '../proto.mjs';

/** Writes model.onnx and its data to a folder and returns the model's path. */
export function writeExternal(model, folder, layout, threshold = 256) {
  const single = 'model.onnx.data';
  const parts = [];
  let at = 0;
  const known = new Map();
  let index = 0;
  for (const t of model.graph.initializer) {
    const raw = t.rawData;
    if (!raw || raw.length < threshold) continue;
    const bytes = Uint8Array.from(raw);
    t.rawData = new Uint8Array(0);
    Reflect.deleteProperty(t, 'rawData');
    t.dataLocation = 1;
    if (layout === 'a file each' || layout === 'in a folder') {
      const location = `${layout === 'in a folder' ? 'weights/' : ''}${index++}.bin`;
      mkdirSync(dirname(join(folder, location)), { recursive: true });
      writeFileSync(join(folder, location), bytes);
      t.externalData = [{ key: 'location', value: location }];
      continue;
    }
    const key = layout === 'shared bytes' ? Buffer.from(bytes).toString('base64') : undefined;
    let offset = key === undefined ? undefined : known.get(key);
    if (offset === undefined) {
      const step = layout === 'aligned' ? 4096 : 8;
      const gap = (step - (at % step)) % step;
      parts.push(new Uint8Array(gap), bytes);
      offset = at + gap;
      at = offset + bytes.length;
      if (key !== undefined) known.set(key, offset);
    }
    t.externalData = [
      { key: 'location', value: single },
      { key: 'offset', value: String(offset) },
      ...(layout === 'without lengths' ? [] : [{ key: 'length', value: String(bytes.length) }]),
    ];
  }
  if (parts.length > 0) writeFileSync(join(folder, single), Buffer.concat(parts));
  const path = join(folder, 'model.onnx');
  writeFileSync(path, encode(model));
  return path;
}
