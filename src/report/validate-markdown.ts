/** The Markdown summary, for $GITHUB_STEP_SUMMARY and pull requests. */
import { nextSteps } from '../validate/next-steps.js';
import type { ValidateReport } from '../validate/result.js';
import { markdownCode as code, markdownText as text } from './text.js';
import { allTables, gatesTable, type TextTable, thresholdsTable } from './validate-tables.js';

export function markdownTable(t: TextTable): string {
  const line = (cells: readonly string[]): string => `| ${cells.map(text).join(' | ')} |`;
  const rule = `| ${t.columns.map((c) => (c.right ? '---:' : '---')).join(' | ')} |`;
  return [`#### ${text(t.title)}`, '', line(t.columns.map((c) => c.title || ' ')), rule, ...t.rows.map(line), ...(t.note ? ['', text(t.note)] : [])].join('\n');
}

const VERDICT = { passed: '✅ passed', failed: '❌ failed', incomplete: '⚠️ incomplete' } as const;

export function toMarkdown(r: ValidateReport): string {
  const missed = thresholdsTable(r, true);
  const failedGates = r.providers.flatMap((p) => (p.gates.some((g) => g.status === 'failed') ? [{ ...gatesTable(p), rows: gatesTable(p).rows.filter((row) => row[1] === 'failed') }] : []));
  const { plan } = r.rewritten;
  const head = [
    `### pdrop-compile validate: ${VERDICT[r.verdict]}`,
    '',
    `${code(r.original.file)} against ${code(r.rewritten.file)}: dropped before layer ${plan.layers.join(', ')}, kept ${text(plan.keep.join(', '))}, rank ${text(plan.rank)}; ${r.data.samples} sample${r.data.samples === 1 ? '' : 's'} (${r.data.kind}: ${text(r.data.source)})${r.shard ? `, shard ${r.shard.index} of ${r.shard.of}` : ''}.`,
    ...(r.data.note ? ['', `> ${text(r.data.note)}`] : []),
    ...(r.data.failed > 0 ? ['', `> ${r.data.failed} sample${r.data.failed === 1 ? '' : 's'} failed: ${r.providers.flatMap((p) => p.faults.map((f) => `${text(f.id)} (${text(f.code)})`)).slice(0, 5).join(', ')}`] : []),
  ];
  const findings = r.findings.length > 0 ? ['', ...r.findings.map((f) => `- ${text(f)}`)] : [];
  const fallen = [...failedGates, ...(missed ? [missed] : [])].map((t) => `\n${markdownTable(t)}`);
  const next = r.verdict === 'failed' ? nextSteps(r).map((n) => `- next: ${text(n)}`) : [];
  const rest = ['', '<details><summary>All figures</summary>', '', ...allTables(r).map((t) => `${markdownTable(t)}\n`), '</details>'];
  return `${[...head, ...findings, ...fallen, ...(next.length > 0 ? ['', ...next] : []), ...rest].join('\n')}\n`;
}

