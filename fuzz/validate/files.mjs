/** Data files in the forms that `--data` takes, as other tools write them. */

function npy({ dims, data }) {
  const head = `{'descr': '<i8', 'fortran_order': False, 'shape': (${dims.join(', ')}, ), }`;
  const padded = `${head.padEnd(Math.ceil((head.length + 11) / 64) * 64 - 11)}\n`;
  const start = Buffer.from([0x93, ...Buffer.from('NUMPY'), 1, 0, padded.length & 255, padded.length >> 8]);
  return Buffer.concat([start, Buffer.from(padded), Buffer.from(data.buffer, data.byteOffset, data.byteLength)]);
}

const TABLE = Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let k = 0; k < 8; k++) c = c & 1 ? (c >>> 1) ^ 0xedb88320 : c >>> 1;
  return c >>> 0;
});

function crc32(bytes) {
  let c = 0xffffffff;
  for (const b of bytes) c = TABLE[(c ^ b) & 255] ^ (c >>> 8);
  return (c ^ 0xffffffff) >>> 0;
}

/** A ZIP archive of arrays, stored. */
export function npz(arrays) {
  const parts = [];
  const directory = [];
  let at = 0;
  for (const [name, array] of Object.entries(arrays)) {
    const body = npy(array);
    const file = Buffer.from(`${name}.npy`);
    const common = Buffer.alloc(26);
    common.writeUInt16LE(20, 0);
    common.writeUInt32LE(crc32(body), 10);
    common.writeUInt32LE(body.length, 14);
    common.writeUInt32LE(body.length, 18);
    common.writeUInt16LE(file.length, 22);
    const local = Buffer.concat([Buffer.from('PK\x03\x04'), common, file, body]);
    const tail = Buffer.alloc(14);
    tail.writeUInt32LE(at, 10);
    directory.push(Buffer.concat([Buffer.from('PK\x01\x02'), Buffer.from([20, 0]), common, tail, file]));
    parts.push(local);
    at += local.length;
  }
  const list = Buffer.concat(directory);
  const end = Buffer.alloc(18);
  end.writeUInt16LE(parts.length, 4);
  end.writeUInt16LE(parts.length, 6);
  end.writeUInt32LE(list.length, 8);
  end.writeUInt32LE(at, 12);
  return Buffer.concat([...parts, list, Buffer.from('PK\x05\x06'), end]);
}

/** TensorProto of int64 with raw data. */
export function tensorProto(name, dims, data) {
  const varint = (n) => {
    const out = [];
    for (let v = n; ; v >>>= 7) {
      if (v < 128) return [...out, v];
      out.push((v & 127) | 128);
    }
  };
  const field = (number, body) => Buffer.from([...varint(number * 8 + 2), ...varint(body.length), ...body]);
  return Buffer.concat([Buffer.from(dims.flatMap((d) => [8, ...varint(d)])), Buffer.from([16, 7]), field(8, Buffer.from(name)), field(9, Buffer.from(data.buffer, data.byteOffset, data.byteLength))]);
}
