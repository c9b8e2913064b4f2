/** Reads the figures of a page back: places in the JSON, full values, and the text that people see. */

export interface ShownFigure {
  readonly path: string;
  readonly value: number | null;
  /** Text of a `<data>` element; undefined for bars and dots. */
  readonly text?: string | undefined;
}

const unescape = (text: string): string => text.replace(/&#(\d+);/g, (_, n: string) => String.fromCharCode(Number(n))).replace(/&quot;/g, '"').replace(/&lt;/g, '<').replace(/&gt;/g, '>').replace(/&amp;/g, '&');

/** Every element with a place in the JSON, of the page's source or of a dumped DOM. */
export function figuresOf(page: string): ShownFigure[] {
  const body = page.slice(0, page.indexOf('<script type="application/json"'));
  return [...body.matchAll(/<(\w+)[^>]*?data-path="([^"]*)" data-value="([^"]*)"[^>]*>([^<]*)/g)].map((m) => ({
    path: unescape(m[2] ?? ''),
    value: m[3] === 'null' ? null : Number(m[3]),
    text: m[1] === 'data' ? unescape(m[4] ?? '') : undefined,
  }));
}

/** The value at a JSON pointer. */
export function at(json: unknown, pointer: string): unknown {
  return pointer.split('/').slice(1).reduce<unknown>((v, k) => (v as Record<string, unknown>)[k.replace(/~1/g, '/').replace(/~0/g, '~')], json);
}

const UNITS: Readonly<Record<string, number>> = { '': 1, k: 1e3, M: 1e6, G: 1e9, T: 1e12, P: 1e15, B: 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3, '%': 0.01, pp: 0.01, '×': 1, µs: 1e-3, ms: 1, s: 1e3 };

/** The number a text stands for, and half a unit of its last digit. */
export function parse(text: string): { value: number; half: number } {
  const m = /^([+−]?)([\d,]*\.?\d*)(?:e([+−-]?\d+))? ?(\S*)$/.exec(text.trim());
  const unit = m && UNITS[m[4] ?? ''];
  if (!m || unit === undefined || m[2] === '') throw new Error(`"${text}" is not a figure`);
  const digits = (m[2] ?? '').replace(/,/g, '');
  const scale = unit * 10 ** Number((m[3] ?? '0').replace('−', '-'));
  const last = 10 ** -(digits.split('.')[1]?.length ?? 0);
  // 3 significant digits at least: an integer such as 326 KiB may stand for 326.4.
  return { value: Number(digits) * scale * (m[1] === '−' ? -1 : 1), half: (last * scale) / 2 };
}
