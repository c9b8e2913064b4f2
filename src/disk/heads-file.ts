/** The file of `--rank heads:<file>`. */
import { UsageError } from '../diagnostics.js';
import { type HeadWeights, parseRank } from '../plan/rank-option.js';
import { requireSchema } from './schemas.js';
import { readRegularText } from './small-files.js';

/**
 * The head weights a `--rank` option names; undefined for other rankers.
 *
 * @throws {UsageError} PD002 unreadable, PD017 not after schemas/heads.schema.json
 */
export function headWeightsOf(rank: string | undefined): HeadWeights | undefined {
  const path = rank === undefined ? undefined : parseRank(rank).headsFile;
  if (path === undefined) return undefined;
  let text: string;
  try {
    text = readRegularText(path);
  } catch (error) {
    throw new UsageError({ code: 'PD002', message: `cannot read the head weights: ${(error as Error).message}`, culprit: path, hint: 'check the path' }, { cause: error });
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new UsageError({ code: 'PD017', message: `the head weights are not JSON: ${(error as Error).message}`, culprit: path, hint: 'see schemas/heads.schema.json' }, { cause: error });
  }
  return requireSchema<{ weights: HeadWeights }>('heads', json, path).weights;
}
