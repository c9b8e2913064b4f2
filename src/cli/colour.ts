/**
 * Colours of the terminal: only words that are said anyway, so that nothing is lost without them. By hand, because styleText of
 * node:util came with Node 20.12, and text from outside must be made harmless before it is coloured, not after.
 */
const SGR = { red: 31, green: 32, yellow: 33, cyan: 36 } as const;

/** FORCE_COLOR decides; else NO_COLOR forbids; else a terminal that is not dumb has colours. */
export function hasColours(stream: { readonly isTTY?: boolean | undefined }, env: Readonly<Record<string, string | undefined>> = process.env): boolean {
  const { FORCE_COLOR, NO_COLOR, TERM } = env;
  if (FORCE_COLOR !== undefined && FORCE_COLOR !== '') return FORCE_COLOR !== '0' && FORCE_COLOR !== 'false';
  if (NO_COLOR) return false;
  return stream.isTTY === true && TERM !== 'dumb';
}

const WORDS: readonly (readonly [RegExp, keyof typeof SGR])[] = [
  [/^error PD\d{3}:/gm, 'red'],
  [/^warning:/gm, 'yellow'],
  [/^next:/gm, 'cyan'],
  [/^(?:passed(?=:)|ok(?= {2}))/gm, 'green'],
  [/^(?:failed(?=:)|FAIL(?= {2}))/gm, 'red'],
  [/^incomplete(?=:)/gm, 'yellow'],
  [/\b(?:SLOWER|LOSES|GREW|FELL|MISSED)\b/g, 'red'],
];

/** Harmless text with its words coloured. */
export function painted(text: string): string {
  return WORDS.reduce((t, [words, colour]) => t.replace(words, (w) => `\u001b[${SGR[colour]}m${w}\u001b[39m`), text);
}
