/** Element-wise comparison of two runs' outputs: for pairs that must be equal, never for pruned against original. */
import { floats, type HostTensor } from '../running/tensor.js';

export interface Difference {
  /** Largest |a − b|, over max(1, largest |b|) of its tensor. */
  readonly relative: number;
  readonly absolute: number;
  /** The output with the largest difference. */
  readonly tensor: string;
  readonly bitEqual: boolean;
  /** Set when two outputs do not even have the same shape. */
  readonly shapes: string | undefined;
}

export const NO_DIFFERENCE: Difference = { relative: 0, absolute: 0, tensor: '', bitEqual: true, shapes: undefined };

/** Compares the outputs both have. NaN against a number counts as infinite. */
export function compareOutputs(a: ReadonlyMap<string, HostTensor>, b: ReadonlyMap<string, HostTensor>, names: Iterable<string>): Difference {
  let worst = NO_DIFFERENCE;
  for (const name of names) {
    const x = a.get(name);
    const y = b.get(name);
    if (!x || !y) continue;
    const d = compareTensors(x, y, name);
    worst = worse(worst, d);
    if (d.shapes) return { ...worst, shapes: d.shapes, tensor: name, relative: Number.POSITIVE_INFINITY, absolute: Number.POSITIVE_INFINITY, bitEqual: false };
  }
  return worst;
}

export function worse(a: Difference, b: Difference): Difference {
  const larger = b.relative > a.relative || (b.shapes !== undefined && a.shapes === undefined) ? b : a;
  return { ...larger, bitEqual: a.bitEqual && b.bitEqual };
}

export function compareTensors(x: HostTensor, y: HostTensor, name: string): Difference {
  if (x.dims.length !== y.dims.length || x.dims.some((d, i) => d !== y.dims[i])) {
    return { relative: Number.POSITIVE_INFINITY, absolute: Number.POSITIVE_INFINITY, tensor: name, bitEqual: false, shapes: `"${name}" is [${x.dims.join(', ')}] against [${y.dims.join(', ')}]` };
  }
  const p = floats(x);
  const q = floats(y);
  let absolute = 0;
  let scale = 1;
  let bitEqual = true;
  for (let i = 0; i < p.length; i++) {
    const u = p[i] ?? 0;
    const v = q[i] ?? 0;
    if (Number.isFinite(v)) scale = Math.max(scale, Math.abs(v));
    if (u === v || (Number.isNaN(u) && Number.isNaN(v))) continue;
    bitEqual = false;
    const d = Math.abs(u - v);
    absolute = Math.max(absolute, Number.isNaN(d) ? Number.POSITIVE_INFINITY : d);
  }
  return { relative: absolute / scale, absolute, tensor: name, bitEqual, shapes: undefined };
}
