/** onnx-proto: decode → trivial edit → encode. Usage: node bench/peer-proto.mjs <in> <out> */
import { readFileSync, writeFileSync } from 'node:fs';
import onnxProto from 'onnx-proto';

const [, , source, target] = process.argv;
const { ModelProto } = onnxProto.onnx;
const model = ModelProto.decode(readFileSync(source));
model.metadataProps.push({ key: 'bench', value: 'edited' });
writeFileSync(target, ModelProto.encode(model).finish());
