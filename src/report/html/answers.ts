/** What both models said about a sample, and whether it was right; and the answers that changed sides. */
import { answersMatch } from '../../validate/fidelity/divergence.js';
import type { SampleRecord } from '../../validate/fidelity/records.js';
import { spoken } from '../../validate/feeding/words.js';
import type { ValidateReport } from '../../validate/result.js';
import { html, type Markup, type Piece } from './markup.js';
import { count, counted } from './numbers.js';
import { note, type Section, table, verdict } from './parts.js';

export interface Said {
  readonly original: string;
  readonly rewritten: string;
  /** What counts as right; null where the sample has no answers. */
  readonly accepted: string | null;
  readonly right: { readonly original: boolean; readonly rewritten: boolean } | null;
}

/** One entry a row of the sample; none where nothing was generated. */
export function saidOf(report: ValidateReport, sample: SampleRecord | undefined): Said[] {
  const own = sample?.candidates.rewritten?.generated;
  return (sample?.generated ?? []).flatMap((original, row) => {
    const rewritten = own?.[row];
    const answers = sample?.answers?.[row];
    if (!rewritten) return [];
    return [{
      original: spoken(report.words, original),
      rewritten: spoken(report.words, rewritten),
      accepted: answers ? answers.map((a) => spoken(report.words, a)).join(' or ') : null,
      right: answers ? { original: answersMatch(original, answers), rewritten: answersMatch(rewritten, answers) } : null,
    }];
  });
}

const mark = (text: string, right: boolean | undefined): Markup => html`<q>${text}</q>${right !== undefined && html` ${right ? verdict('good', 'right') : verdict('bad', 'wrong')}`}`;

/** Both answers, for beside a picture. */
export function saidMarkup(said: readonly Said[]): Markup | null {
  if (said.length === 0) return null;
  return html`<dl class="said">${said.map((s, row) => html`${said.length > 1 && html`<dt>row</dt><dd>${count(row)}</dd>`}<dt>original</dt><dd>${mark(s.original, s.right?.original)}</dd><dt>rewritten</dt><dd>${mark(s.rewritten, s.right?.rewritten)}</dd>${s.accepted !== null && html`<dt>answer</dt><dd>${s.accepted}</dd>`}`)}</dl>`;
}

const SHOWN = 40;

/** Answers that one model has right and the other wrong; null where there are no answers. */
export function flipsSection(report: ValidateReport): Section | null {
  const [first] = report.providers;
  if (!first?.fidelity?.answers) return null;
  const all = first.samples.flatMap((sample) => saidOf(report, sample).flatMap((s) => (s.right && s.right.original !== s.right.rewritten ? [{ sample, s, lost: s.right.original }] : [])));
  const lost = all.filter((f) => f.lost).length;
  const body = html`
${note(`Of ${counted(first.fidelity.answers.samples, 'answer')} on ${first.provider}, ${count(lost)} ${lost === 1 ? 'was' : 'were'} right and became wrong; ${count(all.length - lost)} ${all.length - lost === 1 ? 'was' : 'were'} wrong and became right.${report.words ? '' : ' Tokens are shown by their ids: there is no tokenizer.json beside the model.'}`)}
${all.length > 0 && table('Answers that changed sides', [{ title: 'sample' }, { title: 'answer' }, { title: 'original' }, { title: 'rewritten' }], all.sort((a, b) => Number(b.lost) - Number(a.lost)).slice(0, SHOWN).map(({ sample, s }): Piece[] => [
    html`${sample.id}${sample.title !== undefined && html` <small>${sample.title}</small>`}`,
    s.accepted ?? '',
    mark(s.original, s.right?.original),
    mark(s.rewritten, s.right?.rewritten),
  ]), 'stack')}
${all.length > SHOWN && note(`${count(all.length - SHOWN)} more are in the JSON at the end of this file.`)}`;
  return { id: 'flips', title: 'Answers that changed sides', body };
}
