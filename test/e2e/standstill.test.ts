/** A store that stands still: whatever call it blocks, it holds up nobody else, no stop and no command. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { expect, type TestContext, test } from 'vitest';
import { type Program, startProgram } from '../../src/servers/fanout-program.ts';
import { type NatsServer, startNats } from '../../src/servers/nats.ts';
import { temporaryFolder } from '../../src/servers/server-process.ts';
import { startServiceProgram } from '../../src/servers/service-program.ts';
import { LIMIT_MS } from '../limits.ts';
import { BLOCKED } from './blocking-sink.ts';
import { endOf, sample, sendTraffic, WINDOWS } from './support.ts';

const KIND = fileURLToPath(new URL('./blocking-sink.ts', import.meta.url));
const TIMEOUT_MS = 3000;
const STOP_TIMEOUT_MS = 2000;
/** Two of the same signal within 500 ms are one. */
const SECOND_SIGNAL_MS = 600;
/** Than any wait here. Whoever waits for it does not end at once. */
const LONGER = '1h';

interface Setting {
  readonly nats: NatsServer;
  readonly folder: string;
  readonly pipe: string;
  readonly env: Record<string, string>;
}

/** A bus and a store for one test. All of them wait most of their time, and do so side by side. */
async function setUp({ onTestFinished }: Pick<TestContext, 'onTestFinished'>): Promise<Setting> {
  const folder = temporaryFolder('standstill');
  onTestFinished(() => folder.remove());
  const pipe = join(folder.path, 'pipe');
  execFileSync('mkfifo', [pipe]);
  const nats = await startNats();
  onTestFinished(() => nats.stop());
  const env = {
    ...WINDOWS,
    NATS_URL: nats.url,
    STOP_TIMEOUT: `${STOP_TIMEOUT_MS}ms`,
    SINK_SQLITE_ENABLED: 'true',
    SINK_SQLITE_PATH: join(folder.path, 'fanout.db'),
    SINK_STILL_ENABLED: 'true',
    SINK_STILL_KIND: KIND,
    SINK_STILL_TIMEOUT: `${TIMEOUT_MS}ms`,
  };
  return { nats, folder: folder.path, pipe, env };
}

/** Where a call blocks: in JavaScript, or in the system, by opening a named pipe. */
const blocking = ({ env, pipe }: Setting, call: string, where: string) => ({
  ...env,
  SINK_STILL_CALL: call,
  ...(where === 'the system' && { SINK_STILL_PIPE: pipe }),
});

async function until(program: Program, stream: 'stdout' | 'stderr', text: string): Promise<void> {
  for (const deadline = Date.now() + LIMIT_MS; !program.output[stream].includes(text); await sleep(20)) {
    if (Date.now() > deadline) throw new Error(`no ${text}: ${JSON.stringify(program.output)}`);
  }
}

/** The exit code: SIGKILL if it did not end by itself. */
async function ended(program: Program): Promise<number | NodeJS.Signals> {
  const killed = AbortSignal.timeout(LIMIT_MS);
  killed.addEventListener('abort', () => program.child.kill('SIGKILL'));
  return await program.ended;
}

test.concurrent.for([
  ['open', 'JavaScript'],
  ['open', 'the system'],
  ['write', 'JavaScript'],
  ['read', 'JavaScript'],
  ['remove', 'JavaScript'],
] as const)(
  'check names a sink that blocks its thread in %s, in %s, and shows the others before',
  async ([call, where], context) => {
    const blocked = blocking(await setUp(context), call, where);
    const waiting = startProgram(['check'], { ...blocked, SINK_STILL_TIMEOUT: LONGER });
    await until(waiting, 'stdout', 'removed');
    expect(waiting.output.stdout).toMatch(
      /^sink sqlite \(sqlite\) +ok +made the file \S+, written, read back, removed/m,
    );
    expect(waiting.output.stdout).not.toContain('sink still');
    await waiting.stop('SIGKILL');
    const program = startProgram(['check'], blocked);
    expect(await ended(program)).toBe(1);
    expect(program.output.stdout).toMatch(/^sink sqlite \(sqlite\) +ok +\S+ written, read back, removed/m);
    expect(program.output.stdout).toMatch(/^sink still \(blocking\) +failed +no answer within 3000 ms$/m);
    expect(program.output.stdout).toContain('What to do:');
  },
);

test.concurrent('check --json is one object, also with a sink that blocks', async (context) => {
  const { env } = await setUp(context);
  const program = startProgram(['check', '--json'], env);
  expect(await ended(program)).toBe(1);
  const findings = JSON.parse(program.output.stdout) as { what: string; state: string }[];
  expect(findings.map(({ what, state }) => `${what}: ${state}`).slice(-2)).toEqual([
    'sink sqlite (sqlite): ok',
    'sink still (blocking): failed',
  ]);
});

test.concurrent.for([
  ['open', 'JavaScript'],
  ['open', 'the system'],
  ['write', 'JavaScript'],
] as const)(
  'the service with a sink that blocks its thread in %s, in %s, stays well, and ends when it is stopped',
  async ([call, where], context) => {
    const setting = await setUp(context);
    const service = await startServiceProgram(blocking(setting, call, where));
    const truth = await sendTraffic(setting, ['--count', '500', '--rate', '500']);
    const stalls = async () =>
      sample(await (await fetch(`${service.url}/metrics`)).text(), 'fanout_sink_stalls_total{sink="still"}');
    for (const deadline = Date.now() + LIMIT_MS; ; await sleep(100)) {
      expect((await fetch(`${service.url}/healthz`)).status).toBe(200);
      const { sinks } = await service.status();
      const [sqlite, still] = sinks;
      const isConfirmed = sqlite!.next !== null && Date.parse(sqlite!.next) >= endOf(truth);
      if (isConfirmed && still!.stalls >= 2) break;
      if (Date.now() > deadline) throw new Error(JSON.stringify(sinks));
    }
    expect(await stalls()).toBeGreaterThanOrEqual(2);
    const { sinks } = await service.status();
    expect(sinks[1]!.retries.timeout).toBeGreaterThanOrEqual(2);
    expect(sinks[1]!.written).toBe(0);
    expect(service.output.stderr).toContain('the sink stood still');
    service.child.kill('SIGTERM');
    expect(await ended(service), service.output.stderr).toBe(0);
  },
);

test.concurrent('the first Ctrl-C says that a second one ends the service at once, and it does', async (context) => {
  const setting = await setUp(context);
  const blocked = blocking(setting, 'write', 'JavaScript');
  const service = await startServiceProgram({ ...blocked, STOP_TIMEOUT: LONGER });
  await sendTraffic(setting, ['--count', '500', '--rate', '500']);
  await until(service, 'stderr', BLOCKED);
  service.child.kill('SIGINT');
  await until(service, 'stderr', 'press Ctrl-C again to end at once');
  await sleep(1000);
  expect(service.child.exitCode).toBeNull();
  service.child.kill('SIGINT');
  expect(await ended(service)).toBe(130);
});

/** Confirms some windows, so that there is something to verify. */
async function confirmWindows(setting: Setting): Promise<void> {
  const blocked = blocking(setting, 'read', 'JavaScript');
  const service = await startServiceProgram({ ...blocked, VERIFY_SHARE: '0' });
  const truth = await sendTraffic(setting, ['--count', '500', '--rate', '500']);
  await service.untilConfirmed(endOf(truth));
  expect(await service.stop()).toBe(0);
}

test.concurrent.for([
  ['verify', ['--sink', 'still']],
  ['replay', ['--sink', 'still', '--from', '2026-01-01T00:00:00Z']],
] as const)(
  '%s with a store that stands still: Ctrl-C says that a second one ends it at once, and it does',
  async ([command, args], context) => {
    const before = new Date(Date.now() - 3_600_000).toISOString();
    const given = args.map((arg) => (arg.startsWith('2026') ? before : arg));
    const setting = await setUp(context);
    await confirmWindows(setting);
    const blocked = blocking(setting, command === 'verify' ? 'read' : 'open', 'the system');
    const program = startProgram([command, ...given], { ...blocked, SINK_STILL_TIMEOUT: LONGER });
    await until(program, 'stderr', BLOCKED);
    expect(program.child.exitCode, JSON.stringify(program.output)).toBeNull();
    program.child.kill('SIGINT');
    await until(program, 'stderr', 'stopping; press Ctrl-C again to end at once');
    await sleep(SECOND_SIGNAL_MS);
    program.child.kill('SIGINT');
    expect(await ended(program)).toBe(130);
  },
);
