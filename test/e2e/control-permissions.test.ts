/** The permissions that the README gives: they are enough, and no more than that. */
import { readFileSync } from 'node:fs';
import { connect } from 'nats';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type NatsServer, startNats } from '../../src/servers/nats.ts';
import { type ServiceProgram, startServiceProgram } from '../../src/servers/service.ts';
import { ctl, eventually } from './control-support.ts';
import { WINDOWS } from './support.ts';

const README = new URL('../../README.md', import.meta.url);
const HOLE = { SINK_HOLE_ENABLED: 'true', SINK_HOLE_KIND: 'blackhole' };
let nats: NatsServer;
let service: ServiceProgram;

function fromReadme(): string {
  const text = readFileSync(README, 'utf8');
  const [, block] = /<!-- tested: control permissions -->\n```\n([\s\S]*?)```/.exec(text) ?? [];
  return block!;
}

const as = (user: string) => ({
  NATS_URL: nats.url,
  NATS_USER: user,
  NATS_PASSWORD: user.slice(0, 1),
});
/** Finds nobody over HTTP. */
const ask = (user: string, ...args: string[]) => ctl({ ...as(user), HTTP_PORT: '1' }, ...args);

beforeAll(async () => {
  nats = await startNats({ extra: fromReadme() });
  service = await startServiceProgram({ ...as('service'), ...WINDOWS, ...HOLE });
  await eventually('control is on the bus', async () => (await service.status()).control.onBus);
}, 60_000);
afterAll(async () => {
  await service?.stop('SIGKILL');
  await nats?.stop();
});

test('an instance reads, keeps its checkpoints and answers', async () => {
  await service.untilConfirmed(Date.now() + 1000, 20_000);
  expect(await service.status()).toMatchObject({ ready: true, sinks: [{ checkpointFailures: 0 }] });
  expect(service.output.stderr).not.toMatch(/PERMISSIONS|"level":"error"/);
}, 30_000);

test('an operator may do everything', async () => {
  expect(await ask('operator', 'status')).toMatchObject({ code: 0, stderr: '' });
  expect(await ask('operator', 'pause', 'hole', '--all')).toMatchObject({ code: 0, stderr: '' });
  expect(await ask('operator', 'resume', 'hole', '--all')).toMatchObject({ code: 0, stderr: '' });
  const detached = await ask('operator', 'detach', '--all', '--keep-control', '--json');
  expect(detached).toMatchObject({ code: 0, stderr: '', answers: [{ task: { state: 'done' } }] });
  expect(await ask('operator', 'attach', '--all')).toMatchObject({ code: 0, stderr: '' });
}, 30_000);

test('a viewer may look, and no more; a producer may neither', async () => {
  expect(await ask('viewer', 'status')).toMatchObject({ code: 0, stderr: '' });
  expect((await ask('viewer', 'pause', 'hole', '--all', '--timeout', '1s')).code).toBe(1);
  const { user, pass } = { user: 'producer', pass: 'p' };
  const client = await connect({ servers: nats.url, user, pass, inboxPrefix: '_INBOX.producer' });
  for (const subject of [
    'fanout.control.all.sink.pause',
    `fanout.control.${(await service.status()).instance}.detach`,
  ])
    client.publish(subject, '{"sink":"hole"}');
  await client.flush();
  await client.close();
  expect(await service.status()).toMatchObject({ detached: false, sinks: [{ paused: false }] });
}, 30_000);

test('where the bus refuses control, the log says so once, and the data flow', async () => {
  const without = fromReadme().replace('"$SRV.>", "fanout.control.>"', '"nothing"');
  expect(without).not.toBe(fromReadme());
  const bus = await startNats({ extra: without });
  const other = await startServiceProgram({ ...as('service'), NATS_URL: bus.url, ...WINDOWS, ...HOLE });
  await other.untilConfirmed(Date.now() + 1000, 20_000);
  await eventually('it is told', async () => other.output.stderr.includes('no control over the bus'));
  expect(await other.status()).toMatchObject({ ready: true, control: { enabled: true, onBus: false } });
  expect(other.output.stderr.match(/no control over the bus/g)).toHaveLength(1);
  expect(other.output.stderr).not.toContain('"level":"error"');
  expect(await other.stop()).toBe(0);
  await bus.stop();
}, 60_000);
