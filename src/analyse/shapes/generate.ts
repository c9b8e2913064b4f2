/**
 * Operators that make values from nothing but attributes or shapes.
 */

import { DataType, type Node } from '../../ir/graph.js';
import { type Call, type DataLimits, type HandlerTable, limitFor } from './call.js';
import { countOf, dimsFrom, unknownDims } from './dims.js';
import { rounder, tensorElements } from './numbers.js';
import type { Fact } from './types.js';

/** Graphs are evaluated many times, and a third of an exporter's nodes are constants: each is decoded once. */
const constants = new WeakMap<Node, { readonly limits: DataLimits; readonly fact: Fact }>();

function constant(call: Call): Fact {
  const { node, limits } = call;
  const known = constants.get(node);
  if (known?.limits.integers === limits.integers && known.limits.floats === limits.floats) return known.fact;
  const fact = decodeConstant(call);
  constants.set(node, { limits, fact });
  return fact;
}

function decodeConstant(call: Call): Fact {
  for (const [name, attribute] of call.node.attributes) {
    switch (attribute.kind) {
      case 'tensor': {
        const tensor = attribute.value;
        return call.fact(tensor.dataType, tensor.dims, tensorElements(tensor, limitFor(call.limits, tensor.dataType)));
      }
      case 'int':
        return call.fact(DataType.INT64, [], [Number(attribute.value)]);
      case 'ints':
        return call.fact(DataType.INT64, [attribute.value.length], attribute.value.map(Number));
      case 'float':
        return call.fact(DataType.FLOAT, [], [attribute.value]);
      case 'floats':
        return call.fact(DataType.FLOAT, [attribute.value.length], attribute.value);
      case 'string':
        if (name === 'value_string') return { dtype: DataType.STRING, shape: [] };
        break;
      case 'strings':
        return { dtype: DataType.STRING, shape: [attribute.value.length] };
      default:
        break;
    }
  }
  return { dtype: 0, shape: null };
}

function constantOfShape(call: Call): Fact {
  const value = call.node.attributes.get('value');
  const tensor = value?.kind === 'tensor' ? value.value : undefined;
  const dtype = tensor?.dataType ?? DataType.FLOAT;
  const fill = tensor === undefined ? 0 : tensorElements(tensor, 1)?.[0];
  const sizes = call.elements(0);
  if (sizes === undefined) {
    const rank = call.dim(0, 0);
    return { dtype, shape: unknownDims(rank) };
  }
  const shape = dimsFrom(sizes);
  if (fill === undefined || !call.follows(dtype, shape)) return { dtype, shape };
  return call.fact(dtype, shape, new Array<number>(countOf(shape) as number).fill(fill));
}

function range(call: Call): Fact {
  const dtype = call.dtype(0) || call.dtype(1);
  const [start, limit, delta] = [call.scalar(0), call.scalar(1), call.scalar(2)];
  if (start === undefined || limit === undefined || delta === undefined) return { dtype, shape: [null] };
  const count = Math.max(0, Math.ceil((limit - start) / delta));
  if (!Number.isFinite(count)) return { dtype, shape: [null] };
  if (!call.follows(dtype, [count])) return { dtype, shape: [count] };
  const round = rounder(dtype);
  const elements = new Array<number>(count);
  for (let i = 0; i < count; i++) elements[i] = round(start + i * delta);
  return call.whole(dtype, [count], elements);
}

function shapeOf(call: Call): Fact {
  const shape = call.shape(0);
  if (shape === null) return { dtype: DataType.INT64, shape: [null] };
  const clamp = (at: number): number => Math.min(Math.max(at < 0 ? at + shape.length : at, 0), shape.length);
  const from = clamp(call.node.int('start', 0));
  const to = clamp(call.node.int('end', shape.length));
  const part = shape.slice(from, Math.max(from, to)).map((d) => d ?? Number.NaN);
  return call.fact(DataType.INT64, [part.length], part);
}

/** Random*: sizes from an attribute; RandomNormalLike and friends: from the input. */
function random(call: Call): Fact {
  const shape = call.node.ints('shape') ?? call.shape(0);
  return { dtype: call.node.int('dtype', call.dtype(0) || DataType.FLOAT), shape };
}

function eyeLike(call: Call): Fact {
  const [rows, columns] = [call.dim(0, 0), call.dim(0, 1)];
  const dtype = call.node.int('dtype', call.dtype(0));
  const shape = [rows, columns];
  if (rows === null || columns === null || !call.follows(dtype, shape)) return { dtype, shape };
  const k = call.node.int('k', 0);
  return call.fact(dtype, shape, Array.from({ length: rows * columns }, (_, i) => ((i % columns) - Math.floor(i / columns) === k ? 1 : 0)));
}

export const generate: HandlerTable = {
  Constant: constant,
  ConstantOfShape: constantOfShape,
  Range: range,
  Shape: shapeOf,
  Size: (call) => {
    const count = countOf(call.shape(0));
    return call.fact(DataType.INT64, [], count === null ? undefined : [count]);
  },
  EyeLike: eyeLike,
  RandomNormal: random,
  RandomUniform: random,
  RandomNormalLike: random,
  RandomUniformLike: random,
  Bernoulli: random,
  Multinomial: (call) => ({ dtype: call.node.int('dtype', DataType.INT32), shape: [call.dim(0, 0), call.node.int('sample_size', 1)] }),
};
