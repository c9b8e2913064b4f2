/** Token ids as words, for people who read a report: the pieces that the tokenizer.json beside a model gives them. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { readRegularText } from '../../disk/small-files.js';

/** Pieces of the ids that a report shows, and how they join: with blanks, or bytes of UTF-8 spelled as GPT-2 spells them. */
export interface Words {
  readonly join: 'blanks' | 'bytes' | 'none';
  readonly pieces: Readonly<Record<string, string>>;
}

interface Tokenizer {
  readonly model?: { readonly type?: string; readonly vocab?: Readonly<Record<string, number>> | readonly (readonly [string, number])[] };
  readonly added_tokens?: readonly { readonly id: number; readonly content: string; readonly special?: boolean }[];
}

/** Null where there is no tokenizer beside the model (or in the folder above), or it is not understood: ids are shown then. */
export function wordsOf(model: string, ids: ReadonlySet<number>): Words | null {
  const folder = dirname(model);
  const path = [join(folder, 'tokenizer.json'), join(folder, '..', 'tokenizer.json')].find((p) => existsSync(p));
  if (path === undefined || ids.size === 0) return null;
  let tokenizer: Tokenizer;
  try {
    tokenizer = JSON.parse(readRegularText(path)) as Tokenizer;
  } catch {
    return null;
  }
  const { vocab, type } = tokenizer.model ?? {};
  if (typeof vocab !== 'object' || vocab === null) return null;
  const pieces: Record<string, string> = {};
  if (Array.isArray(vocab)) for (const id of ids) pieces[id] = String((vocab as readonly (readonly [string, number])[])[id]?.[0] ?? '');
  else for (const [piece, id] of Object.entries(vocab as Readonly<Record<string, number>>)) if (ids.has(id)) pieces[id] = piece;
  // What ends a text is no part of it.
  for (const t of Array.isArray(tokenizer.added_tokens) ? tokenizer.added_tokens : []) if (ids.has(t.id)) pieces[t.id] = t.special ? '' : t.content;
  const text = Object.values(pieces).join('');
  return { join: type === 'WordLevel' ? 'blanks' : text.includes('Ġ') || text.includes('Ċ') ? 'bytes' : 'none', pieces };
}

/** What was said: words where they are known, else ids. */
export function spoken(words: Words | null | undefined, ids: readonly number[]): string {
  const { pieces } = words ?? {};
  if (!words || !pieces || ids.some((id) => pieces[id] === undefined)) return ids.join(' ');
  const list = ids.map((id) => pieces[id] as string).filter((p) => p !== '');
  if (words.join === 'blanks') return list.join(' ');
  const text = list.join('');
  return (words.join === 'bytes' ? utf8(text) : text).replaceAll('▁', ' ').trim();
}

/** GPT-2 spells the bytes of a text as printable characters: those that are none are moved behind U+0100, in order. */
function utf8(text: string): string {
  return new TextDecoder().decode(Uint8Array.from([...text].flatMap((c) => BYTE_OF.get(c) ?? [...new TextEncoder().encode(c)])));
}

const printable = (b: number): boolean => (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
const BYTE_OF: ReadonlyMap<string, number> = new Map(
  Array.from({ length: 256 }, (_, b) => b).map((b) => [String.fromCodePoint(printable(b) ? b : 256 + Array.from({ length: b }, (_, x) => x).filter((x) => !printable(x)).length), b]),
);
