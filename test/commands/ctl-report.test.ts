/** The answers of instances, as `ctl` prints them. */
import { expect, test } from 'vitest';
import { outcomesText } from '../../src/commands/ctl-report.ts';
import { notesOf } from '../../src/observe/comparison.ts';
import { sinkCard, troubleText } from '../../src/observe/sink-card.ts';
import type { Status } from '../../src/observe/status.ts';
import { sinkStatus, statusOf } from '../observe/parts.ts';

async function shown(operation: 'status' | 'sink.pause' | 'sink.resume', result: object): Promise<string> {
  const body = { instance: 'one', ok: true, result };
  return outcomesText(operation, [{ reply: { instance: 'one', via: 'socket', body } as never }]);
}

const statusText = async (differences: Partial<Status>) =>
  shown('status', { ...(await statusOf([sinkStatus()])), ...differences, instance: 'one' });

test('of an instance that is not ready, ctl status says why', async () => {
  const noBus = { ready: false, bus: { connected: false, reconnects: 0, server: '', urls: [] } };
  expect(await statusText(noBus)).toMatch(
    /\n\none: The bus cannot be reached\. Nothing is read until it is back\.\n$/,
  );
  const never = await statusText({ ...noBus, sinks: [] });
  expect(never).toMatch(/not ready +0 +0 +– +– +– +– +–\n/);
  expect(never).toMatch(/it is back\. Its sinks are opened once it has read from the bus\.\n$/);
  const notReadyBecause = 'the bucket of the checkpoints was deleted';
  expect(await statusText({ ready: false, notReadyBecause })).toContain(
    'one: Connected to the bus, but not ready: the bucket of the checkpoints was deleted.',
  );
  expect(await statusText({})).not.toContain('not ready');
  expect(await statusText({ ...noBus, detached: true })).not.toContain('not ready');
});

test('ctl verify says that windows are different, and tells that from unknown', () => {
  const told = (different: number, unknown: number) => {
    const sinks = [{ sink: 'sqlite', windows: { equal: 1, different, unknown } }];
    const task = { operation: 'verify', state: 'done', error: null, result: { equal: false, sinks } };
    const body = { instance: 'one', ok: true, result: task };
    const reply = { instance: 'one', via: 'socket', body };
    return outcomesText('verify', [{ reply, task } as never]);
  };
  expect(told(2, 1)).toContain('2 windows are DIFFERENT, in 1 of 1 sink; sqlite: equal 1, different 2');
  expect(told(0, 1)).toContain('not known to be equal; sqlite: equal 1');
});

test('what a sink is after ctl pause and ctl resume is said in words', async () => {
  const each = { 'sink.pause': true, 'sink.resume': false } as const;
  for (const [operation, paused] of Object.entries(each) as [keyof typeof each, boolean][])
    expect(await shown(operation, { sink: 'sqlite', paused })).toContain(
      `sqlite is ${paused ? 'paused' : 'resumed'}\n`,
    );
});

test('ctl status is a table of numbers that can be read, and whole sentences about what is not well', async () => {
  const failure = { at: 0, reason: 'connection', message: 'connect ECONNREFUSED 127.0.0.1:5432' } as const;
  const sinks = [
    sinkStatus({ id: 'well', written: 1_234_567, lagSeconds: 11.24 }),
    sinkStatus({ id: 'down', up: false, lastFailure: failure, backlogPoints: 12_345, lagSeconds: 1215.3 }),
    sinkStatus({ id: 'held', paused: true, lagSeconds: null }),
    sinkStatus({ id: 'behind', catchUp: { windowsBehind: 1, windowsPerSecond: 3, secondsLeft: 40 } }),
  ];
  const text = await statusText({ sinks });
  expect(text).toMatch(/ sink state +lag s +backlog +points written\n/);
  expect(text).toMatch(/ well +healthy +11\.2 +0 +1,234,567\n/);
  expect(text).toMatch(/ down +down +1,215\.3 +12,345 +0\n/);
  expect(text).toMatch(/ held +paused +– /);
  expect(text).toContain(
    'one: down is down. Connection: connect ECONNREFUSED 127.0.0.1:5432. What to do: See ',
  );
  expect(text).toContain('one: held is paused. Nothing is written until somebody resumes it. What to do: ');
  expect(text).toContain('one: behind is catching up. 1 window behind, about 40 s left. ');
});

test('ctl status says which sinks get only some names: they write less than others', async () => {
  const sinks = [sinkStatus({ written: 9 }), sinkStatus({ id: 'part', written: 1, names: ['b.*', 'a'] })];
  const shown = await statusText({ sinks });
  expect(shown).toContain(
    'one: part gets only names that a, b.* choose: fewer points than the stream gives.',
  );
  expect(shown).not.toContain('pg gets');
});

test('ctl status and the card say which sinks have longer windows', async () => {
  const sinks = [sinkStatus(), sinkStatus({ id: 'long', windowMs: 300_000 })];
  const status = await statusOf(sinks);
  const shown = await statusText({ sinks });
  expect(shown).toContain(
    'one: long has windows of 5 min, made of those of 10 s: fewer rows, and a longer lag.',
  );
  expect(shown).not.toContain('pg has windows');
  const text = 'of 5 min, made of those of 10 s';
  expect(sinkCard(sinks[1]!, status).lines).toContainEqual({ what: 'windows', text, tone: 'plain' });
  expect(sinkCard(sinks[0]!, status).lines.map(({ what }) => what)).not.toContain('windows');
  // It is no trouble.
  expect(troubleText(sinkStatus({ paused: true, windowMs: 300_000 }), status)).not.toContain('5 min');
});

test('ctl status, the card and compare say that a sink gets nothing by its names', async () => {
  const sink = sinkStatus({ id: 'typo', names: ['htp.*', 'a'], unchosenWindows: 1_200 });
  const text = 'no name of the latest 1,200 windows matches a, htp.*';
  const status = await statusOf([sink]);
  expect(await statusText({ sinks: [sink] })).toContain(`one: typo gets nothing: ${text}.`);
  expect(sinkCard(sink, status).lines).toContainEqual({ what: 'nothing chosen', text, tone: 'warn' });
  expect(notesOf(status)).toContain(`typo gets nothing: ${text}`);
});
