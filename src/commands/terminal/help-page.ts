/**
 * The documentation of a command: its options are in commander's tree, everything else is in its page. `--help`, the
 * manual page, the README's table and the completions are made from these two.
 */

import { type Argument, Command, Help, type Option } from 'commander';
import { SINKS } from '../../../sinks/index.ts';
import { CORE_SETTINGS } from '../../config/core-settings.ts';
import { variableName } from '../../settings/setting.ts';

/** A term and what it means: an exit code, a variable, an example. */
export type HelpRow = readonly [term: string, meaning: string];

export interface HelpPage {
  /** One line, for lists of commands. */
  readonly summary: string;
  /** Paragraphs, separated by an empty line. A paragraph that begins with a blank is not wrapped. */
  readonly text?: string;
  /** What to type, and what it does. */
  readonly examples: readonly HelpRow[];
  readonly exit: readonly HelpRow[];
  /** Variables that the command reads. */
  readonly environment?: readonly HelpRow[];
}

const DEFAULT_WIDTH = 80;
const pages = new WeakMap<Command, HelpPage>();

/** Creates a command that has this page. Add options and arguments to it as usual. */
export function describe(name: string, page: HelpPage): Command {
  const command = new Command(name)
    .description(page.summary)
    .configureHelp({ formatHelp, optionDescription });
  pages.set(command, page);
  return command;
}

export function pageOf(command: Command): HelpPage | undefined {
  return pages.get(command);
}

/** Values that a completion offers: words, or file names. */
export type SuggestedValues = readonly string[] | 'file';

const suggested = new WeakMap<Option | Argument, SuggestedValues>();

/** Offers these values in completions. Unlike with `choices`, other values are accepted too. */
export function suggest<T extends Option | Argument>(item: T, values: SuggestedValues): T {
  suggested.set(item, values);
  return item;
}

export function valuesOf(item: Option | Argument): SuggestedValues {
  return item.argChoices ?? suggested.get(item) ?? [];
}

/** Most sinks have their kind as their id. */
export const SINK_KINDS: readonly string[] = Object.keys(SINKS);

/** Rows about settings of the service, for the list of environment variables. */
export function settingRows(...keys: readonly (keyof typeof CORE_SETTINGS)[]): readonly HelpRow[] {
  return keys.map((key): HelpRow => {
    const setting: { readonly meaning: string; readonly default?: string } = CORE_SETTINGS[key];
    const given = setting.default === undefined ? '' : ` (default: ${setting.default})`;
    return [variableName(key), setting.meaning + given];
  });
}

/** Rows about the environment that many commands share. */
export const BUS: readonly HelpRow[] = [
  ['NATS_*', `the bus and how to sign in; NATS_URL is ${CORE_SETTINGS.natsUrl.default} by default`],
];
export const STREAM = settingRows('metricsSource', 'metricsSubjects', 'metricsStream', 'pipeline');
/** How messages are read. */
export const MESSAGE_FORMAT = settingRows(
  'metricsFormat',
  'metricsCounters',
  'metricsStatsdTags',
  'metricsStatsdSignedGauges',
  'metricsOtlpAttributes',
  'metricsNames',
  'metricsDropDimensions',
  'metricsKeepDimensions',
  'metricsRename',
  'metricsSubjectDimensions',
  'metricsSubjectWins',
);
export const SINK_VARIABLES: readonly HelpRow[] = [
  ['SINK_<ID>_*', 'the sinks; if none is enabled, a SQLite file'],
];
/** The exit code that every command has if it reads the settings. */
export const WRONG_SETTINGS: HelpRow = ['78', 'settings are wrong or missing; all of them are listed'];
/** The exit code that every command has if Ctrl-C ends it. */
export const INTERRUPTED: HelpRow = ['130', 'ended by Ctrl-C (143: by SIGTERM)'];

function formatHelp(command: Command, helper: Help): string {
  const page = pages.get(command);
  const parts = [Help.prototype.formatHelp.call(helper, command, helper).trimEnd()];
  if (page?.text !== undefined) parts.push(paragraphs(page.text, helper));
  if (page !== undefined && page.examples.length > 0) parts.push(examples(page.examples));
  if (page !== undefined) parts.push(table('Exit status:', page.exit, helper));
  if (page?.environment) parts.push(table('Environment:', page.environment, helper));
  return `${parts.join('\n\n')}\n`;
}

/** As commander's, except that it does not show an empty list as the default. */
function optionDescription(option: Option): string {
  if (Array.isArray(option.defaultValue) && option.defaultValue.length === 0) return option.description;
  return Help.prototype.optionDescription.call(new Help(), option);
}

function paragraphs(text: string, helper: Help): string {
  const width = helper.helpWidth ?? DEFAULT_WIDTH;
  return text
    .trim()
    .split('\n\n')
    .map((part) => (/^ /.test(part) ? part : helper.boxWrap(part.replaceAll('\n', ' '), width)))
    .join('\n\n');
}

function examples(rows: readonly HelpRow[]): string {
  return ['Examples:', ...rows.map(([line, meaning]) => `  ${line}\n      ${meaning}`)].join('\n');
}

function table(title: string, rows: readonly HelpRow[], helper: Help): string {
  const width = Math.max(...rows.map(([term]) => term.length));
  return [title, ...rows.map(([term, meaning]) => helper.formatItem(term, width, meaning, helper))].join(
    '\n',
  );
}
