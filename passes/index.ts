/** The passes, in the order they run. */
import type { Pass } from '../src/rewrite/pass.js';
import { branch } from './branch.js';
import { clean } from './clean.js';
import { declare } from './declare.js';
import { fix } from './fix.js';
import { imageTokens } from './image-tokens.js';
import { labels } from './labels.js';
import { rank } from './rank.js';
import { restage } from './restage.js';
import { restore } from './restore.js';

export const PASSES: readonly Pass[] = [imageTokens, rank, restage, restore, labels, declare, clean, branch, fix];
