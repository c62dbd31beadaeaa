/** The service verifies its windows by itself, in four real stores. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type ServiceProgram, startServiceProgram } from '../../src/servers/service-program.ts';
import { type Stack, startStack } from '../../src/servers/stack.ts';
import { LIMIT_MS } from '../limits.ts';
import { editByHand } from './hand-edits.ts';
import { endOf, sample, sendTraffic, WINDOWS } from './support.ts';

/** The time to change rows between the confirmation of a window and reading it back, at first. */
const DELAY_MS = 8_000;

let stack: Stack;
let service: ServiceProgram;
beforeAll(async () => {
  stack = await startStack();
});
afterAll(async () => {
  await service?.stop('SIGKILL');
  await stack?.stop();
});

/** Waits until every sink has verified this many windows, and resolves to its counts. */
async function untilVerified(windows: number) {
  for (const deadline = Date.now() + LIMIT_MS; ; await sleep(200)) {
    const { sinks } = await service.status();
    const counts = sinks.map(({ id, verified }) => ({ id, ...verified }));
    if (counts.every(({ equal, different, unknown }) => equal + different + unknown >= windows))
      return counts;
    if (Date.now() > deadline) throw new Error(`not in time: ${JSON.stringify(counts)}`);
  }
}

/**
 * Has the service write windows, and changes rows of the last two by hand before these are read back. Resolves to the
 * starts of the windows; to undefined if the machine was too busy for that.
 */
async function writtenAndEdited(delayMs: number) {
  service = await startServiceProgram({
    ...stack.env,
    ...WINDOWS,
    VERIFY_SHARE: '1',
    VERIFY_DELAY: `${delayMs}ms`,
    VERIFY_REPLAY_SHARE: '0.5',
  });
  const args = ['--count', '12000', '--rate', '4000', '--series', '100', '--late', '0.02'];
  const truth = await sendTraffic(stack, args);
  await service.untilConfirmed(endOf(truth));
  const starts = [...new Set(truth.map(({ windowStart }) => windowStart))];
  const [second, last] = [starts.at(-2), starts.at(-1)].map((start) =>
    truth.filter(({ windowStart, series }) => windowStart === start && series.type === 'counter'),
  );
  await editByHand(stack, { changed: second![0]!, deleted: last![1]!, beside: last![2]! });
  // They are read back one after the other, and the last windows last.
  const { sinks } = await service.status();
  const isInTime = sinks.every(
    ({ verified: { equal, different, unknown } }) => equal + different + unknown < starts.length - 2,
  );
  if (isInTime) return starts;
  await service.stop();
  return undefined;
}

test('every window is verified; changed, deleted and added rows in the stores are found', async () => {
  let starts: Awaited<ReturnType<typeof writtenAndEdited>>;
  for (let delayMs = DELAY_MS; starts === undefined; delayMs *= 4) starts = await writtenAndEdited(delayMs);
  const counts = await untilVerified(starts.length);
  expect(counts.map(({ id }) => id)).toEqual(['dynamodb', 'influxdb', 'redshift', 'sqlite']);
  for (const { id, equal, different, unknown, lastDifference } of counts) {
    expect({ equal, different, unknown }, id).toEqual({ equal: starts.length - 2, different: 2, unknown: 0 });
    expect(lastDifference, id).toContain(new Date(starts.at(-1)!).toISOString());
  }
  const lines = service.output.stderr
    .split('\n')
    .filter((line) => line.includes('a window in the store is not what it should be'))
    .map((line) => JSON.parse(line));
  expect(lines).toHaveLength(8);
  expect(lines[0]).toMatchObject({ level: 'error', advice: expect.stringContaining('verify --sink') });
  const metrics = await (await fetch(`${service.url}/metrics`)).text();
  const metric = (result: string) =>
    sample(metrics, `fanout_sink_windows_verified_total{sink="sqlite",result="${result}"}`);
  expect([metric('equal'), metric('different'), metric('unknown')]).toEqual([starts.length - 2, 2, 0]);
});

test('a store that is down delays nobody: its windows are unknown', async () => {
  await stack.postgres.halt('SIGINT');
  const before = await untilVerified(0);
  const truth = await sendTraffic(stack, [
    '--count',
    '8000',
    '--rate',
    '4000',
    '--series',
    '50',
    '--late',
    '0',
  ]);
  const windows = new Set(truth.map(({ windowStart }) => windowStart)).size;
  await stack.postgres.resume();
  await service.untilConfirmed(endOf(truth));
  const verified = before.map(({ equal, different, unknown }) => equal + different + unknown);
  const after = await untilVerified(Math.min(...verified) + windows);
  for (const [i, { id, equal, different }] of after.entries()) {
    expect(different, id).toBe(before[i]!.different);
    if (id !== 'redshift') expect(equal - before[i]!.equal, id).toBe(windows);
  }
});
