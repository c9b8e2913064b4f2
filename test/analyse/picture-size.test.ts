/** Whole vision-language graphs that leave the size of pictures open: it is told by the tower's table of positions. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { pictureSize } from '../../src/analyse/picture-size.js';
import { compile } from '../../src/index.js';
import { MemorySource } from '../../src/onnx/bytes.js';
import { readModel } from '../../src/onnx/read.js';
import type { Value } from '../../src/ir/graph.js';
import { folder } from '../support/folder.js';
import { decodeModel, encodeModel, fixturePath, graphOf, valueInfo } from '../support/proto.js';

/** Pictures of 24 × 24 in patches of 6, and one row more in the table for the class. */
function open(): string {
  const model = decodeModel(readFileSync(fixturePath('tf-llava-mono')));
  const graph = graphOf(model);
  graph.input = graph.input?.map((v) => (v.name === 'pixel_values' ? valueInfo('pixel_values', 1, [2, 3, 'height', 'width']) : v));
  const path = join(folder(), 'model.onnx');
  writeFileSync(path, encodeModel(model));
  return path;
}

describe('a picture of open size', () => {
  it('is as large as the table has rows', async () => {
    const { graph } = await readModel(new MemorySource(new Uint8Array(readFileSync(open()))));
    expect(pictureSize(graph.inputs.find((v) => v.name === 'pixel_values') as Value)).toEqual([24, 24]);
    expect(graph.inputs.filter((v) => v.name !== 'pixel_values').map(pictureSize)).toEqual([undefined, undefined]);
  });

  it('does not make the graph contradict itself', async () => {
    const report = await compile(open(), { layers: [2], imageMask: 'input-ids:120', output: join(folder(), 'out.onnx') });
    expect(report.plan.layers).toEqual([2]);
  });
});
