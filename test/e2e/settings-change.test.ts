/** WINDOW, LATENESS, MAX_AHEAD, MAX_SERIES, and rules on names and dimensions change while the stream goes on. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startProgram } from '../../src/servers/fanout-program.ts';
import { type ServiceProgram, startServiceProgram } from '../../src/servers/service-program.ts';
import { type Stack, startStack } from '../../src/servers/stack.ts';
import { connect } from '../bus-client.ts';
import { countOf, endOf, expectEqual, startTraffic, verifyConfirmed, WINDOWS } from './support.ts';

let stack: Stack;
const running: ServiceProgram[] = [];
beforeAll(async () => {
  stack = await startStack();
});
afterAll(async () => {
  await Promise.all(running.map((service) => service.stop('SIGKILL')));
  await stack?.stop();
});

async function start(settings: Record<string, string>): Promise<ServiceProgram> {
  const service = await startServiceProgram({ ...stack.env, ...WINDOWS, CHANGE_DELAY: '5s', ...settings });
  running.push(service);
  return service;
}

/**
 * When the shape that was announced last takes effect. On a busy machine, it may have done so by the time the service
 * is ready; until then, the status shows it.
 */
async function changeIn({ nats }: Stack, pipeline: string, service: ServiceProgram) {
  const { now, windows } = await service.status();
  const client = await connect({ servers: nats.url });
  const bucket = await client.jetstream().views.kv('fanout-checkpoints', { bindOnly: true });
  const kept = (await bucket.get(`shapes.${pipeline}`))!.json<Record<string, unknown>>();
  await client.close();
  const last = ((kept.shapes ?? kept.epochs) as { from: number; windowMs: number }[]).at(-1)!;
  const { from, windowMs } = last;
  if (Date.parse(now) < from)
    expect(windows).toMatchObject({ windowMs: 1000, next: { from: new Date(from).toISOString(), windowMs } });
  return last;
}

const CHANGED = { WINDOW: '3s', LATENESS: '100ms', MAX_AHEAD: '2s' };

// They wait most of their time, and do so side by side, each with stores of its own.
test.concurrent('a new shape, kill -9, and a standby that still has the old settings: all stores are equal', async () => {
  const options = ['--rate', '2000', '--series', '200', '--late', '0.05', '--ahead', '0.02'];
  const traffic = startTraffic(stack, options);
  const [first, standby] = await Promise.all([start({}), start({})]);
  await sleep(4000);
  await first.stop('SIGKILL');
  const second = await start(CHANGED);
  const { from, windowMs } = await changeIn(stack, 'default', second);
  expect(windowMs).toBe(3000);
  await sleep(3000);
  await second.stop('SIGKILL');
  const third = await start(CHANGED);
  // The standby, which has the old settings, adopts the announced shape, and says so.
  await standby.untilConfirmed(from);
  expect((await standby.status()).windows).toMatchObject({ windowMs: 3000, latenessMs: 100, next: null });
  expect(standby.output.stderr).toContain('another instance has different settings');
  await third.stop('SIGKILL');
  await standby.untilConfirmed(from + windowMs);
  const truth = await traffic.end();
  expect(new Set(truth.map(({ windowMs }) => windowMs))).toEqual(new Set([1000, 3000]));
  await standby.untilConfirmed(endOf(truth));
  await expectEqual(stack.env, truth);
});

const RULES = {
  METRICS_NAMES: '!auth.*',
  METRICS_DROP_DIMENSIONS: 'http.*: host, route; *: region',
  METRICS_RENAME: 'cache.*=store.*; *: app=service, method=verb',
  METRICS_SUBJECT_DIMENSIONS: 'metrics.{tenant}.{env}',
  METRICS_SUBJECT_WINS: 'true',
};

test.concurrent('rules on names and dimensions change at a boundary: stores, verify, count and truth agree', async () => {
  const settings = { PIPELINE: 'rules', CHANGE_DELAY: '5s' };
  const stores = await startStack();
  try {
    const env = { ...stores.env, ...WINDOWS, ...settings };
    const run = (more: Record<string, string>) => startServiceProgram({ ...env, ...more });
    const traffic = startTraffic(
      stores,
      ['--rate', '1000', '--series', '300', '--subject', 'metrics.shop.live'],
      {
        PIPELINE: 'rules',
      },
    );
    const first = await run({});
    running.push(first);
    await sleep(3000);
    await first.stop('SIGKILL');
    const second = await run(RULES);
    running.push(second);
    const { from } = await changeIn(stores, 'rules', second);
    await second.untilConfirmed(from + 3000);
    const truth = await traffic.end();
    await second.untilConfirmed(endOf(truth));
    const named = (rows: typeof truth, name: string) => rows.some(({ series }) => series.name === name);
    const [before, after] = [
      truth.filter(({ windowStart }) => windowStart! < from - 2000),
      truth.filter(({ windowStart }) => windowStart! >= from + 2000),
    ];
    expect([named(before, 'auth.logins'), named(before, 'store.lookups')]).toEqual([true, false]);
    expect([named(after, 'auth.logins'), named(after, 'store.lookups')]).toEqual([false, true]);
    for (const { series } of after) {
      const dimensions = Object.fromEntries(series.dimensions);
      expect(dimensions).toMatchObject({ tenant: 'shop', env: 'live' });
      expect(Object.keys(dimensions)).not.toEqual(expect.arrayContaining(['region']));
    }
    await expectEqual(stores.env, truth);
    const to = ['--to', new Date(endOf(truth)).toISOString()];
    const { report } = await verifyConfirmed(to, { ...env, ...RULES });
    for (const { sink, windows, rows } of report!.sinks) {
      expect(windows, sink).toMatchObject({ different: 0, unknown: 0, unconfirmed: 0 });
      expect(rows, sink).toEqual({ equal: truth.length, missing: 0, extra: 0, different: 0 });
    }
    const count = startProgram(['count', '--json', ...to], { ...env, ...RULES });
    await count.ended;
    expect(JSON.parse(count.output.stdout).count).toBe(countOf(truth));
    expect((await second.status()).samples.filtered).toBeGreaterThan(0);
  } finally {
    await stores.stop();
  }
});
