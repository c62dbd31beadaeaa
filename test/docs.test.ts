/** What the documents say about the code, as far as a machine can check it. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import type { Command } from 'commander';
import { describe, expect, test } from 'vitest';
import { SINKS } from '../sinks/index.ts';
import { createProgram } from '../src/commands/program.ts';
import { METRICS } from '../src/observe/telemetry.ts';
import { REFUSE_REASONS, REJECT_REASONS, RETRY_REASONS } from '../src/sink/contract.ts';
import { linksOf } from './links.ts';

const root = join(import.meta.dirname, '..');
const read = (path: string) => readFileSync(join(root, path), 'utf8');
const DOCUMENTS = [
  'README.md',
  'CONTRIBUTING.md',
  'CHANGELOG.md',
  'helm/README.md',
  ...readdirSync(join(root, 'docs'))
    .filter((name) => name.endsWith('.md'))
    .map((name) => join('docs', name)),
];
/** Also those that the package does not contain, so that nothing in it may link to them. */
const ALL_DOCUMENTS = [...DOCUMENTS, 'examples/acme-sink/README.md'];
const MAX_README_BYTES = 12 * 1024;

function blocks(text: string, language: string): string[] {
  return [...text.matchAll(new RegExp(`^\`\`\`${language}\n([\\s\\S]*?)^\`\`\``, 'gm'))].map(
    ([, block]) => block!,
  );
}

/** Splits a line as a shell does, up to a comment, a pipe or the like. Variables are not expanded. */
function words(line: string): string[] {
  const all = [...line.matchAll(/(?:'[^']*'|"[^"]*"|[^\s'"])+/g)].map(([word]) => word);
  const end = all.findIndex((word) => /^[#&|<>;]/.test(word));
  return (end < 0 ? all : all.slice(0, end)).map((word) => word.replace(/['"]/g, ''));
}

const CALL = /(?:(?:^|[ (])(?:npx )?metrics-fanout|npm start -s --|npm run (demo)(?: --)?)(?= |$)(.*)/;

/** The arguments of each call of our program. Without arguments, the command is `run`. */
function calls(block: string): string[][] {
  const lines = block.replaceAll('\\\n', ' ').split('\n');
  return lines.flatMap((line) => {
    const [, demo = '', rest] = CALL.exec(line) ?? [];
    if (rest === undefined || /^(helm|kubectl|docker (build|run)) /.test(line)) return [];
    const given = [demo, ...words(rest.replace(/\)(?= |$)/, ''))].filter((word) => word !== '');
    return [given.length > 0 ? given : ['run']];
  });
}

/** Parses every command and runs none. */
function commandTable(): Command {
  const program = createProgram();
  muzzle(program);
  return program;
}

function muzzle(command: Command): void {
  command.exitOverride().configureOutput({ writeErr: () => {}, writeOut: () => {} });
  // With options of its own, a command with others below it does something by itself.
  const acts = command.commands.length === 0 || (command.parent !== null && command.options.length > 0);
  if (acts) command.action(() => {});
  for (const each of command.commands) muzzle(each);
}

/** What a text names, though the program has no such command or option. Other programs are not ours to judge. */
function unknownIn(span: readonly string[]): string[] {
  const [first = '', ...rest] = span[0] === 'npx' ? span.slice(1) : span;
  const isOurs = first === 'metrics-fanout';
  const path: string[] = [];
  let command: Command = commandTable();
  for (const word of isOurs ? rest : [first, ...rest]) {
    const below = command.commands.find((each) => each.name() === word);
    const isName = /^[a-z][a-z-]*$/.test(word);
    if (below !== undefined) {
      command = below;
      path.push(word);
    } else if (path.length === 0) {
      return isOurs && isName ? [word] : [];
    } else if (word.startsWith('--')) {
      const long = word.replace(/[=,.;].*$/, '');
      // Of a command with others below it, those of any of them.
      const options = [command, ...command.commands].flatMap((each) => each.options);
      if (long !== '--help' && !options.some((option) => option.long === long))
        return [[...path, long].join(' ')];
    } else if (isName && command.commands.length > 0) {
      return [[...path, word].join(' ')];
    }
  }
  return [];
}

describe('commands in code blocks', () => {
  test.each(ALL_DOCUMENTS)('%s: the program understands all of them', async (path) => {
    for (const call of blocks(read(path), 'sh').flatMap(calls)) {
      const program = commandTable();
      await expect(
        program.parseAsync(call, { from: 'user' }).then(() => call, String),
        `metrics-fanout ${call.join(' ')}`,
      ).resolves.toBe(call);
    }
  });

  test.each(ALL_DOCUMENTS)('%s: what it names in the text has these options', (path) => {
    const text = read(path).replace(/^```[\s\S]*?^```/gm, '');
    const spans = Array.from(text.matchAll(/`([^`\n]+)`/g), ([, span]) => span!);
    expect(spans.flatMap((span) => unknownIn(words(span.replaceAll('\\|', '|'))))).toEqual([]);
  });

  test('an option or a command that does not exist is found in a text', () => {
    const found = (span: string) => unknownIn(words(span));
    expect(found('cardinality --by')).toEqual(['cardinality --by']);
    expect(found('metrics-fanout cardinality --json=x --by')).toEqual(['cardinality --by']);
    expect(found('ctl status --jsn')).toEqual(['ctl status --jsn']);
    expect(found('ctl stats')).toEqual(['ctl stats']);
    expect(found('metrics-fanout cardinalities')).toEqual(['cardinalities']);
    for (const span of ['count --by app', 'ctl replay --sink x', 'nats stream rm', 'ctl'])
      expect(found(span)).toEqual([]);
  });

  test('the documents show every command, and every operation of ctl', () => {
    const shown = DOCUMENTS.flatMap((path) => blocks(read(path), 'sh').flatMap(calls));
    const program = commandTable();
    const names = program.commands.map((command) => command.name());
    expect(names.filter((name) => !shown.some(([first]) => first === name))).toEqual([]);
    const ctl = program.commands.find((command) => command.name() === 'ctl')!;
    const operations = ctl.commands.map((command) => command.name());
    expect(
      operations.filter((name) => !shown.some(([first, second]) => first === 'ctl' && second === name)),
    ).toEqual([]);
  });
});

/** As forges derive them from headings. */
function anchors(text: string): string[] {
  return [...text.replace(/^```[\s\S]*?^```/gm, '').matchAll(/^#+ (.*)$/gm)].map(([, heading]) =>
    heading!
      .toLowerCase()
      .replace(/[^\p{L}\p{N}_ -]/gu, '')
      .replaceAll(' ', '-'),
  );
}

test.each(ALL_DOCUMENTS)('%s: its links within the project lead somewhere', (path) => {
  const text = read(path).replace(/^```[\s\S]*?^```/gm, '');
  const broken = linksOf(text).filter((target) => {
    const [file = '', anchor] = target.split('#');
    const to = file === '' ? path : normalize(join(dirname(path), file));
    if (!existsSync(join(root, to))) return true;
    return anchor !== undefined && !anchors(read(to)).includes(anchor);
  });
  expect(broken).toEqual([]);
});

describe('the README', () => {
  const readme = read('README.md');

  test('is short enough to be read to the end', () => {
    expect(Buffer.byteLength(readme)).toBeLessThan(MAX_README_BYTES);
  });

  test('leads to every document', () => {
    expect(DOCUMENTS.slice(1).filter((path) => !readme.includes(`](${path}`))).toEqual([]);
  });

  test('lists every command, with its description', () => {
    const [, section = ''] = /^## Commands\n([\s\S]*?)^## /m.exec(readme) ?? [];
    const listed = section.split('\n').filter((line) => line.startsWith('- '));
    expect(listed).toEqual(
      commandTable().commands.map((command) => `- \`${command.name()}\`: ${command.description()}`),
    );
  });

  test('names settings that exist, with their defaults', () => {
    const rows = [...readme.matchAll(/^\| `([A-Z_<>]+)` \| (`[^`]*`) \|/gm)];
    expect(rows.length).toBe(10);
    // By default, a sink starts where METRICS_START says.
    const known = `${read('docs/settings.md')}| \`SINK_<ID>_START\` | \`now\` |`;
    expect(rows.map(([row]) => row).filter((row) => !known.includes(row))).toEqual([]);
  });

  test('has every kind of sink in its table', () => {
    const [, section = ''] = /^## Stores at a glance\n([\s\S]*?)^## /m.exec(readme) ?? [];
    const kinds = [...section.matchAll(/^\| `(\w+)` \|/gm)].map(([, kind]) => kind);
    expect(kinds.sort()).toEqual(Object.keys(SINKS).sort());
  });
});

/** What looks like a path of ours in backticks: a folder that ends in `/`, or a file with an extension. */
const PATH = /`((?:src|sinks|test|scripts|helm|examples)\/[\w./-]*(?:\/|\.\w+))(?:#\S*)?`/g;

test("Telegraf's section for JetStream is named together with the setting that keeps it from changing the stream", () => {
  const naming = ALL_DOCUMENTS.filter((path) => read(path).includes('outputs.nats.jetstream'));
  expect(naming).toContain('README.md');
  for (const path of naming) expect(read(path), path).toContain('disable_stream_creation = true');
});

test.each(ALL_DOCUMENTS)('%s: the paths that it names exist', (path) => {
  const named = [...read(path).matchAll(PATH)].map(([, name]) => name!);
  expect(named.filter((name) => !existsSync(join(root, name)))).toEqual([]);
});

test.each([
  ['young', /--max-semi-space-size=\d+/g],
  ['old', /--max-old-space-size=\d+/g],
])('the documents start Node.js with the same bound of the %s heap as package.json', (_, bound) => {
  const [ours] = read('package.json').match(bound) ?? [];
  const named = ALL_DOCUMENTS.flatMap((path) => read(path).match(bound) ?? []);
  expect(new Set(named)).toEqual(new Set([ours]));
});

test('the table of metrics matches the code', () => {
  const [, table = ''] =
    /<!-- metrics -->\n.*\n.*\n([\s\S]*?)<!-- \/metrics -->/.exec(read('docs/interfaces.md')) ?? [];
  const rows = METRICS.map(({ kind, name, help, labels = [] }) => {
    const shown = labels.length === 0 ? name : `${name}{${labels.join(',')}}`;
    return `| \`${shown}\` | ${kind} | ${help} |`;
  });
  expect(table.trim().split('\n')).toEqual(rows);
});

test.each([
  ['retries', RETRY_REASONS],
  ['refusals of the sink', REFUSE_REASONS],
  ['Reasons:', REJECT_REASONS],
] as const)('the closed list after "%s" matches the code', (what, reasons) => {
  const listed = reasons.map((reason) => `\`${reason}\``).join(', ');
  expect(read('docs/interfaces.md').replace(/\s+/g, ' ')).toContain(`${what} ${listed}`);
});

test('the sink in the step-by-step guide is the example', () => {
  const code = blocks(read('docs/adding-a-sink.md'), 'js');
  expect(code).toEqual(['sink.js', 'sink.test.js'].map((name) => read(`examples/acme-sink/${name}`)));
});
