/** TensorProto files (`input_0.pb` of ONNX test data sets) → tensors. */
import { decodeTensor, typedNumbers } from '../../../onnx/decode.js';
import { fieldsOf } from '../../../onnx/wire.js';
import { type Dtype, elementCount, fromBytes, fromNumbers, type HostTensor } from '../../running/tensor.js';

const DTYPES: Readonly<Record<number, Dtype>> = {
  1: 'float32', 2: 'uint8', 3: 'int8', 4: 'uint16', 5: 'int16', 6: 'int32', 7: 'int64', 9: 'bool', 10: 'float16', 11: 'float64', 12: 'uint32', 13: 'uint64',
};

/** Name ('' when the file has none) and tensor. @throws {Error} with the reason. */
export function parseTensorProto(bytes: Uint8Array): { name: string; tensor: HostTensor } {
  const { name, tensor } = decodeTensor(bytes);
  const dtype = DTYPES[tensor.dataType];
  if (!dtype) throw new Error(`element type number ${tensor.dataType} is not one that models take`);
  if (tensor.external) throw new Error('its payload is external data; store it inside the .pb file');
  if (tensor.data) return { name, tensor: fromBytes(dtype, tensor.dims, tensor.data) };
  for (const f of fieldsOf(bytes)) if (f.number === 9) return { name, tensor: fromBytes(dtype, tensor.dims, bytes.subarray(f.dataStart, f.end)) };
  // Large tensors in typed fields (float_data and so on): rare, written by hand-made sets.
  const values = typedNumbers(bytes);
  if (values.length !== elementCount(tensor.dims)) throw new Error(`${values.length} values where [${tensor.dims.join(', ')}] needs ${elementCount(tensor.dims)}`);
  // int32_data holds half-precision bits, not values.
  return { name, tensor: dtype === 'float16' ? { dtype, dims: tensor.dims, data: Uint16Array.from(values) } : fromNumbers(dtype, tensor.dims, values) };
}
