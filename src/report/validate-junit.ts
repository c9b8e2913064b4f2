/** JUnit XML: gates, thresholds and samples as test cases, for CI systems that show those. */
import type { ValidateReport } from '../validate/result.js';
import { xmlText as escape } from './text.js';

interface Case {
  readonly group: string;
  readonly name: string;
  readonly failure?: string | undefined;
  readonly error?: string | undefined;
  readonly skipped?: string | undefined;
}

export function toJunit(r: ValidateReport): string {
  const cases: Case[] = [];
  for (const p of r.providers) {
    for (const g of p.gates) cases.push({ group: `gates.${p.provider}`, name: g.gate, ...(g.status === 'failed' ? { failure: g.detail } : g.status === 'skipped' ? { skipped: g.detail } : {}) });
    for (const s of p.samples) cases.push({ group: `samples.${p.provider}`, name: s.id });
    for (const f of p.faults) cases.push({ group: `samples.${p.provider}`, name: f.id, error: `${f.code}: ${f.message}` });
  }
  for (const t of r.thresholds) {
    const group = `thresholds.${t.provider ?? 'all'}`;
    cases.push({ group, name: `${t.option} ${t.limit}`, failure: t.met ? undefined : `${t.name} is ${t.actual ?? 'not known'}, the limit is ${t.limit}` });
  }
  const groups = [...new Set(cases.map((c) => c.group))];
  const suite = (group: string): string => {
    const own = cases.filter((c) => c.group === group);
    const inner = own.map((c) => {
      const body = c.failure !== undefined ? `<failure message="${escape(c.failure)}"/>` : c.error !== undefined ? `<error message="${escape(c.error)}"/>` : c.skipped !== undefined ? `<skipped message="${escape(c.skipped)}"/>` : '';
      return `    <testcase classname="pdrop-compile.${escape(group)}" name="${escape(c.name)}"${body ? `>${body}</testcase>` : '/>'}`;
    });
    return `  <testsuite name="${escape(group)}" tests="${own.length}" failures="${own.filter((c) => c.failure !== undefined).length}" errors="${own.filter((c) => c.error !== undefined).length}" skipped="${own.filter((c) => c.skipped !== undefined).length}">\n${inner.join('\n')}\n  </testsuite>`;
  };
  const count = (pick: (c: Case) => boolean): number => cases.filter(pick).length;
  return `<?xml version="1.0" encoding="UTF-8"?>\n<testsuites name="pdrop-compile validate" tests="${cases.length}" failures="${count((c) => c.failure !== undefined)}" errors="${count((c) => c.error !== undefined)}">\n${groups.map(suite).join('\n')}\n</testsuites>\n`;
}
