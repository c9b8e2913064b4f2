/** The rankers by name; what each reads of the graph is told in src/plan/ranks.ts. */
import type { RankMethod } from '../../src/plan/ranks.js';
import { attention } from './attention.js';
import { balanced } from './balanced.js';
import { change } from './change.js';
import { diverse } from './diverse.js';
import { heads } from './heads.js';
import { norope } from './norope.js';
import { random } from './random.js';
import type { Ranker } from './ranker.js';
import { transition } from './transition.js';
import { uniform } from './uniform.js';

export const RANKERS: Readonly<Record<RankMethod, Ranker>> = { attention, norope, heads, change, transition, diverse, balanced, uniform, random };
