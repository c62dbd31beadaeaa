/** `ask` and `cardinality` on a real bus, against `count`: two slices, and a standby that starts later. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { NatsConnection } from 'nats';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { seededRandom } from '../../src/load/random.ts';
import { type InstanceAnswer, type MergedAnswer, rangesInWords, together } from '../../src/recent/merge.ts';
import { startProgram } from '../../src/servers/fanout-program.ts';
import { type NatsServer, startNats } from '../../src/servers/nats.ts';
import { type ServiceProgram, startServiceProgram } from '../../src/servers/service-program.ts';
import { connect } from '../bus-client.ts';
import { type Anything, ask, eventually } from './control-support.ts';
import { WINDOW_MS, WINDOWS } from './support.ts';

const SEED = 20_261_130;
const QUESTIONS = 10;
/** Of which so many are put with the command. */
const COMMANDS = 2;
const MESSAGES = 4000;
const NAMES = ['http.requests', 'http.errors', 'db.time', 'queue.length'] as const;
const TYPES = ['counter', 'counter', 'timer', 'gauge'] as const;
const random = seededRandom(SEED);
const pick = <T>(from: readonly T[]): T => from[Math.floor(random() * from.length)]!;

let nats: NatsServer;
let client: NatsConnection;
let env: Record<string, string>;
const services: ServiceProgram[] = [];
/** Of the windows that hold messages. */
let from: number;
let to: number;

async function start(slice: string): Promise<ServiceProgram> {
  const service = await startServiceProgram({ ...env, SLICE: slice });
  services.push(service);
  await eventually('control is on the bus', async () => (await service.status()).control.onBus);
  return service;
}

async function publish(messages: number): Promise<void> {
  for (let i = 0; i < messages; i++) {
    const kind = Math.floor(random() * NAMES.length);
    const dimensions = {
      app: pick(['api', 'web', 'jobs']),
      status: pick(['200', '404', '500']),
      i: `${i % 10}`,
    };
    // Of fractions, so that rounding shows.
    const value = Math.round(random() * 1000) / 10;
    client.publish('metrics', JSON.stringify({ name: NAMES[kind], type: TYPES[kind], value, dimensions }));
    if (i % 500 === 499) await sleep(WINDOW_MS / 2);
  }
  await client.flush();
}

async function run(...args: readonly string[]): Promise<{ code: unknown; json: Anything; stderr: string }> {
  const program = startProgram([...args, '--json'], { HTTP_PORT: '1', ...env });
  const code = await program.ended;
  const { stdout, stderr } = program.output;
  return { code, json: stdout.startsWith('{') ? JSON.parse(stdout) : undefined, stderr };
}

/** As the command does it, over the connection of the test. */
async function askAll(question: object): Promise<{ code: number; json: MergedAnswer }> {
  const answered = async (service: ServiceProgram, more: object): Promise<InstanceAnswer> => {
    const { instance } = await service.status();
    const { result, error } = await ask(client, instance, 'query', { ...question, ...more });
    expect(error).toBeUndefined();
    return { instance, answer: result };
  };
  const first = await Promise.all(services.map((service) => answered(service, {})));
  const json = await together(first, [], async ({ instance, only }, range) => {
    const service = services[first.findIndex((one) => one.instance === instance)]!;
    return await answered(service, {
      ...range,
      sketches: true,
      ...(only && { ranges: rangesInWords(only) }),
    });
  });
  return { code: json.complete ? 0 : 1, json };
}

const untilClosed = async (service: ServiceProgram, time: number) =>
  await eventually('the windows are closed', async () => {
    const { boundary } = (await service.status()).windows;
    return boundary !== null && Date.parse(boundary) >= time;
  });

const keyOf = ({ name, type, dimensions }: Anything) =>
  JSON.stringify([name, type, Object.values(dimensions)]);
const iso = (ms: number) => new Date(ms).toISOString();

beforeAll(async () => {
  nats = await startNats();
  client = await connect({ servers: nats.url });
  env = { NATS_URL: nats.url, ...WINDOWS, SINK_HOLE_ENABLED: 'true', SINK_HOLE_KIND: 'blackhole' };
  // In this order: the tests name them by it.
  await start('0/2');
  await start('1/2');
  // The window of the first message: count knows of no earlier one.
  from = Math.floor(Date.now() / WINDOW_MS) * WINDOW_MS;
  await publish(MESSAGES);
  // An even number of windows: half of them each.
  const two = 2 * WINDOW_MS;
  to = from + Math.ceil((Date.now() - from) / two) * two + two;
  // Reads the same windows as the first, from its checkpoint or from the next ones on.
  await start('0/2');
  await Promise.all(services.map((service) => untilClosed(service, to)));
});
afterAll(async () => {
  await client?.close();
  await Promise.all(services.map((service) => service.stop('SIGKILL')));
  await nats?.stop();
});

test(`ask and count agree on ${QUESTIONS} random questions (seed ${SEED}), across slices and a standby`, async () => {
  for (let i = 0; i < QUESTIONS; i++) {
    const first = from + WINDOW_MS * Math.floor(random() * 2);
    const end = to - WINDOW_MS * Math.floor(random() * 2);
    const by = pick([[], ['app'], ['status'], ['app', 'status'], ['i']]);
    const where = pick([[], ['app=api'], ['status=?0*', 'app=*'], ['app=j*']]);
    const name = pick([...NAMES, 'http.*', '*']);
    const range = ['--from', iso(first), '--to', iso(end)];
    const filters = [
      ...where.flatMap((each) => ['--where', each]),
      ...(by.length > 0 ? ['--by', by.join()] : []),
    ];
    const [counted, asked] = await Promise.all([
      run('count', '--name', name, ...filters, ...range),
      // Most of them without the command, which takes longer to start than to ask.
      i < COMMANDS
        ? run('ask', name, ...filters, ...range, '--limit', '1000')
        : askAll({ name, where, by, from: iso(first), to: iso(end) }),
    ]);
    const what = JSON.stringify({ name, where, by, range });
    expect(counted, what).toMatchObject({
      code: 0,
      json: { complete: true, from: iso(first), to: iso(end) },
    });
    expect(asked, what).toMatchObject({
      code: 0,
      json: {
        complete: true,
        from: iso(first),
        to: iso(end),
        windows: (end - first) / WINDOW_MS,
        remarks: [],
      },
    });
    const groups = (json: Anything) =>
      new Map(
        json.groups.map((group: Anything) => {
          const { count, sum, p50, p90, p95, p99 } = group;
          return [keyOf(group), { count, sum, p50, p90, p95, p99 }];
        }),
      );
    expect(groups(asked.json), what).toEqual(groups(counted.json));
  }
});

test('over HTTP and as an endpoint, an instance answers for its slice, and says so', async () => {
  const [service] = services;
  const url = `${service!.url}/api/query?name=http.*&where=app%3Dapi&by=status&from=${iso(from)}&to=${iso(to)}`;
  const response = await fetch(url);
  expect(response.headers.get('content-type')).toBe('application/json');
  const answer = (await response.json()) as Anything;
  expect(answer).toMatchObject({
    complete: false,
    slice: '0/2',
    missing: [],
    windows: (to - from) / WINDOW_MS / 2,
  });
  const { instance } = await service!.status();
  const asked = { name: 'http.*', where: ['app=api'], by: ['status'], from: iso(from), to: iso(to) };
  const { result } = await ask(client, instance, 'query', asked);
  expect(result.groups).toEqual(answer.groups);
  expect(answer.groups.length).toBeGreaterThan(1);
  const bad = await fetch(`${service!.url}/api/query?last=2h`);
  expect([bad.status, await bad.json()]).toMatchObject([
    400,
    { error: { code: 'bad_value', field: 'last' } },
  ]);
  expect(await ask(client, instance, 'query', { where: ['app'] })).toMatchObject({
    ok: false,
    error: { code: 'bad_value', field: 'where' },
  });
});

test('a dimension that no series has is said: it may be misspelled', async () => {
  const asked = await run('ask', '--by', 'app,stats', '--from', iso(from), '--to', iso(to));
  expect(asked.json.remarks).toEqual(['no series of these groups has the dimension stats']);
  const none = await run('ask', 'nothing', '--by', 'app', '--from', iso(from), '--to', iso(to));
  expect([none.json.groups, none.json.remarks]).toEqual([[], []]);
});

/** Asks again until the answer is about both: whoever answers a ping too late is not noticed. */
async function askParts(
  of: Readonly<Record<string, string>>,
  last: string,
  isMeant: (answer: Anything) => boolean,
): Promise<{ code: unknown; json: Anything }> {
  let asked: { code: unknown; json: Anything } = { code: undefined, json: undefined };
  await eventually('an answer about both', async () => {
    const program = startProgram(['ask', '--last', last, '--json'], { HTTP_PORT: '1', ...of });
    const code = await program.ended;
    const { stdout } = program.output;
    asked = { code, json: stdout.startsWith('{') ? JSON.parse(stdout) : undefined };
    return asked.json !== undefined && isMeant(asked.json);
  });
  return asked;
}

const NOT_NOTICED = expect.stringContaining('too slow to be found is not noticed');

test('on plain NATS, the part of an instance that keeps nothing is missing, and the answer says so', async () => {
  const parts = { ...env, METRICS_SOURCE: 'core', PIPELINE: 'parts', METRICS_SUBJECTS: 'parts' };
  const shared = { ...parts, METRICS_QUEUE_GROUP: 'group' };
  const keeping = await startServiceProgram(shared);
  const forgetting = await startServiceProgram({ ...shared, RECENT_BYTES: '0' });
  try {
    await eventually('a window', async () => (await keeping.status()).windows.boundary !== null);
    const { instance } = await forgetting.status();
    const isSaid = (remark: string) =>
      remark.startsWith(`${instance}: `) && remark.includes('RECENT_BYTES=0');
    const { code, json } = await askParts(shared, '1s', ({ remarks }) => remarks.some(isSaid));
    expect([code, json.complete]).toEqual([1, false]);
    expect(json.remarks.at(-1)).toEqual(NOT_NOTICED);
  } finally {
    await Promise.all([keeping.stop('SIGKILL'), forgetting.stop('SIGKILL')]);
  }
});

test('on plain NATS, instances that share no group count everything twice, and the answer says so', async () => {
  const twice = { ...env, METRICS_SOURCE: 'core', PIPELINE: 'twice', METRICS_SUBJECTS: 'twice' };
  const both = await Promise.all([startServiceProgram(twice), startServiceProgram(twice)]);
  try {
    for (const service of both)
      await eventually('a window', async () => (await service.status()).windows.boundary !== null);
    const { code, json } = await askParts(twice, '1s', ({ instances }) => instances.length === 2);
    expect([code, json.complete]).toEqual([1, false]);
    expect(json.remarks).toContainEqual(
      expect.stringMatching(/^all messages are read 2 times over, .*METRICS_QUEUE_GROUP$/),
    );
  } finally {
    await Promise.all(both.map((service) => service.stop('SIGKILL')));
  }
});

test('cardinality names what has the most series', async () => {
  const { code, json } = await run('cardinality');
  expect(code).toBe(0);
  expect(json.answered).toBe(3);
  expect(json.keys.slice(0, 2)).toMatchObject([{ key: 'i', count: 10 }, { count: 3 }]);
  expect(json.names).toHaveLength(NAMES.length);
  expect(json.names[0].keys[0]).toMatchObject({ key: 'i', values: 10 });
});

test('without one slice, the answer says whose windows are missing', async () => {
  await services[1]!.stop('SIGKILL');
  const { code, json } = await run('ask', '--from', iso(from), '--to', iso(to));
  expect(code).toBe(1);
  const { complete, remarks } = json as MergedAnswer;
  expect(complete).toBe(false);
  expect(remarks).toEqual(['no instance of slice 1/2 answered: its windows are missing']);
});
