/** Sizes that are worked out from sizes: what such a value is at the probe sizes, it is at all sizes. */
import type { Node, Value } from '../ir/graph.js';
import { at, settle } from '../ir/settle.js';

/** Ops through which a size stays arithmetic of the sizes it is made of: nothing is clamped, chosen or read from data. */
const SIZE_ARITHMETIC: ReadonlySet<string> = new Set(['Shape', 'Size', 'Gather', 'Slice', 'Concat', 'Unsqueeze', 'Squeeze', 'Reshape', 'Cast', 'Add', 'Sub', 'Mul', 'Div', 'Constant', 'ConstantOfShape', 'Equal', 'Where', 'Identity', 'ReduceProd']);

/** True when the value is made by arithmetic of constants and of the sizes of any values. `known` holds what was found before. */
export function isSizeArithmetic(value: Value, known: Map<Value, boolean>): boolean {
  return (
    byItself(value) ??
    settle(value, known, (v) => {
      const plain = byItself(v);
      if (plain !== undefined) return at(() => plain);
      const needs = (v.producer as Node).inputs.filter((i) => i !== null);
      return { needs, make: () => needs.every((i) => known.get(i)) };
    })
  );
}

/** Of most values it can be told without looking further back. */
function byItself({ producer, tensor, isInput }: Value): boolean | undefined {
  // An initializer that is an input as well may be fed otherwise.
  if (producer === null) return tensor !== undefined && !isInput;
  if (producer.domain !== '' || !SIZE_ARITHMETIC.has(producer.opType)) return false;
  return producer.opType === 'Shape' || producer.opType === 'Size' || producer.inputs.length === 0 ? true : undefined;
}
