/** Shapes of content, without the content. */
import type { Node, Value } from '../ir/graph.js';
import type { Axis } from '../analyse/probes.js';
import { describeAxes } from './gathering.js';
import type { FramesView } from './frames-view.js';
import { uncuttable } from './stages.js';

/** The axes that a Shape node gives the sizes of. */
export function shapePart(node: Node, axes: readonly Axis[] | null): readonly Axis[] | undefined {
  return axes?.slice(node.int('start', 0), node.attributes.has('end') ? node.int('end', 0) : undefined);
}

/** What a Shape node over content gives in stage `j`, put together from sizes. */
export function shapeFromAxes({ facts, builder }: FramesView, node: Node, j: number, size: (axis: Exclude<Axis, '?'>) => Value): Value {
  const x = node.inputs[0] as Value;
  const axes = facts.probes.axes(x);
  const wanted = shapePart(node, axes);
  if (!wanted) throw uncuttable(x, 'its rank is not known');
  return builder.concat(
    `shape_s${j}`,
    wanted.map((a) => {
      if (a === '?') throw uncuttable(x, `its size in a later stage is not known (${describeAxes(axes)})`);
      return size(a);
    }),
    0,
  );
}
