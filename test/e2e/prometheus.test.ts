import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Prometheus, startPrometheus } from '../../src/servers/prometheus.ts';
import { type ServiceProgram, startServiceProgram } from '../../src/servers/service-program.ts';
import { type Stack, startStack } from '../../src/servers/stack.ts';
import { countOf, endOf, sample, sendTraffic, WINDOWS } from './support.ts';

let stack: Stack;
let service: ServiceProgram;
let prometheus: Prometheus;
beforeAll(async () => {
  stack = await startStack();
  service = await startServiceProgram({ ...stack.env, ...WINDOWS });
  prometheus = await startPrometheus([service.url]);
});
afterAll(async () => {
  await service?.stop('SIGKILL');
  await prometheus?.stop();
  await stack?.stop();
});

const get = async (path: string) => {
  const response = await fetch(`${service.url}${path}`);
  return { code: response.status, type: response.headers.get('content-type'), text: await response.text() };
};

describe('metrics', () => {
  test('a real Prometheus scrapes them, and the counters agree with the truth', async () => {
    const truth = await sendTraffic(stack, [
      '--count',
      '20000',
      '--rate',
      '8000',
      '--series',
      '100',
      '--late',
      '0.1',
    ]);
    await service.untilConfirmed(endOf(truth));
    await prometheus.untilScraped();
    const ofType = (type: string) => countOf(truth.filter(({ series }) => series.type === type));
    const { samples } = await service.status();
    expect(await prometheus.query('fanout_messages_received_total')).toEqual([20_000]);
    expect(await prometheus.query('sum(fanout_messages_rejected_total)')).toEqual([0]);
    expect(await prometheus.query('fanout_samples_total{type="counter"}')).toEqual([ofType('counter')]);
    expect(await prometheus.query('fanout_samples_total{type="gauge"}')).toEqual([ofType('gauge')]);
    expect(await prometheus.query('fanout_samples_late_total')).toEqual([samples.late]);
    expect(samples.late).toBeGreaterThan(1500);
    expect(await prometheus.query('fanout_sink_points_written_total')).toEqual(Array(4).fill(truth.length));
    expect(await prometheus.query('sum(fanout_sink_points_rejected_total)')).toEqual([0]);
    expect(await prometheus.query('fanout_sink_up')).toEqual([1, 1, 1, 1]);
    expect(await prometheus.query('fanout_sink_backlog_points')).toEqual([0, 0, 0, 0]);
    expect(await prometheus.query('fanout_source_pending_messages')).toEqual([0]);
    expect(await prometheus.query('fanout_sink_write_duration_seconds_count > 0')).toHaveLength(4);
  });

  test('promtool has no complaints', async () => {
    const { code, type, text } = await get('/metrics');
    expect([code, type]).toEqual([200, 'text/plain; version=0.0.4; charset=utf-8']);
    const { status, stdout, stderr } = spawnSync('promtool', ['check', 'metrics'], {
      input: text,
      encoding: 'utf8',
    });
    expect(stdout + stderr).toBe('');
    expect(status).toBe(0);
  });

  test('have every documented name, and every reason is zero before it happens', async () => {
    const { text } = await get('/metrics');
    const names = `messages_received_total messages_rejected_total samples_total samples_late_total
      samples_overflowed_total open_windows series source_pending_messages source_lag_seconds source_gaps_total
      sink_points_written_total sink_points_rejected_total sink_points_dropped_total sink_retries_total
      sink_write_duration_seconds sink_backlog_points sink_backlog_bytes sink_lag_seconds sink_up sink_catching_up
      sink_windows_verified_total series_limit window_seconds lateness_seconds slices memory_limit_bytes source_keeps_seconds
      sink_backlog_limit_bytes`;
    for (const name of names.split(/\s+/)) expect(text).toContain(`# TYPE fanout_${name} `);
    expect(sample(text, 'fanout_messages_rejected_total{reason="bad_value"}')).toBe(0);
    expect(sample(text, 'fanout_sink_retries_total{sink="sqlite",reason="timeout"}')).toBe(0);
    expect(text).toContain('process_cpu_seconds_total');
    expect(sample(text, 'fanout_slices{pipeline="default",slice="0"}')).toBe(1);
    expect(sample(text, 'fanout_window_seconds')).toBe(1);
    expect(sample(text, 'fanout_series_limit')).toBe(1_000_000);
    expect(sample(text, 'fanout_source_keeps_seconds')).toBe(86_400);
    // The day that the stream keeps a message, and no second more.
    const safeSeconds =
      sample(text, 'fanout_sink_safe_until_timestamp_seconds{sink="sqlite"}')! - Date.now() / 1000;
    expect(safeSeconds).toBeGreaterThan(60);
    expect(safeSeconds).toBeLessThanOrEqual(86_400);
    expect(sample(text, 'fanout_sink_backlog_limit_bytes{sink="sqlite"}')).toBe(64_000_000);
    expect(sample(text, 'fanout_memory_limit_bytes')).toBeGreaterThan(
      sample(text, 'process_resident_memory_bytes')!,
    );
  });
});

describe('HTTP', () => {
  test('has health, readiness, status, and nothing else', async () => {
    expect(await get('/healthz')).toMatchObject({ code: 200, text: 'ok\n' });
    expect(await get('/readyz?x=1')).toMatchObject({ code: 200, text: 'ready\n' });
    expect(await get('/')).toMatchObject({ code: 200 });
    expect(await get('/../etc/passwd')).toMatchObject({ code: 404 });
    expect((await fetch(service.url, { method: 'POST', body: 'x' })).status).toBe(405);
    const status = JSON.parse((await get('/api/status')).text);
    expect(status.sinks.map(({ id }: { id: string }) => id)).toEqual([
      'dynamodb',
      'influxdb',
      'redshift',
      'sqlite',
    ]);
  });

  test('reveals no secret in the status or the metrics, nor does the log', async () => {
    const text = (await get('/api/status')).text + (await get('/metrics')).text + service.output.stderr;
    expect(text).not.toContain(stack.postgres.password);
  });

  test('says that the process is healthy but not ready without the bus, and ready when it is back', async () => {
    await stack.nats.halt();
    await expect.poll(async () => (await get('/readyz')).code).not.toBe(200);
    expect(await get('/readyz')).toMatchObject({ code: 503, text: 'not attached to the bus\n' });
    expect((await get('/healthz')).code).toBe(200);
    await stack.nats.resume();
    await expect.poll(async () => (await get('/readyz')).code).toBe(200);
  });
});

test('an invalid configuration: all errors at once, exit code 78', async () => {
  const { startProgram } = await import('../../src/servers/fanout-program.ts');
  writeFileSync(join(stack.folder, 'empty'), '');
  const program = startProgram(['run'], {
    WINDOW: 'x',
    HTTP_PORT: 'y',
    NATS_TOKEN_FILE: join(stack.folder, 'empty'),
  });
  expect(await program.ended).toBe(78);
  const variables = ['WINDOW', 'HTTP_PORT', 'NATS_TOKEN_FILE'].map((name) => expect.stringContaining(name));
  expect(JSON.parse(program.output.stderr)).toMatchObject({
    level: 'error',
    msg: 'the settings have 3 errors',
    errors: expect.arrayContaining(variables),
  });
});
