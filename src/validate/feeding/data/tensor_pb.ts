/** TensorProto files (`input_0.pb` of ONNX test data sets) → tensors. They are whole messages, small enough to be held: onnx-proto reads them. */
import type { onnx } from 'onnx-proto';
import { DataLocation } from '../../../onnx/proto.js';
import { type Dtype, DTYPE_OF, elementCount, fromBytes, fromNumbers, type HostTensor } from '../../running/tensor.js';

/** Name ('' when the file has none) and tensor. @throws {Error} with the reason. */
export async function parseTensorProto(bytes: Uint8Array): Promise<{ name: string; tensor: HostTensor }> {
  const { onnx } = (await import('onnx-proto')).default;
  let proto: onnx.TensorProto;
  try {
    proto = onnx.TensorProto.decode(bytes);
  } catch (error) {
    throw new Error(`it is no complete TensorProto: ${(error as Error).message}`, { cause: error });
  }
  const dtype = DTYPE_OF[proto.dataType];
  if (!dtype) throw new Error(`element type number ${proto.dataType} is not one that models take`);
  if (proto.dataLocation === DataLocation.EXTERNAL) throw new Error('its payload is external data; store it inside the .pb file');
  const dims = proto.dims.map(Number);
  if (dims.some((d) => d < 0 || !Number.isSafeInteger(d))) throw new Error(`it has dimensions ${dims.join(', ')}`);
  return { name: proto.name, tensor: proto.rawData.length > 0 ? fromBytes(dtype, dims, proto.rawData) : fromTyped(dtype, dims, typedField(proto)) };
}

/** Elements of float_data, int32_data and the like; 64-bit ones as protobufjs has them. */
type Elements = onnx.TensorProto['int64Data'];

/** The one that holds something. */
function typedField(proto: onnx.TensorProto): Elements {
  return [proto.floatData, proto.int32Data, proto.int64Data, proto.doubleData, proto.uint64Data].find((list) => list.length > 0) ?? [];
}

function fromTyped(dtype: Dtype, dims: readonly number[], values: Elements): HostTensor {
  if (values.length !== elementCount(dims)) throw new Error(`${values.length} values where [${dims.join(', ')}] needs ${elementCount(dims)}`);
  switch (dtype) {
    case 'int64':
      return { dtype, dims, data: BigInt64Array.from(values, (v) => BigInt(v.toString())) };
    case 'uint64':
      return { dtype, dims, data: BigUint64Array.from(values, (v) => BigInt(v.toString())) };
    case 'float16':
      // int32_data holds half-precision bits, not values.
      return { dtype, dims, data: Uint16Array.from(values, Number) };
    default:
      return fromNumbers(dtype, dims, values.map(Number));
  }
}
