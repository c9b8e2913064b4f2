/** The samples that moved most. */
import type { SampleRecord } from '../../validate/fidelity/records.js';
import type { ProviderReport, ValidateReport } from '../../validate/result.js';
import { type Cursor, each, known } from './cursor.js';
import { html, type Markup, type Piece } from './markup.js';
import { count, plain, share } from './numbers.js';
import { note, type Section, table } from './parts.js';

const SHOWN = 10;

interface Ranked {
  readonly sample: SampleRecord;
  readonly kl: number;
}

export function samplesSection(report: Cursor<ValidateReport>): Section | null {
  const providers = each(report.at('providers')).filter((p) => p.value.samples.length > 1);
  if (providers.length === 0) return null;
  const body = html`${providers.map((p) => one(p))}`;
  return { id: 'samples', title: 'Samples that moved most', body };
}

const mean = (list: readonly number[]): number => list.reduce((a, b) => a + b, 0) / Math.max(1, list.length);

function one(p: Cursor<ProviderReport>): Markup {
  const ranked = p.value.samples
    .flatMap((sample): Ranked[] => {
      const own = sample.candidates.rewritten;
      return own && own.kl.length > 0 && own.kl.every(known) ? [{ sample, kl: mean(own.kl) }] : [];
    })
    .sort((a, b) => b.kl - a.kl);
  const generated = ranked.some((r) => r.sample.candidates.rewritten?.firstDivergent);
  const right = (title: string): { title: string; right: true } => ({ title, right: true });
  const rows = ranked.slice(0, SHOWN).map(({ sample, kl }): Piece[] => {
    const c = sample.candidates.rewritten;
    const first = c?.firstDivergent?.map((f) => (f === null ? 'never' : String(f))).join(', ');
    return [
      html`${sample.id}${sample.title !== undefined && html` <small>${sample.title}</small>`}`,
      count(sample.tokens.length),
      sample.tokens.image.map(count).join(', '),
      html`<span data-sample="${sample.id}" data-mean-kl="${kl}">${plain(kl)}</span>`,
      plain(Math.max(...(c?.kl ?? [0]))),
      share(mean((c?.top1 ?? []).map(Number))),
      ...(generated ? [first ?? ''] : []),
    ];
  });
  return html`${note(`By mean KL on ${p.value.provider}${ranked.length > SHOWN ? `: the first ${SHOWN} of ${count(ranked.length)}` : ''}. All of them are in the JSON at the end of this file.`)}
${table(`Samples by mean KL on ${p.value.provider}`, [{ title: 'sample' }, right('tokens'), right('of the image'), right('mean KL'), right('largest KL'), right('same top-1'), ...(generated ? [right('first divergent token')] : [])], rows, 'stack')}`;
}
