/** `pdrop-compile doctor`: which execution providers work on this machine, why the others do not, what to install. */
import type { Command } from 'commander';
import { doctor } from '../../validate/doctor.js';
import { parseProviders, PROVIDERS } from '../../validate/running/providers.js';
import { table } from '../terminal.js';
import { print, printJson } from '../output.js';
import { whileShowing } from '../progress.js';

export function register(program: Command): void {
  program
    .command('doctor')
    .summary('which execution providers work here')
    .description('Runs a tiny model on every execution provider, each in a process of its own, and says what is missing for those that do not work.')
    .option('--ep <list>', 'only these; exit code 1 when one of them does not work')
    .option('--json', 'print JSON')
    .action(async (f: { ep?: string; json?: boolean }) => {
      const providers = f.ep ? parseProviders(f.ep) : PROVIDERS;
      const report = await whileShowing(`trying ${providers.join(', ')}`, () => doctor(providers));
      if (f.json) printJson(report);
      else {
        const rows = report.providers.map((p) => [p.provider, p.works ? 'works' : 'no', p.works ? '' : (p.reason ?? '')]);
        const needs = report.providers.filter((p) => !p.works).map((p) => `${p.provider} needs ${p.needs}`);
        const environment = Object.entries(report.environment).map(([k, v]) => `${k}=${v}`);
        print(`${[`onnxruntime-node ${report.onnxruntime}, Node ${report.node}, ${report.platform}`, '', table([{ title: 'provider' }, { title: '' }, { title: 'why not' }], rows), ...(needs.length > 0 ? ['', ...needs] : []), ...(environment.length > 0 ? ['', ...environment] : [])].join('\n')}`);
      }
      if (f.ep && report.providers.some((p) => !p.works)) process.exitCode = 1;
    });
}
