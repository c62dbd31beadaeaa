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
