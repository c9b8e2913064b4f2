/** Test results → the table of docs/families.md. Figures that vary by machine are given by their order of magnitude's bound. */
export interface FixtureResult {
  readonly name: string;
  readonly family: string;
  readonly modelType: string;
  readonly exporter: string;
  readonly dtype: string;
  /** Kinds of scenarios that passed. */
  readonly scenarios: string[];
  /** Largest relative error of the logits. */
  worst: number;
  readonly tolerance: number;
  /** Compiled, but not run on the CPU provider. */
  readonly compiledOnly: boolean;
}

const KINDS: readonly (readonly [RegExp, string])[] = [
  [/^prefill|^logits/, 'prefill'],
  [/^decode$/, 'decode'],
  [/^batch$|padding/, 'padded batch'],
  [/text/, 'text only'],
  [/second/, 'second image'],
];

export function familyTable(results: readonly FixtureResult[]): string {
  const rows = [...results]
    .sort((a, b) => a.family.localeCompare(b.family) || a.name.localeCompare(b.name))
    .map((r) => `| ${r.family} | ${r.modelType} | ${r.dtype} | ${r.compiledOnly ? 'compiled; runs on WebGPU only' : scenarioWords(r)} | ${r.compiledOnly ? '–' : bound(r.tolerance)} | \`${r.name}\` |`);
  return ['| export | model | weights | runs that match the reference | logits within | fixture |', '|---|---|---|---|---|---|', ...rows].join('\n');
}

function scenarioWords(r: FixtureResult): string {
  const words = new Set<string>();
  for (const kind of r.scenarios) {
    let known = false;
    for (const [pattern, word] of KINDS) {
      if (pattern.test(kind)) {
        words.add(word);
        known = true;
      }
    }
    if (!known) words.add(kind.replace(/-/g, ' '));
  }
  return [...words].join(', ') || 'none';
}

function bound(tolerance: number): string {
  return tolerance.toExponential(0).replace('e', '·10^').replace('^-', '⁻').replace(/⁻(\d)/, (_, d: string) => `⁻${'⁰¹²³⁴⁵⁶⁷⁸⁹'[Number(d)]}`).replace('·10⁻', '·10⁻');
}
