/** The Markdown summary, for $GITHUB_STEP_SUMMARY and pull requests. */
import type { ValidateReport } from '../validate/result.js';
import { allTables, gatesTable, type TextTable, thresholdsTable } from './validate-tables.js';

const cell = (text: string): string => text.replace(/\|/g, '\\|').replace(/\n/g, ' ');

export function markdownTable(t: TextTable): string {
  const line = (cells: readonly string[]): string => `| ${cells.map(cell).join(' | ')} |`;
  const rule = `| ${t.columns.map((c) => (c.right ? '---:' : '---')).join(' | ')} |`;
  return [`#### ${t.title}`, '', line(t.columns.map((c) => c.title || ' ')), rule, ...t.rows.map(line), ...(t.note ? ['', t.note] : [])].join('\n');
}

const VERDICT = { passed: '✅ passed', failed: '❌ failed', incomplete: '⚠️ incomplete' } as const;

export function toMarkdown(r: ValidateReport): string {
  const missed = thresholdsTable(r, true);
  const failedGates = r.providers.flatMap((p) => (p.gates.some((g) => g.status === 'failed') ? [{ ...gatesTable(p), rows: gatesTable(p).rows.filter((row) => row[1] === 'failed') }] : []));
  const { plan } = r.rewritten;
  const head = [
    `### pdrop-compile validate: ${VERDICT[r.verdict]}`,
    '',
    `\`${r.original.file}\` against \`${r.rewritten.file}\`: dropped before layer ${plan.layers.join(', ')}, kept ${plan.keep.join(', ')}, rank ${plan.rank}; ${r.data.samples} sample${r.data.samples === 1 ? '' : 's'} (${r.data.kind}: ${r.data.source})${r.shard ? `, shard ${r.shard.index} of ${r.shard.of}` : ''}.`,
    ...(r.data.note ? ['', `> ${r.data.note}`] : []),
    ...(r.data.failed > 0 ? ['', `> ${r.data.failed} sample${r.data.failed === 1 ? '' : 's'} failed: ${r.providers.flatMap((p) => p.faults.map((f) => `${f.id} (${f.code})`)).slice(0, 5).join(', ')}`] : []),
  ];
  const findings = r.findings.length > 0 ? ['', ...r.findings.map((f) => `- ${f}`)] : [];
  const fallen = [...failedGates, ...(missed ? [missed] : [])].map((t) => `\n${markdownTable(t)}`);
  const rest = ['', '<details><summary>All figures</summary>', '', ...allTables(r).map((t) => `${markdownTable(t)}\n`), '</details>'];
  return `${[...head, ...findings, ...fallen, ...rest].join('\n')}\n`;
}

