// One annotation for each threshold that was missed, gate that failed and sample that could not be used: `::error title=…::…`.
// Everything in them comes from the report, and thereby from files of the repository: it is escaped as workflow commands ask.
import { readFileSync } from 'node:fs';

const report = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const value = (text) => String(text).replace(/%/g, '%25').replace(/\r/g, '%0D').replace(/\n/g, '%0A');
const property = (text) => value(text).replace(/:/g, '%3A').replace(/,/g, '%2C');
const MOST = 10; // GitHub shows no more of a step.
const lines = [];
const say = (title, text) => lines.push(`::error title=${property(`pdrop-compile: ${title}`)}::${value(text)}`);
const shown = (v) => (v === null ? 'not known' : Number(v.toPrecision(4)));

for (const t of report.thresholds ?? []) {
  if (t.met) continue;
  const sign = t.option.startsWith('--max') ? 'at most' : 'at least';
  say(`${t.option} missed`, `${t.name}${t.provider ? ` on ${t.provider}` : ''} is ${shown(t.actual)}; ${sign} ${shown(t.limit)} was asked for`);
}
for (const p of report.providers ?? []) {
  for (const g of p.gates ?? []) if (g.status === 'failed') say(`gate ${g.gate} failed on ${p.provider}`, g.detail);
  for (const f of p.faults ?? []) say(`sample ${f.id} failed`, `${f.code}: ${f.message}`);
}
for (const line of lines.slice(0, MOST)) console.log(line);
if (lines.length > MOST) console.log(`${lines.length - MOST} more are in the summary`);
