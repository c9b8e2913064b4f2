/** A baseline: evenly spaced among the image tokens that are left. */
import { DataType } from '../../src/ir/graph.js';
import { evenly, type Ranker } from './ranker.js';

export const uniform: Ranker = (site) => site.context.builder.cast('score', evenly(site, (kept) => kept), DataType.FLOAT);
