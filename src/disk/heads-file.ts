/** The file of `--rank heads:<file>`. */
import { type HeadWeights, parseRank } from '../plan/rank-option.js';
import { requireSchema } from './schemas.js';
import { readJson } from './small-files.js';

/**
 * The head weights a `--rank` option names; undefined for other rankers.
 *
 * @throws {UsageError} PD002 unreadable, PD017 not after schemas/heads.schema.json
 */
export function headWeightsOf(rank: string | undefined): HeadWeights | undefined {
  const path = rank === undefined ? undefined : parseRank(rank).headsFile;
  if (path === undefined) return undefined;
  const json = readJson(path, 'the head weights are', 'see schemas/heads.schema.json');
  return requireSchema<{ weights: HeadWeights }>('heads', json, path).weights;
}
