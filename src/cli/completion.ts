/** Completion scripts for shells, made of the commands and options that the program has: nothing is run when a key is pressed. */
import type { Command, Option } from 'commander';

export const SHELLS = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof SHELLS)[number];

interface Described {
  readonly name: string;
  readonly summary: string;
  readonly options: readonly Option[];
}

export function completionScript(shell: Shell, program: Command): string {
  const commands = program.commands.map((c): Described => ({ name: c.name(), summary: c.summary() || c.description(), options: c.createHelp().visibleOptions(c) }));
  return { bash, zsh, fish }[shell](commands);
}

const flags = (o: Option): string[] => [o.short, o.long].flatMap((f) => f ?? []);
const takesValue = (o: Option): boolean => o.required || o.optional;
/** In single quotes, for any shell. */
const quote = (text: string): string => `'${text.replace(/'/g, `'\\''`)}'`;

/** Words after an option of this command; those without choices complete to files. */
function choicesOf(commands: readonly Described[], line: (command: string, option: string, choices: string) => string): string {
  return commands.flatMap((c) => c.options.flatMap((o) => (o.argChoices ? flags(o).map((f) => line(c.name, f, o.argChoices?.join(' ') ?? '')) : []))).join('\n');
}

/** The command that stands first decides; without one it is compile. */
function bash(commands: readonly Described[]): string {
  return `# bash completion of pdrop-compile
_pdrop_compile() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev= command=compile
  COMPREPLY=()
  if [ "$COMP_CWORD" -gt 0 ]; then prev=\${COMP_WORDS[COMP_CWORD-1]}; fi
  case "\${COMP_WORDS[1]}" in
    ${commands.map((c) => c.name).join('|')}) if [ "$COMP_CWORD" -gt 1 ]; then command=\${COMP_WORDS[1]}; fi ;;
  esac
  case "$command $prev" in
${choicesOf(commands, (command, option, choices) => `    '${command} ${option}') COMPREPLY=($(compgen -W '${choices}' -- "$cur")); return ;;`)}
    'completion completion') COMPREPLY=($(compgen -W '${SHELLS.join(' ')}' -- "$cur")); return ;;
  esac
  local options=
  case "$command" in
${commands.map((c) => `    ${c.name}) options='${c.options.flatMap(flags).join(' ')}' ;;`).join('\n')}
  esac
  if [[ $cur == -* ]]; then COMPREPLY=($(compgen -W "$options" -- "$cur")); return; fi
  if [ "$COMP_CWORD" -eq 1 ]; then COMPREPLY=($(compgen -W '${[...commands.map((c) => c.name), 'help'].join(' ')}' -- "$cur")); fi
  COMPREPLY+=($(compgen -f -- "$cur"))
}
complete -o filenames -F _pdrop_compile pdrop-compile
`;
}

function zsh(commands: readonly Described[]): string {
  const described = (o: Option): string => flags(o).map((f) => quote(`${f}:${o.description.replace(/:/g, '\\:')}`)).join(' ');
  return `#compdef pdrop-compile
# zsh completion of pdrop-compile
_pdrop_compile() {
  local command=compile
  local -a commands options
  commands=(${commands.map((c) => quote(`${c.name}:${c.summary.replace(/:/g, '\\:')}`)).join(' ')})
  if (( CURRENT > 2 )) && [[ " ${commands.map((c) => c.name).join(' ')} " == *" $words[2] "* ]]; then command=$words[2]; fi
  case "$command $words[CURRENT-1]" in
${choicesOf(commands, (command, option, choices) => `    ('${command} ${option}') compadd -- ${choices}; return ;;`)}
    ('completion completion') compadd -- ${SHELLS.join(' ')}; return ;;
  esac
  case "$command" in
${commands.map((c) => `    (${c.name}) options=(${c.options.map(described).join(' ')}) ;;`).join('\n')}
  esac
  if [[ $words[CURRENT] == -* ]]; then _describe -o option options; return; fi
  if (( CURRENT == 2 )); then _describe command commands; fi
  _files
}
_pdrop_compile "$@"
`;
}

function fish(commands: readonly Described[]): string {
  const names = commands.map((c) => c.name).join(' ');
  const lines = commands.flatMap((c) => {
    const when = c.name === 'compile' ? `not __fish_seen_subcommand_from ${commands.filter((d) => d.name !== 'compile').map((d) => d.name).join(' ')}` : `__fish_seen_subcommand_from ${c.name}`;
    return c.options.map((o) => ['complete -c pdrop-compile', `-n ${quote(when)}`, ...(o.short ? [`-s ${o.short.slice(1)}`] : []), ...(o.long ? [`-l ${o.long.slice(2)}`] : []), ...(takesValue(o) ? ['-r'] : []), ...(o.argChoices ? [`-f -a ${quote(o.argChoices.join(' '))}`] : []), `-d ${quote(o.description)}`].join(' '));
  });
  return `# fish completion of pdrop-compile
${commands.map((c) => `complete -c pdrop-compile -n ${quote(`not __fish_seen_subcommand_from ${names}`)} -a ${c.name} -d ${quote(c.summary)}`).join('\n')}
complete -c pdrop-compile -n '__fish_seen_subcommand_from completion' -f -a '${SHELLS.join(' ')}'
${lines.join('\n')}
`;
}
