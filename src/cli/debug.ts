/** PDROP_DEBUG=2: the graph as text after every pass, one file each, for `diff`. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { PassRun } from '../rewrite/rewrite.js';
import type { Graph } from '../ir/graph.js';
import { printGraph } from '../ir/print.js';

export function debugDump(model: string): (run: PassRun, graph: Graph) => void {
  let n = 0;
  return (run, graph) => {
    const path = join(process.env.PDROP_DEBUG_DIR ?? '.', `pdrop-debug-${n++}-${run.name}.txt`);
    writeFileSync(path, `# ${model} after ${run.name}: ${run.applied.join('; ')}\n${printGraph(graph)}`);
    process.stderr.write(`PDROP_DEBUG: ${path} (${run.nodesAfter} nodes, ${run.milliseconds.toFixed(1)} ms${run.changed ? '' : ', unchanged'})\n`);
  };
}
