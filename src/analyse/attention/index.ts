/** All attention of a graph, in node order, whatever it is spelled in. */
import type { AttentionCore } from '../facts.js';
import type { Node } from '../../ir/graph.js';
import type { DialectContext } from './context.js';
import { matchContrib } from './contrib.js';
import { matchDecomposed } from './decomposed.js';
import { matchStandard } from './standard.js';

export type { DialectContext } from './context.js';

export function findAttention(ctx: DialectContext): AttentionCore[] {
  const cores: AttentionCore[] = [];
  for (let i = 0; i < ctx.graph.nodes.length; i++) {
    const node = ctx.graph.nodes[i] as Node;
    const core = matchDecomposed(ctx, node) ?? matchStandard(ctx, node) ?? matchContrib(ctx, node);
    if (core) cores.push(core);
  }
  return cores;
}
