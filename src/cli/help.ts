/** What every `--help` ends with: examples, and the exit codes that command can have. */
import type { Command } from 'commander';

/** Names of the commands, in the order of `--help`; `main` knows where each is. */
export const COMMANDS = ['compile', 'inspect', 'check', 'validate', 'flops', 'sweep', 'tune', 'merge', 'doctor', 'completion'] as const;

export type CommandName = (typeof COMMANDS)[number];

type Example = readonly [command: string, what: string];

const EXAMPLES: Readonly<Record<CommandName, readonly [Example, Example, ...Example[]]>> = {
  compile: [
    ['model.onnx --stages 4 --lambda 0.5', 'writes model.pdrop.onnx beside it'],
    ['./SmolVLM-ONNX -o ./SmolVLM-pdrop', 'a whole folder, for the runtime it is laid out for'],
    ['model.onnx --layers 8,16 --keep 0.5,0.25 --positions keep --dry-run', 'what a schedule costs; writes nothing'],
  ],
  inspect: [
    ['inspect model.onnx', 'layers, attention, roles; for a graph that would be refused, why'],
    ['inspect model.onnx --json', 'the same for programs'],
  ],
  check: [
    ['check model.pdrop.onnx', 'is it sound, and does it follow its plan?'],
    ['check model.pdrop.onnx --json', 'the same for programs'],
  ],
  validate: [
    ['validate model.onnx model.pdrop.onnx --data samples/ --generate 32 --html report.html', 'costs and losses on real prompts'],
    ['validate model.onnx model.pdrop.onnx --data samples/ --max-kl 0.05 --min-flops-cut 0.4 --junit junit.xml', 'a gate for CI: exit code 1 when a limit is missed'],
  ],
  flops: [
    ['flops model.pdrop.onnx --image-tokens 2880', 'MACs of a graph, original or compiled'],
    ['flops --paper', 'the paper’s own figures'],
  ],
  sweep: [
    ['sweep model.onnx --data samples/ --lambda 0.3:0.9:0.1 --stages 2,4 --html curve.html', 'the curve to choose a point from'],
    ['sweep model.onnx --data samples/ --positions compact,keep --generate 16', 'both position modes, with answers'],
  ],
  tune: [
    ['tune model.onnx --data samples/ --target-flops 0.5 -o plan.json', 'the least loss at half the MACs'],
    ['tune model.onnx --data samples/ --min-accuracy 0.9 --budget 30m --report tune.json', 'the least cost at an accuracy; taken up when interrupted'],
  ],
  merge: [
    ['merge shard-1.json shard-2.json --report report.json --html report.html', 'one report of all shards'],
    ['merge shards/*.json --max-kl 0.05', 'judged anew, as a whole'],
  ],
  doctor: [
    ['doctor', 'which execution providers work here, and what others need'],
    ['doctor --ep webgpu', 'exit code 1 when it does not'],
  ],
  completion: [
    ['completion bash > ~/.local/share/bash-completion/completions/pdrop-compile', 'for bash'],
    ['completion fish > ~/.config/fish/completions/pdrop-compile.fish', 'for fish; zsh: a file _pdrop-compile in a folder of $fpath'],
  ],
};

const USAGE = '2 usage: options, paths, the system';
const BUG = '70 a bug of pdrop-compile';

const EXITS: Readonly<Record<CommandName, readonly string[]>> = {
  compile: ['0 done', USAGE, '3 the model cannot be compiled as asked', BUG],
  inspect: ['0 done', USAGE, '3 the model would be refused', BUG],
  check: ['0 sound', '1 not sound, or not what its plan says', USAGE, '3 no readable model', BUG],
  validate: ['0 passed', '1 a gate failed or a threshold was missed', USAGE, '3 a model was refused', '4 samples failed', BUG, '130 interrupted'],
  flops: ['0 done', USAGE, '3 no readable model', BUG],
  sweep: ['0 done', USAGE, '3 a schedule was refused', '4 samples failed', BUG, '130 interrupted'],
  tune: ['0 the target is met', '1 it is missed on held-out samples', USAGE, '3 a schedule was refused', '4 samples failed', BUG, '130 interrupted'],
  merge: ['0 passed', '1 a gate failed or a threshold was missed', USAGE, '4 samples failed', BUG],
  doctor: ['0 done', '1 a provider asked for does not work', USAGE, BUG],
  completion: ['0 done', USAGE],
};

/** What stands behind the options in a command's `--help`. */
export function helpEnd(name: CommandName): string {
  const lines = EXAMPLES[name].map(([command, what]) => `  $ pdrop-compile ${command}\n      ${what}`);
  return `\nExamples:\n${lines.join('\n')}\n\nExit codes:\n${EXITS[name].map((e) => `  ${e}`).join('\n')}`;
}

export function addHelpEnds(program: Command): void {
  for (const command of program.commands) {
    const name = COMMANDS.find((n) => n === command.name());
    if (name) command.addHelpText('after', helpEnd(name));
  }
}

export const PROGRAM_HELP = `
Examples:
  $ pdrop-compile model.onnx --stages 4 --lambda 0.5
      compiles a decoder; \`pdrop-compile <command> --help\` has more
  $ pdrop-compile validate model.onnx model.pdrop.onnx --data samples/
      what that costs and loses

Exit codes:
  0 done   1 a gate, threshold or check failed   2 usage   3 the model was refused   4 samples failed   70 a bug
  128 + n ended by signal n (141: the reader of the output went away)

  --explain <code> says what an error code means. NO_COLOR and FORCE_COLOR are heeded.`;
