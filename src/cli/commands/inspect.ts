/** `pdrop-compile inspect <model.onnx>`: what analysis finds. */
import { relative } from 'node:path';
import type { Command } from 'commander';
import { inspect, inspectFolder, type InspectFolderReport, type InspectReport, type LayerReport } from '../../index.js';
import { describeRank } from '../../plan/plan.js';
import { bytes, table } from '../terminal.js';
import { isFolder } from '../../disk/target.js';
import { print, printJson } from '../output.js';
import { whileShowing } from '../progress.js';

export function register(program: Command): void {
  program
    .command('inspect')
    .summary('show what is found in a graph: layers, attention, roles, image tokens')
    .argument('<model>', 'path of an .onnx file, or of a folder')
    .option('--json', 'print as JSON')
    .action(async (model: string, flags: { json?: boolean }) => {
      if (isFolder(model)) {
        const folder = await whileShowing(`reading ${model}`, () => inspectFolder(model));
        if (flags.json) printJson(folder);
        else print(renderFolder(folder));
        if (folder.decoders.some((d) => d.refusal && !d.compiled)) process.exitCode = 3;
        return;
      }
      const report = await whileShowing(`reading ${model}`, () => inspect(model));
      if (flags.json) printJson(report);
      else print(render(report));
      // A refused graph is a result, but scripts want to see it in the exit code.
      if (report.refusal && !report.compiled) process.exitCode = 3;
    });
}

function renderFolder(report: InspectFolderReport): string {
  const rows = [
    ...report.decoders.map((d) => [relative(report.input, d.input), 'decoder', d.compiled ? 'compiled already' : d.refusal ? `would be refused: ${d.refusal.code}` : (d.family ?? '')]),
    ...report.embeds.map((f) => [f, 'embeddings', '']),
    ...report.visions.map((f) => [f, 'vision encoder', '']),
  ];
  const [first] = report.decoders;
  return [`${report.input}: laid out for ${report.layout}, compiled for ${report.runtime} by default`, '', table([{ title: 'file' }, { title: 'what it is' }, { title: '' }], rows), '', ...(first ? [render(first)] : [])].join('\n');
}

function render(report: InspectReport): string {
  const lines = [
    `${report.input}: ${bytes(report.bytes)}, ${report.nodes} nodes, opset ${Object.entries(report.opsets).map(([d, v]) => `${d} ${v}`).join(', ')}${report.producer ? `, made by ${report.producer}` : ''}`,
  ];
  if (report.externalData.length > 0) lines.push(`external data: ${report.externalData.join(', ')}`);
  if (report.compiled) {
    const { version, plan } = report.compiled;
    lines.push(`compiled by pdrop-compile ${version}: layers ${plan.layers.join(', ')}, keep ${plan.keep.join(', ')}, image tokens ${JSON.stringify(plan.imageMask)}, positions ${plan.positions}, rank ${describeRank(plan)}`);
  }
  if (report.layers.length > 0) {
    lines.push(
      `family: ${report.family}`,
      `hidden size ${report.hiddenSize}; image tokens: ${report.imageTokens}`,
      '',
      table([{ title: 'layer', right: true }, { title: 'attention' }, { title: 'heads', right: true }, { title: 'size', right: true }, { title: 'scale', right: true }, { title: 'cache' }, { title: 'entry' }], report.layers.map(layerRow)),
      '',
      table([{ title: 'input' }, { title: 'role' }], abbreviate(Object.entries(report.inputs))),
      '',
      table([{ title: 'output' }, { title: 'role' }], abbreviate(Object.entries(report.outputs))),
    );
    if (report.shared.length > 0) {
      lines.push('', table([{ title: 'shared between layers' }, { title: 'layout' }, { title: 'readers', right: true }], report.shared.map((s) => [s.value, s.layout, String(s.readers)])));
    }
  }
  if (report.refusal) {
    const r = report.refusal;
    lines.push('', `would be refused: ${r.code} ${r.message}`, ...(r.culprit ? [`  at: ${r.culprit}`] : []), `  ${r.hint}`);
    for (const m of report.nearMisses) {
      lines.push('', `nearest miss: ${m.node} looks like ${m.looksLike}${m.alike > 0 ? ` (and ${m.alike} more alike)` : ''}`, `  ${m.reason}${m.stoppedAt ? ` at ${m.stoppedAt}` : ''}`, `  ${m.help}`);
    }
  }
  return lines.join('\n');
}

function layerRow(l: LayerReport): string[] {
  const notes = [l.rotary === 'inside' ? 'rotary inside' : '', l.softcap ? `cap ${l.softcap}` : '', l.qkNorm === 'inside' ? 'q/k norm inside' : ''].filter(Boolean).join(', ');
  return [
    String(l.layer),
    notes ? `${l.attention} (${notes})` : l.attention,
    l.heads === l.kvHeads ? String(l.heads) : `${l.heads}/${l.kvHeads}`,
    String(l.headDim),
    l.scale.toPrecision(4),
    l.past ? `${l.past}${l.croppedCache ? ' (window)' : ''}` : 'none',
    l.entry.join(' + '),
  ];
}

/** Long runs of caches: the first and the last two. */
function abbreviate(rows: readonly (readonly [string, string])[]): string[][] {
  if (rows.length <= 12) return rows.map((r) => [...r]);
  return [...rows.slice(0, 8), ['…', `${rows.length - 10} more`] as const, ...rows.slice(-2)].map((r) => [...r]);
}
