/** Sizes that are worked out from sizes: what such a value is at the probe sizes, it is at all sizes. */
import type { Value } from '../ir/graph.js';
import { at, settle } from '../ir/settle.js';

/** Ops through which a size stays arithmetic of the sizes it is made of: nothing is clamped, chosen or read from data. */
const SIZE_ARITHMETIC: ReadonlySet<string> = new Set(['Shape', 'Size', 'Gather', 'Slice', 'Concat', 'Unsqueeze', 'Squeeze', 'Reshape', 'Cast', 'Add', 'Sub', 'Mul', 'Div', 'Constant', 'ConstantOfShape', 'Equal', 'Where', 'Identity', 'ReduceProd']);

/** True when the value is made by arithmetic of constants and of the sizes of any values. `known` holds what was found before. */
export function isSizeArithmetic(value: Value, known: Map<Value, boolean>): boolean {
  return settle(value, known, (v) => {
    const n = v.producer;
    // An initializer that is an input as well may be fed otherwise.
    if (n === null) return at(() => v.tensor !== undefined && !v.isInput);
    if (n.domain !== '' || !SIZE_ARITHMETIC.has(n.opType)) return at(() => false);
    const needs = n.is('Shape') || n.is('Size') ? [] : n.inputs.filter((i) => i !== null);
    return { needs, make: () => needs.every((i) => known.get(i)) };
  });
}
