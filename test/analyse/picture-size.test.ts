/** Whole vision-language graphs that leave the size of pictures open: the tower's table of positions tells it, or what is cut out of its first grid. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { pictureSize } from '../../src/analyse/picture-size.js';
import { compile } from '../../src/index.js';
import { MemorySource } from '../../src/onnx/bytes.js';
import { readModel } from '../../src/onnx/read.js';
import type { Value } from '../../src/ir/graph.js';
import { folder } from '../support/folder.js';
import { decodeModel, encodeModel, fixturePath, type GraphProto, graphOf, insertAfter, node, valueInfo } from '../support/proto.js';

/** Pictures of 24 × 24 in patches of 6, and one row more in the table for the class. */
function open(change: (graph: GraphProto) => void = () => undefined): string {
  const model = decodeModel(readFileSync(fixturePath('tf-llava-mono')));
  const graph = graphOf(model);
  change(graph);
  graph.input = graph.input?.map((v) => (v.name === 'pixel_values' ? valueInfo('pixel_values', 1, [2, 3, 'height', 'width']) : v));
  const path = join(folder(), 'model.onnx');
  writeFileSync(path, encodeModel(model));
  return path;
}

describe('a picture of open size', () => {
  it('is as large as the table has rows', async () => {
    const { graph } = await readModel(new MemorySource(new Uint8Array(readFileSync(open()))));
    expect(pictureSize(graph.inputs.find((v) => v.name === 'pixel_values') as Value)).toEqual([undefined, undefined, 24, 24]);
    expect(graph.inputs.filter((v) => v.name !== 'pixel_values').map(pictureSize)).toEqual([undefined, undefined]);
  });

  it('does not make the graph contradict itself', async () => {
    const report = await compile(open(), { layers: [2], imageMask: 'input-ids:120', output: join(folder(), 'out.onnx') });
    expect(report.plan.layers).toEqual([2]);
  });

  it('is as large, and are as many, as constants take out of the first grid', async () => {
    const { graph } = await readModel(new MemorySource(new Uint8Array(readFileSync(fixturePath('tf-pixtral-mono')))));
    const pixels = graph.inputs.find((v) => v.name === 'pixel_values') as Value;
    expect(pixels.type?.dims?.slice(2).map((d) => typeof d)).toEqual(['string', 'string']);
    expect(pictureSize(pixels)).toEqual([2, undefined, 24, 24]);
  });

  it('that nothing tells is named, and the graph not blamed', async () => {
    // Behind Relu nobody looks for positions.
    const path = open((graph) => {
      const made = graph.node?.find((n) => n.opType === 'Conv')?.output?.[0] as string;
      insertAfter(graph, made, [node('Relu', [made], ['positive'])], 'positive');
    });
    const refused = await compile(path, { layers: [2], imageMask: 'input-ids:120', output: join(folder(), 'out.onnx') }).catch((e: unknown) => e);
    expect(refused).toMatchObject({ code: 'PD323' });
    expect(String(refused)).toMatch(/pixel_values \[2, 3, 96, 96\]/);
  });
});
