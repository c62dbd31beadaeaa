import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { createProgram } from '../../src/commands/program.ts';
import { temporaryFolder } from '../../src/servers/server-process.ts';
import { RETRY_REASONS } from '../../src/sink/contract.ts';
import { ALERTS, type Series } from './alerts.ts';
import { CHART } from './chart.ts';

interface Rule {
  readonly alert: string;
  readonly expr: string;
  readonly labels: { readonly severity: string };
  readonly annotations: Readonly<Record<'summary' | 'description' | 'runbook_url', string>>;
}

const FILE = join(CHART, 'rules', 'metrics-fanout.yaml');
const RUNBOOKS = readFileSync(join(CHART, '..', 'docs', 'runbooks.md'), 'utf8');
const rules: readonly Rule[] = parse(readFileSync(FILE, 'utf8')).groups[0].rules;
const QUIET_MINUTES = [5, 15, 25, 35, 50, 70];
const JOB = 'metrics-fanout';

function promtool(args: readonly string[]): { status: number | null; output: string } {
  const { status, stdout, stderr } = spawnSync('promtool', args, { encoding: 'utf8' });
  return { status, output: stdout + stderr };
}

/** With the labels of a scrape of the service, unless the series has its own. */
function inputSeries(series: Series, instance: string): object[] {
  return Object.entries(series).map(([written, values]) => {
    const [, name, own = ''] = /^(\w+)(?:\{(.*)\})?$/.exec(written)!;
    const missing = Object.entries({ job: JOB, instance }).filter(([label]) => !own.includes(`${label}="`));
    const labels = [own, ...missing.map(([label, value]) => `${label}="${value}"`)].filter(
      (one) => one !== '',
    );
    return { series: `${name}{${labels.join(',')}}`, values };
  });
}

/** A test group of promtool, each of which has a database of its own. */
interface Group {
  readonly interval: '1m';
  readonly input_series: object[];
  readonly promql_expr_test: object[];
}

function fires(rule: Rule): Group[] {
  const { fires: series, at, also } = ALERTS[rule.alert]!;
  return [
    firesOn(rule, series, at),
    ...(also === undefined ? [] : [firesOn(rule, also.fires, also.at, 'too')]),
  ];
}

function firesOn({ alert, labels: { severity } }: Rule, series: Series, at: number, which = ''): Group {
  const { labels, isAggregated } = ALERTS[alert]!;
  const instance = `${alert}-fires${which}`;
  const own = isAggregated ? {} : { job: JOB, instance };
  const expected = { alertname: alert, alertstate: 'firing', severity, ...own, ...labels };
  const text = Object.entries(expected).map(([label, value]) => `${label}="${value}"`);
  const where = isAggregated ? '' : `,instance="${instance}"`;
  const asked = { expr: `ALERTS{alertname="${alert}",alertstate="firing"${where}}`, eval_time: `${at}m` };
  return {
    interval: '1m',
    input_series: inputSeries(series, instance),
    promql_expr_test: [{ ...asked, exp_samples: [{ labels: `ALERTS{${text.join(',')}}`, value: 1 }] }],
  };
}

function isQuiet({ alert }: Rule): Group[] {
  return ALERTS[alert]!.quiet.map((series, i) => {
    const instance = `${alert}-quiet-${i}`;
    const where = ALERTS[alert]!.isAggregated ? '' : `,instance="${instance}"`;
    const expr = `ALERTS{alertname="${alert}",alertstate="firing"${where}}`;
    return {
      interval: '1m',
      input_series: inputSeries(series, instance),
      promql_expr_test: QUIET_MINUTES.map((minute) => ({ expr, eval_time: `${minute}m`, exp_samples: [] })),
    };
  });
}

/** A group is expensive, so all alerts that tell instances apart share one. */
function together(groups: readonly Group[]): Group {
  return {
    interval: '1m',
    input_series: groups.flatMap(({ input_series }) => input_series),
    promql_expr_test: groups.flatMap(({ promql_expr_test }) => promql_expr_test),
  };
}

function groups(): Group[] {
  const isAlone = ({ alert }: Rule) => ALERTS[alert]!.isAggregated === true;
  const shared = rules.filter((rule) => !isAlone(rule)).flatMap((rule) => [...fires(rule), ...isQuiet(rule)]);
  return [together(shared), ...rules.filter(isAlone).flatMap((rule) => [...fires(rule), ...isQuiet(rule)])];
}

let folder: ReturnType<typeof temporaryFolder>;
beforeAll(() => {
  folder = temporaryFolder('rules');
});
afterAll(() => folder?.remove());

describe('the alerts', () => {
  test('pass the lint of promtool', () => {
    const { status, output } = promtool(['check', 'rules', '--lint=all', '--lint-fatal', FILE]);
    expect(output).toContain(`${rules.length} rules found`);
    expect(status).toBe(0);
  });

  test('know which reasons pass by themselves', () => {
    const { expr } = rules.find(({ alert }) => alert === 'FanoutSinkRefused')!;
    expect(/reason!~"([^"]*)"/.exec(expr)?.[1]?.split('|')).toEqual([...RETRY_REASONS]);
  });

  test('all have cases', () => {
    expect(rules.map(({ alert }) => alert)).toEqual(Object.keys(ALERTS));
    for (const { quiet } of Object.values(ALERTS)) expect(quiet.length).toBeGreaterThan(0);
  });

  test('fire on what they are for, and are quiet otherwise', () => {
    const file = join(folder.path, 'cases.json');
    // JSON is YAML.
    writeFileSync(file, JSON.stringify({ rule_files: [FILE], evaluation_interval: '1m', tests: groups() }));
    const { status, output } = promtool(['test', 'rules', file]);
    expect(output).toContain('SUCCESS');
    expect(status).toBe(0);
  });

  test('say until when nothing is lost, where that is known', () => {
    const until = 'Until 1970-01-01 21:13:20 +0000 UTC, the stream holds what it needs.';
    const { severity } = rules.find(({ alert }) => alert === 'FanoutSinkDown')!.labels;
    const down = { ...ALERTS.FanoutSinkDown!.fires };
    const safe = { 'fanout_sink_safe_until_timestamp_seconds{sink="store"}': '76400x60' };
    const describe = (series: Series) => {
      const file = join(folder.path, 'words.json');
      const alert_rule_test = [{ eval_time: '10m', alertname: 'FanoutSinkDown', exp_alerts: [] }];
      const tests = [{ interval: '1m', input_series: inputSeries(series, 'one'), alert_rule_test }];
      writeFileSync(file, JSON.stringify({ rule_files: [FILE], evaluation_interval: '1m', tests }));
      return promtool(['test', 'rules', file]).output;
    };
    // It is not expected, so promtool shows it.
    const [known, unknown] = [describe({ ...down, ...safe }), describe(down)];
    expect(known).toContain(until);
    expect(unknown).toContain(`severity="${severity}"`);
    expect(unknown).not.toContain('Until');
  });

  test.each(rules)('$alert says what is wrong, and where', ({ alert, annotations, labels }) => {
    const { labels: own, isAggregated } = ALERTS[alert]!;
    const known = Object.keys({ ...(isAggregated ? {} : { job: '', instance: '' }), ...own });
    const named = [...annotations.description.matchAll(/\$labels\.(\w+)/g)].map(([, label]) => label!);
    expect(named.filter((label) => !known.includes(label))).toEqual([]);
    expect(annotations.summary).toMatch(/[^.]$/);
    expect(['critical', 'warning']).toContain(labels.severity);
  });

  test.each(rules)('$alert has a runbook', ({ alert, annotations }) => {
    expect(annotations.runbook_url).toBe(`docs/runbooks.md#${alert.toLowerCase()}`);
    const [, text = ''] =
      new RegExp(`^## ${alert}\n([\\s\\S]*?)(?=^## |$(?![\\s\\S]))`, 'm').exec(RUNBOOKS) ?? [];
    for (const part of ['Meaning', 'Impact', 'Look', 'Do']) expect(text, part).toContain(`**${part}.**`);
  });
});

test('the runbooks name only commands and options that exist', () => {
  const program = createProgram();
  const written = [...RUNBOOKS.matchAll(/`metrics-fanout ([^`]+)`/g)].map(([, text]) => text!.split(/\s+/));
  expect(written.length).toBeGreaterThan(20);
  for (const words of written) {
    let command = program;
    for (const word of words) command = command.commands.find((one) => one.name() === word) ?? command;
    expect(command.commands, words.join(' ')).toEqual([]);
    const known = command.options.map(({ long }) => long);
    const used = words.filter((word) => word.startsWith('--'));
    expect(used.filter((option) => !known.includes(option))).toEqual([]);
  }
});
