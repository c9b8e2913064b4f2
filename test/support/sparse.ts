/** A model of any size that takes no room on disk: one embedded weight is a hole in a sparse file. */
import { openSync, closeSync, ftruncateSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { encodeHeader, encodeStringField, encodeVarintField, concat } from '../../src/onnx/wire.js';
import { folder } from './folder.js';
import { encodeModel, graphOf, loadModel } from './proto.js';
import onnxProto from 'onnx-proto';

const { onnx } = onnxProto;

/** `fixture` with one more initializer, unused, so that the file has exactly `size` bytes. */
export async function hugeModel(fixture: string, size: number): Promise<string> {
  const model = loadModel(fixture);
  const graph = onnx.GraphProto.encode(graphOf(model)).finish();
  model.graph = null as never;
  const rest = encodeModel(model);
  // Lengths of this size are five-byte varints, all the way up.
  const tensorStart = (payload: number): Uint8Array =>
    concat([encodeVarintField(1, payload), encodeVarintField(2, 2), encodeStringField(8, 'hole'), encodeHeader(9, payload)]);
  const overhead = rest.length + graph.length + tensorStart(2 ** 30).length + 2 * encodeHeader(5, 2 ** 30).length;
  const payload = size - overhead;
  const start = tensorStart(payload);
  const tensor = start.length + payload;
  const head = concat([rest, encodeHeader(7, graph.length + encodeHeader(5, tensor).length + tensor), graph, encodeHeader(5, tensor), start]);
  const path = join(folder(), 'model.onnx');
  const fd = openSync(path, 'w');
  writeSync(fd, head);
  ftruncateSync(fd, head.length + payload);
  closeSync(fd);
  return path;
}
