/** The rankers by name; what each reads of the graph is told in src/plan/ranks.ts. */
import type { RankMethod } from '../../src/plan/ranks.js';
import { attention } from './attention.js';
import { random } from './random.js';
import type { Ranker } from './ranker.js';
import { uniform } from './uniform.js';

export const RANKERS: Readonly<Record<RankMethod, Ranker>> = { attention, uniform, random };
