import { Argument, type Command, type Option } from 'commander';
import { describe, pageOf, type SuggestedValues, valuesOf } from './terminal/help-page.ts';

const PAGE = {
  summary: 'print a shell completion script for commands, options and their values',
  examples: [
    ['source <(metrics-fanout completion bash)', 'in ~/.bashrc'],
    ['source <(metrics-fanout completion zsh)', 'in ~/.zshrc, after compinit'],
    ['metrics-fanout completion fish > ~/.config/fish/completions/metrics-fanout.fish', 'run once'],
  ],
  exit: [
    ['0', 'printed'],
    ['1', 'unknown shell'],
  ],
} as const;

export function completionCommand(): Command {
  const shells = { bash, zsh, fish } as const;
  return describe('completion', PAGE)
    .addArgument(new Argument('<shell>', 'the shell').choices(Object.keys(shells)))
    .action((shell: keyof typeof shells, _options: object, command: Command) => {
      process.stdout.write(shells[shell](nodesOf(command.parent!)));
    });
}

/** One command of the tree, as a completion script needs it. */
interface Node {
  /** Names from the program down, without its own: `['ctl', 'pause']`. */
  readonly path: readonly string[];
  readonly commands: readonly { readonly name: string; readonly summary: string }[];
  readonly options: readonly Option[];
  readonly arguments: readonly Argument[];
}

/** Returns the program first, then each command before its subcommands. */
function nodesOf(command: Command, path: readonly string[] = []): Node[] {
  const help = command.createHelp();
  const node: Node = {
    path,
    commands: command.commands.map((sub) => ({ name: sub.name(), summary: pageOf(sub)?.summary ?? '' })),
    options: help.visibleOptions(command),
    arguments: [...command.registeredArguments],
  };
  return [node, ...command.commands.flatMap((sub) => nodesOf(sub, [...path, sub.name()]))];
}

function takesValue({ required, optional }: Option): boolean {
  return required || optional;
}

const flagsOf = ({ short, long }: Option) => [short, long].filter((flag) => flag !== undefined);
const wordsOf = (values: SuggestedValues) => (values === 'file' ? [] : values);
const quoted = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;

function bash(nodes: readonly Node[]): string {
  const paths = nodes.map(({ path }) => path.join(' ')).filter((path) => path !== '');
  const values = nodes.flatMap(({ path, options }) =>
    options.filter(takesValue).flatMap((option) => {
      const found = valuesOf(option);
      const flags = flagsOf(option).map((flag) => quoted(`${path.join(' ')}:${flag}`));
      const reply = found === 'file' ? 'compgen -f' : `compgen -W ${quoted(found.join(' '))}`;
      const names = found === 'file' ? 'compopt -o filenames; ' : '';
      return `    ${flags.join('|')}) ${names}mapfile -t COMPREPLY < <(${reply} -- "$word"); return ;;`;
    }),
  );
  const words = nodes.map(({ path, commands, options, arguments: given }) => {
    const offered = [
      ...commands.map(({ name }) => name),
      ...given.flatMap((argument) => wordsOf(valuesOf(argument))),
      ...options.flatMap(flagsOf),
    ];
    return `    ${quoted(path.join(' '))}) words=${quoted(offered.join(' '))} ;;`;
  });
  return `# bash completion of metrics-fanout: source <(metrics-fanout completion bash)
_metrics_fanout() {
  local word=\${COMP_WORDS[COMP_CWORD]} path='' words='' next i
  for ((i = 1; i < COMP_CWORD; i++)); do
    next=\${path:+$path }\${COMP_WORDS[i]}
    case $next in
      ${paths.map(quoted).join('|')}) path=$next ;;
    esac
  done
  COMPREPLY=()
  case $path:\${COMP_WORDS[COMP_CWORD - 1]} in
${values.join('\n')}
  esac
  case $path in
${words.join('\n')}
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}
complete -F _metrics_fanout metrics-fanout
`;
}

/** Escapes what is special to `_arguments`. */
const escaped = (text: string) => text.replace(/[[\]:\\]/g, '\\$&');

function zsh(nodes: readonly Node[]): string {
  const action = (values: SuggestedValues) => (values === 'file' ? '_files' : `(${values.join(' ')})`);
  const optionSpecs = ({ options }: Node) =>
    options.flatMap((option) => {
      const value = takesValue(option)
        ? `:${escaped(option.attributeName())}:${action(valuesOf(option))}`
        : '';
      const repeats = Array.isArray(option.defaultValue) ? '*' : '';
      return flagsOf(option).map((flag) =>
        quoted(`${repeats}${flag}[${escaped(option.description)}]${value}`),
      );
    });
  const argumentSpecs = ({ arguments: given }: Node) =>
    given.map((argument) =>
      quoted(`${argument.variadic ? '*' : ''}:${escaped(argument.name())}:${action(valuesOf(argument))}`),
    );
  const functionOf = (path: readonly string[]) => ['_metrics_fanout', ...path].join('_');
  const bodies = nodes.map((node) => {
    const { path, commands } = node;
    const head = `${functionOf(path)}() {\n`;
    const specs = [...optionSpecs(node), ...argumentSpecs(node)].map((spec) => ` \\\n    ${spec}`).join('');
    if (commands.length === 0) return `${head}  _arguments -S${specs}\n}\n`;
    const listed = commands.map(({ name, summary }) => `    ${quoted(`${name}:${summary}`)}`).join('\n');
    const branches = commands.map(({ name }) => `    ${name}) ${functionOf([...path, name])} ;;`).join('\n');
    return `${head}  local line state
  local -a commands=(
${listed}
  )
  _arguments -C${specs} \\
    '1: :->command' '*:: :->rest'
  case $state in
    command) _describe command commands ;;
    rest) case $line[1] in
${branches}
    esac ;;
  esac
}
`;
  });
  return `#compdef metrics-fanout
# zsh completion of metrics-fanout: source <(metrics-fanout completion zsh)
${bodies.join('\n')}
if [[ $funcstack[1] == _metrics-fanout ]]; then
  _metrics_fanout "$@"
else
  compdef _metrics_fanout metrics-fanout
fi
`;
}

function fish(nodes: readonly Node[]): string {
  const lines = nodes.flatMap(({ path, commands, options, arguments: given }) => {
    const isHere = `-n ${quoted(`__metrics_fanout_at ${path.join(' ')}`.trim())}`;
    const offer = (words: readonly string[], meaning: string) =>
      `complete -c metrics-fanout ${isHere} -a ${quoted(words.join(' '))} -d ${quoted(meaning)}`;
    const option = (one: Option) => {
      const flags = [one.short && `-s ${one.short.slice(1)}`, one.long && `-l ${one.long.slice(2)}`];
      const values = valuesOf(one);
      const value = values === 'file' ? '-rF' : `-x -a ${quoted(values.join(' '))}`;
      return [
        `complete -c metrics-fanout ${isHere}`,
        ...flags.filter((flag) => flag !== undefined),
        ...(takesValue(one) ? [value] : []),
        `-d ${quoted(one.description)}`,
      ].join(' ');
    };
    return [
      ...commands.map(({ name, summary }) => offer([name], summary)),
      ...given
        .map((argument) => ({ words: wordsOf(valuesOf(argument)), name: argument.name() }))
        .filter(({ words }) => words.length > 0)
        .map(({ words, name }) => offer(words, name)),
      ...options.map(option),
    ];
  });
  const paths = nodes.map(({ path }) => path.join(' ')).filter((path) => path !== '');
  return `# fish completion of metrics-fanout
function __metrics_fanout_at
    set -l path ''
    for word in (commandline -opc)[2..]
        set -l next (string trim -- "$path $word")
        if contains -- "$next" ${paths.map(quoted).join(' ')}
            set path $next
        end
    end
    test "$path" = "$argv"
end
complete -c metrics-fanout -f
${lines.join('\n')}
`;
}
