/** NumPy's .npy and .npz (numpy.lib.format, version 1 to 3): C or Fortran order, little endian. */
import { inflateRawSync } from 'node:zlib';
import { type Dtype, elementCount, fromBytes, type HostTensor, zeros } from '../../running/tensor.js';

const DESCR: Readonly<Record<string, Dtype>> = {
  '<f4': 'float32', '<f8': 'float64', '<f2': 'float16', '<i8': 'int64', '<u8': 'uint64', '<i4': 'int32', '<u4': 'uint32',
  '<i2': 'int16', '<u2': 'uint16', '|i1': 'int8', '|u1': 'uint8', '|b1': 'bool',
};

/** One array of a .npy file. @throws {Error} with the reason when it is not one, or of a type models do not take. */
export function parseNpy(bytes: Uint8Array): HostTensor {
  if (bytes.length < 12 || bytes[0] !== 0x93 || String.fromCharCode(...bytes.subarray(1, 6)) !== 'NUMPY') throw new Error('not a .npy array');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const major = bytes[6] ?? 1;
  const headerStart = major >= 2 ? 12 : 10;
  const headerLength = major >= 2 ? view.getUint32(8, true) : view.getUint16(8, true);
  const header = new TextDecoder().decode(bytes.subarray(headerStart, headerStart + headerLength));
  const descr = /'descr':\s*'([^']+)'/.exec(header)?.[1] ?? '';
  const fortran = /'fortran_order':\s*True/.test(header);
  const shape = /'shape':\s*\(([^)]*)\)/.exec(header)?.[1];
  if (shape === undefined) throw new Error('the .npy header has no shape');
  const dims = shape.split(',').map((s) => s.trim()).filter(Boolean).map(Number);
  if (!dims.every((d) => Number.isSafeInteger(d) && d >= 0)) throw new Error(`the .npy header says its shape is (${shape})`);
  const dtype = DESCR[descr.replace(/^=/, '<')];
  if (!dtype) throw new Error(`element type ${descr || '(structured)'} is not one that models take`);
  const payload = bytes.subarray(headerStart + headerLength);
  const size = elementCount(dims) * (zeros(dtype, [0]).data.BYTES_PER_ELEMENT);
  if (payload.length < size) throw new Error(`the .npy array is cut off: ${payload.length} of ${size} bytes`);
  const tensor = fromBytes(dtype, dims, payload.subarray(0, size));
  return fortran && dims.length > 1 ? toRowMajor(tensor) : tensor;
}

function toRowMajor(t: HostTensor): HostTensor {
  const out = zeros(t.dtype, t.dims);
  const n = t.dims.length;
  const index = new Array<number>(n).fill(0);
  const strides = t.dims.map((_, axis) => t.dims.slice(0, axis).reduce((a, b) => a * b, 1));
  for (let i = 0; i < t.data.length; i++) {
    let from = 0;
    for (let k = 0; k < n; k++) from += (index[k] ?? 0) * (strides[k] ?? 1);
    (out.data as Float64Array)[i] = t.data[from] as number;
    for (let k = n - 1; k >= 0; k--) {
      index[k] = (index[k] ?? 0) + 1;
      if ((index[k] ?? 0) < (t.dims[k] ?? 0)) break;
      index[k] = 0;
    }
  }
  return out;
}

/** Entries of a zip file by name, through its central directory (zip64 sizes included). */
export function* zipEntries(bytes: Uint8Array): Generator<{ name: string; data: () => Uint8Array }> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let end = bytes.length - 22;
  while (end >= 0 && view.getUint32(end, true) !== 0x06054b50) end--;
  if (end < 0) throw new Error('not a zip file, or cut off');
  let count = view.getUint16(end + 10, true);
  let at = view.getUint32(end + 16, true);
  if ((count === 0xffff || at === 0xffffffff) && end >= 20 && view.getUint32(end - 20, true) === 0x07064b50) {
    const end64 = Number(view.getBigUint64(end - 12, true));
    count = Number(view.getBigUint64(end64 + 32, true));
    at = Number(view.getBigUint64(end64 + 48, true));
  }
  for (let i = 0; i < count; i++) {
    if (view.getUint32(at, true) !== 0x02014b50) throw new Error('the zip directory is damaged');
    const method = view.getUint16(at + 10, true);
    let packed = view.getUint32(at + 20, true);
    let unpacked = view.getUint32(at + 24, true);
    const nameLength = view.getUint16(at + 28, true);
    const extraLength = view.getUint16(at + 30, true);
    const commentLength = view.getUint16(at + 32, true);
    let header = view.getUint32(at + 42, true);
    const name = new TextDecoder().decode(bytes.subarray(at + 46, at + 46 + nameLength));
    for (let e = at + 46 + nameLength; e + 4 <= at + 46 + nameLength + extraLength; ) {
      const id = view.getUint16(e, true);
      const size = view.getUint16(e + 2, true);
      if (id === 1) {
        let p = e + 4;
        const wide = (): number => {
          const v = Number(view.getBigUint64(p, true));
          p += 8;
          return v;
        };
        if (unpacked === 0xffffffff) unpacked = wide();
        if (packed === 0xffffffff) packed = wide();
        if (header === 0xffffffff) header = wide();
      }
      e += 4 + size;
    }
    const start = header + 30 + view.getUint16(header + 26, true) + view.getUint16(header + 28, true);
    yield {
      name,
      data: () => {
        const body = bytes.subarray(start, start + packed);
        if (method === 0) return body;
        if (method === 8) return new Uint8Array(inflateRawSync(body, { maxOutputLength: Math.max(unpacked, 1) }));
        throw new Error(`zip compression method ${method} of ${name} is not supported`);
      },
    };
    at += 46 + nameLength + extraLength + commentLength;
  }
}

/** Arrays of an .npz file by name. */
export function parseNpz(bytes: Uint8Array): Map<string, HostTensor> {
  const out = new Map<string, HostTensor>();
  for (const entry of zipEntries(bytes)) {
    if (!entry.name.endsWith('.npy')) continue;
    const name = entry.name.slice(0, -4);
    try {
      out.set(name, parseNpy(entry.data()));
    } catch (error) {
      throw new Error(`array "${name}": ${(error as Error).message}`, { cause: error });
    }
  }
  return out;
}
