/**
 * Telegraf, programs with nats_metrics and with OpenTelemetry's SDK beside each other on one bus, as they really write:
 * the rows are what each of them has kept of it.
 */
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ProtobufMetricsSerializer } from '@opentelemetry/otlp-transformer';
import {
  AggregationTemporality,
  MeterProvider,
  PeriodicExportingMetricReader,
  type ResourceMetrics,
} from '@opentelemetry/sdk-metrics';
import type { NatsConnection } from 'nats';
import { expect, test } from 'vitest';
import { spawnTied } from '../../src/base/tied-process.ts';
import { programsNamed } from '../../src/servers/programs.ts';
import { eventually } from './control-support.ts';
import { addRow, type Summed, startWithSqlite, storedPoints } from './support.ts';

const SPAN_MS = 3000;
const NATS_GO = 'v1.48.0';
/** A folder with the sources of github.com/rybit/nats_metrics: it is no module, and has no license to be kept here. */
const { FANOUT_NATS_METRICS: LIBRARY } = process.env;
const TELEGRAF = programsNamed('telegraf')[0];

/** What was measured, by series. */
type Record = Map<string, number[]>;

const keyOf = (type: string, name: string, dimensions: object) => JSON.stringify([type, name, dimensions]);

function note(record: Record, key: string, value: number): void {
  record.set(key, [...(record.get(key) ?? []), value]);
}

const telegrafConfiguration = (url: string, script: string, file: string) => `
[agent]
  interval = "200ms"
  flush_interval = "300ms"
  omit_hostname = true
[[inputs.exec]]
  commands = ["sh ${script}"]
  data_format = "influx"
[[outputs.nats]]
  servers = ["${url}"]
  subject = "metrics.telegraf"
  data_format = "influx"
[[outputs.file]]
  files = ["${file}"]
  data_format = "influx"
`;

/** Runs Telegraf until it has written for a while, and returns what it wrote to a file of its own. */
async function byTelegraf(url: string, folder: string): Promise<Record> {
  const [script, config, file] = ['lines.sh', 'telegraf.conf', 'telegraf.out'].map((name) =>
    join(folder, name),
  );
  writeFileSync(script!, 'echo "tele,host=web\\\\ 1,zone=b\\\\,c level=$(($$ % 97)),pid=$$i,up=true"\n');
  writeFileSync(config!, telegrafConfiguration(url, script!, file!));
  const child = spawnTied(TELEGRAF!, ['--config', config!]);
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.stderr!.resume();
  child.stdout!.resume();
  await sleep(SPAN_MS);
  await eventually('Telegraf has written', async () => readFileSync(file!, 'utf8') !== '');
  child.kill('SIGTERM');
  await ended;
  const record: Record = new Map();
  for (const line of readFileSync(file!, 'utf8').trim().split('\n')) {
    const [, level, pid] = /^tele,host=web\\ 1,zone=b\\,c level=(\d+),pid=(\d+)i,up=true \d+$/.exec(line)!;
    const dimensions = { host: 'web 1', zone: 'b,c' };
    note(record, keyOf('gauge', 'tele.level', dimensions), Number(level));
    note(record, keyOf('gauge', 'tele.pid', dimensions), Number(pid));
  }
  return record;
}

/** Builds the program with the library. Its import of the client of NATS is that of before Go had modules. */
function build(folder: string): string {
  const library = join(folder, 'library');
  mkdirSync(library);
  for (const name of readdirSync(LIBRARY!).filter((each) => /(?<!_test)\.go$/.test(each))) {
    const text = readFileSync(join(LIBRARY!, name), 'utf8');
    writeFileSync(
      join(library, name),
      text.replace('"github.com/nats-io/nats"', '"github.com/nats-io/nats.go"'),
    );
  }
  writeFileSync(join(library, 'go.mod'), 'module github.com/rybit/nats_metrics\n');
  copyFileSync(join(import.meta.dirname, 'nats-metrics/main.go'), join(folder, 'main.go'));
  writeFileSync(
    join(folder, 'go.mod'),
    `module producer\ngo 1.21\nrequire github.com/nats-io/nats.go ${NATS_GO}\nrequire github.com/rybit/nats_metrics v0.0.0\nreplace github.com/rybit/nats_metrics => ./library\n`,
  );
  const built = spawnSync('go', ['build', '-mod=mod', '-o', 'producer', '.'], {
    cwd: folder,
    encoding: 'utf8',
  });
  expect(built.status, built.stderr).toBe(0);
  return join(folder, 'producer');
}

interface Did {
  readonly name: string;
  readonly type: string;
  readonly app: string;
  readonly value: number;
}

async function byNatsMetrics(url: string, program: string): Promise<Record> {
  const child = spawnTied(program, [url]);
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.stderr!.resume();
  const text = (await Array.fromAsync(child.stdout!)).join('');
  expect(await ended).toBe(0);
  const record: Record = new Map();
  for (const line of text.trim().split('\n')) {
    const { name, type, app, value }: Did = JSON.parse(line);
    note(record, keyOf(type, name, { app, ok: 'true', status: '200', team: 'a <b> & "c"' }), value);
  }
  return record;
}

async function bySdk(client: NatsConnection): Promise<Record> {
  const send = (metrics: ResourceMetrics, done: (result: { code: number }) => void) => {
    client.publish('metrics.otel', ProtobufMetricsSerializer.serializeRequest(metrics));
    done({ code: 0 });
  };
  const exporter = {
    export: send,
    selectAggregationTemporality: () => AggregationTemporality.DELTA,
    forceFlush: async () => {},
    shutdown: async () => {},
  };
  const reader = new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 2 ** 31 - 1 });
  const provider = new MeterProvider({ readers: [reader] });
  const meter = provider.getMeter('lib');
  const [orders, size] = [meter.createCounter('otel.orders'), meter.createHistogram('otel.size')];
  const record: Record = new Map();
  const service = { 'service.name': 'shop' };
  for (let i = 0; i < SPAN_MS / 50; i++) {
    for (const route of ['/', '/v1']) {
      orders.add(i, { route, ...service });
      note(record, keyOf('counter', 'otel.orders', { route, ...service }), i);
      size.record(i % 13, { route, ...service });
      note(record, keyOf('timer', 'otel.size', { route, ...service }), i % 13);
    }
    await provider.forceFlush();
    await sleep(50);
  }
  await provider.shutdown();
  return record;
}

test('the rows are what each producer has kept of it', async (context) => {
  context.skip(
    TELEGRAF === undefined && LIBRARY === undefined,
    'needs telegraf on the PATH, or go and FANOUT_NATS_METRICS: a folder with github.com/rybit/nats_metrics',
  );
  const { folder, url, env, service, client } = await startWithSqlite(context, 'producers');
  const program = LIBRARY === undefined ? undefined : build(folder);
  const records = await Promise.all([
    bySdk(client),
    ...(TELEGRAF === undefined ? [] : [byTelegraf(url, folder)]),
    ...(program === undefined ? [] : [byNatsMetrics(url, program)]),
  ]);
  await client.flush();
  await service.untilConfirmed(Date.now() + 1000);
  const { messages, samples } = await service.status();
  expect(Object.values(messages.rejected).every((count) => count === 0)).toBe(true);
  const { boolean_field: booleans = 0, ...rejected } = samples.rejected;
  expect(Object.values(rejected).every((count) => count === 0)).toBe(true);
  expect(booleans > 0).toBe(TELEGRAF !== undefined);
  const expected = new Map(records.flatMap((record) => [...record]));
  const found = new Map<string, Summed>();
  for (const row of await storedPoints(env, 'sqlite')) {
    const { series } = row;
    const key = keyOf(series.type, series.name, Object.fromEntries(series.dimensions));
    found.set(key, addRow(found.get(key), row));
  }
  expect([...found.keys()].sort()).toEqual([...expected.keys()].sort());
  for (const [key, values] of expected) {
    const sum = values.reduce((a, b) => a + b, 0);
    const { sum: ofRows, ...row } = found.get(key)!;
    const ends = { min: Math.min(...values), max: Math.max(...values) };
    const none = { min: null, max: null };
    // The SDK's increments are added up until they are exported, and so are its histograms.
    const isSummed = key.startsWith('["counter"');
    const count = key.includes('otel.orders') ? row.count : values.length;
    expect(row, key).toEqual({ count, ...(isSummed ? none : ends) });
    expect(ofRows, key).toBeCloseTo(sum, 6);
  }
});
