import type { Argument, Command, Option } from 'commander';
import { RELEASED, VERSION } from '../base/version.ts';
import type { Setting } from '../settings/setting.ts';
import { describe, type HelpPage, type HelpRow, pageOf } from './terminal/help-page.ts';

const PAGE = {
  summary: 'print the manual page',
  examples: [
    ['metrics-fanout manual | man -l -', 'shows it; after npm install -g, man metrics-fanout also does'],
    ['metrics-fanout manual --markdown', "the README's table of commands"],
  ],
  exit: [['0', 'printed']],
} as const;

export function manualCommand(): Command {
  return describe('manual', PAGE)
    .option('--markdown', 'print the table of all commands, as in the README')
    .action(async (options: { markdown?: true }, command: Command) => {
      const program = command.parent!;
      process.stdout.write(options.markdown ? commandsMarkdown(program) : await manualPage(program));
    });
}

/** Returns the README's table of commands, generated so that it always matches them. */
export function commandsMarkdown(program: Command): string {
  const rows = program.commands.map((command) => {
    const usage = synopsis(command, ['metrics-fanout', command.name()]).replaceAll('|', '\\|');
    return `| \`${usage}\` | ${pageOf(command)!.summary} |`;
  });
  return ['| command | what it does |', '|---|---|', ...rows, ''].join('\n');
}

function synopsis(command: Command, path: readonly string[]): string {
  const names = command.commands.map((sub) => sub.name()).join('|');
  // With options of its own, a command also does something by itself.
  const parts = names !== '' && command.options.length > 0 ? `[${names}]` : names;
  const given = command.registeredArguments.map(argumentText);
  const options = command.options.map(({ flags, mandatory }) => (mandatory ? flags : `[${flags}]`));
  return [...path, ...(parts === '' ? [] : [parts]), ...given, ...options].join(' ');
}

function argumentText(argument: Argument): string {
  const name = `${argument.name()}${argument.variadic ? '...' : ''}`;
  return argument.required ? `<${name}>` : `[${name}]`;
}

/** Returns the page in the man macros of roff, which every `man` reads. */
async function manualPage(program: Command): Promise<string> {
  const page = pageOf(program)!;
  const commands = program.commands.flatMap((command) => [
    ...commandSection(command, [program.name(), command.name()]),
    ...command.commands.flatMap((sub) =>
      commandSection(sub, [program.name(), command.name(), sub.name()], pageOf(command)),
    ),
  ]);
  const { settingGroups } = await import('../config/setting-groups.ts');
  const groups = (await settingGroups()).flatMap(({ title, settings }) => [
    `.SS "${roff(title.replaceAll('`', ''))}"`,
    ...settings.flatMap(({ variable, setting }) => row([variable, meaningOf(setting)])),
  ]);
  const lines = [
    `.TH METRICS-FANOUT 1 "${RELEASED}" "metrics-fanout ${VERSION}" "User commands"`,
    '.SH NAME',
    `metrics\\-fanout \\- ${roff(NAME)}`,
    '.SH SYNOPSIS',
    ...program.commands.flatMap((command, i) => [
      ...(i === 0 ? [] : ['.br']),
      roff(synopsis(command, [program.name(), command.name()])),
    ]),
    '.SH DESCRIPTION',
    roff(page.summary),
    ...paragraphs(page.text),
    '.SH COMMANDS',
    ...commands,
    ...rows('.SH "EXIT STATUS"', page.exit),
    '.SH ENVIRONMENT',
    ...groups,
    ...rows('.SH EXAMPLES', page.examples),
  ];
  return `${lines.join('\n')}\n`;
}

const NAME = 'aggregates metrics from a NATS bus and writes them to several stores';

/** Leaves out what the section of the command above already says. */
function commandSection(command: Command, path: readonly string[], above?: HelpPage): string[] {
  const { summary, text, examples, exit, environment = [] } = pageOf(command)!;
  const options = command.createHelp().visibleOptions(command);
  return [
    `.SS "${roff(path.slice(1).join(' '))}"`,
    `.B ${roff(synopsis(command, path))}`,
    '.PP',
    roff(summary),
    ...(text === above?.text ? [] : paragraphs(text)),
    ...command.registeredArguments
      .filter(({ description }) => description !== '')
      .flatMap((argument) => row([argument.name(), argument.description])),
    ...options.flatMap((option) => row([option.flags, optionText(option, command)])),
    ...labelled('Examples:', examples),
    ...(exit === above?.exit ? [] : labelled('Exit status:', exit)),
    ...(environment === above?.environment ? [] : labelled('Environment:', environment)),
  ];
}

function optionText(option: Option, command: Command): string {
  return command.createHelp().optionDescription(option);
}

function meaningOf({ meaning, expected, default: given }: Setting<unknown>): string {
  return `${meaning}. Expected: ${expected}.${given === undefined ? '' : ` Default: ${given}`}`;
}

const labelled = (title: string, given: readonly HelpRow[]) =>
  given.length === 0 ? [] : ['.PP', title, ...given.flatMap(row)];

const rows = (head: string, given: readonly HelpRow[]) => [head, ...given.flatMap(row)];

function row([term, meaning]: HelpRow): string[] {
  return ['.TP', `.B ${roff(term)}`, roff(meaning)];
}

/** A paragraph that begins with a blank keeps its line breaks. */
function paragraphs(text = ''): string[] {
  return text
    .trim()
    .split('\n\n')
    .filter((part) => part !== '')
    .flatMap((part) => {
      const lines = part.split('\n').map(roff);
      return /^ /.test(part) ? ['.PP', '.nf', ...lines, '.fi'] : ['.PP', ...lines];
    });
}

/** Escapes what roff would interpret. Hyphens stay the character that can be typed. */
function roff(text: string): string {
  return text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replaceAll('"', '\\(dq')
    .replace(/^([.'])/, '\\&$1');
}
