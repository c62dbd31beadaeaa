/** What is foreseen of limits, by how fast they have filled so far. */
import {
  DiscardPolicy,
  type JetStreamAccountStats,
  nanos,
  RetentionPolicy,
  StorageType,
  type StreamInfo,
} from 'nats';
import { expect, test } from 'vitest';
import { type LossFacts, lossesOf } from '../../src/bus/stream-losses.ts';

const HOUR = 3_600_000;
const NOW = Date.parse('2026-11-23T12:00:00Z');
const WANTED = { maxMessageBytes: 1_048_576, metricsStreamMaxAge: 24 * HOUR, metricsFormat: 'auto' } as const;

/** A stream that has held 1,000 messages of 1 KB for an hour. */
function facts(
  config: Partial<StreamInfo['config']> = {},
  ageMs = HOUR,
  account: Partial<JetStreamAccountStats> = {},
): LossFacts {
  const limits = { max_memory: -1, max_storage: -1 };
  const state = { messages: 1_000, bytes: 1_000_000, first_ts: new Date(NOW - ageMs).toISOString() };
  return {
    info: {
      config: {
        name: 'METRICS',
        retention: RetentionPolicy.Limits,
        discard: DiscardPolicy.Old,
        storage: StorageType.File,
        num_replicas: 1,
        max_msgs: -1,
        max_bytes: -1,
        max_age: nanos(24 * HOUR),
        max_msgs_per_subject: -1,
        max_msg_size: -1,
        duplicate_window: nanos(120_000),
        sealed: false,
        ...config,
      },
      state,
    } as StreamInfo,
    account: { memory: 0, storage: 1_000_000, limits, ...account } as JetStreamAccountStats,
    maxPayload: 1_048_576,
    now: NOW,
  };
}

const details = (given: LossFacts) => lossesOf(given, WANTED).map(({ detail }) => detail);
const room = (max_storage: number, storage = 1_000_000) =>
  ({ storage, limits: { max_memory: -1, max_storage } }) as Partial<JetStreamAccountStats>;

test('a limit that max_age keeps from being reached is no loss', () => {
  expect(details(facts())).toEqual([]);
  expect(details(facts({ max_bytes: 25_000_000, max_msgs: 25_000 }))).toEqual([]);
  expect(details(facts({}, HOUR, room(25_000_000)))).toEqual([]);
});

test('max_age that is short for the longest windows of a sink', () => {
  const wanted = (hours: number) =>
    lossesOf(facts(), { ...WANTED, longestWindowMs: hours * HOUR }).map(({ detail }) => detail);
  expect(wanted(12)).toEqual([]);
  expect(wanted(24)).toEqual([
    'messages are removed after 24 h (max_age), and windows of a sink are 24 h long',
  ]);
  expect(lossesOf(facts({ max_age: 0 }), { ...WANTED, longestWindowMs: 24 * HOUR })).toEqual([]);
});

test('a limit that is reached before max_age', () => {
  expect(details(facts({ max_bytes: 12_000_000 }))).toEqual([
    'max_bytes (12 MB) leaves about the last 12 h, not 24 h',
  ]);
  expect(details(facts({ max_msgs: 12_000, max_age: 0 }))).toEqual([
    'max_msgs (12,000 messages) leaves about the last 12 h, not 24 h',
  ]);
  // It says nothing yet about the hours to come.
  expect(details(facts({ max_bytes: 12_000_000 }, 60_000))).toEqual([]);
});

test('a limit at which messages are refused, with the time that is left', () => {
  const refused = facts({ max_bytes: 4_000_000, discard: DiscardPolicy.New });
  expect(details(refused)).toEqual([
    'when max_bytes (4 MB) is reached, discard: new refuses what comes: now 25 %, in about 3 h',
  ]);
  expect(details(facts({}, HOUR, room(12_000_000)))).toEqual([
    'when max_file of the account (12 MB) is reached, no stream of it stores anything: now 8.3 %, in about 11 h',
  ]);
  // Its own limit ends the stream's growth before that.
  expect(details(facts({ max_bytes: 2_000_000, max_age: nanos(HOUR) }, HOUR, room(12_000_000)))).toEqual([]);
});

test('of an account with tiers, the tier of the stream counts', () => {
  const tier = { ...facts().account!, ...room(1_000_500) };
  const tiers = { R3: tier } as JetStreamAccountStats['tiers'] & {};
  expect(details(facts({ num_replicas: 1 }, HOUR, { tiers }))).toEqual([]);
  expect(lossesOf(facts({ num_replicas: 3 }, HOUR, { tiers }), WANTED)).toMatchObject([
    { detail: 'max_file of the account is reached, and no stream of it stores anything', isNow: true },
  ]);
});

test('how many plain publishes may wait depends on the version', () => {
  const of = (version: string) => details(facts({ metadata: { '_nats.ver': version } }))[0];
  expect(of('2.11.17')).toMatch(
    /^nats-server 2\.11\.17 drops plain publishes when 10,000 messages or 128 MB wait/,
  );
  expect(of('2.15.1')).toContain('when 100,000 messages');
  expect(of('2.12.0-RC.1')).toContain('when 100,000 messages');
});

test('a limit of the service or of a subject', () => {
  expect(details({ ...facts(), maxPayload: 8_388_608 })).toEqual([
    'the service rejects messages of more than 1 MB (MAX_MESSAGE_BYTES), and the server takes up to 8.4 MB (max_payload)',
  ]);
  const perSubject = { max_msgs_per_subject: 5, discard: DiscardPolicy.New, discard_new_per_subject: true };
  expect(details(facts(perSubject))).toEqual([
    'a subject that has 5 messages takes no more (max_msgs_per_subject, discard_new_per_subject)',
  ]);
  expect(details(facts({ duplicate_window: nanos(HOUR) }))).toEqual([
    'a message with the Nats-Msg-Id of another one within 60 min is not stored (duplicate_window)',
  ]);
});

test('a stream that only copies others has no window for duplicates, and loses nothing by that', () => {
  expect(details(facts({ duplicate_window: undefined } as object))).toEqual([]);
});

test('a sealed stream stores nothing', () => {
  expect(lossesOf(facts({ sealed: true }), WANTED)).toMatchObject([{ isNow: true }]);
});

test('a stream that takes increments and nothing else, or no increments, for the format of the messages', () => {
  const metadata = { '_nats.ver': '2.12.0' };
  const subjects = ['metrics.>'];
  const problem = (metricsFormat: 'auto' | 'counter', config: object) =>
    lossesOf(facts({ metadata, subjects, ...config }), { ...WANTED, metricsFormat })
      .filter(({ detail }) => !detail.includes('plain publishes'))
      .map(({ detail, isNow }) => ({ detail, isNow }));
  const only = { allow_msg_counter: true };
  const sources = [{ name: 'EDGE' }];
  const refuses = {
    detail:
      'the stream refuses every increment that is published on its subjects (it lacks allow_msg_counter)',
    isNow: true,
  };
  const old = { detail: expect.stringContaining('has no streams of counters (2.12 and newer'), isNow: false };
  expect(problem('counter', only)).toEqual([]);
  expect(problem('auto', {})).toEqual([]);
  expect(problem('counter', {})).toEqual([refuses]);
  expect(problem('counter', { sources })).toEqual([
    { detail: `${refuses.detail}; it copies those of its sources`, isNow: false },
  ]);
  // They are stored as the other streams have them, and a mirror can not have the setting.
  expect(problem('counter', { subjects: [], sources })).toEqual([]);
  expect(problem('counter', { subjects: undefined, mirror: sources[0] })).toEqual([]);
  expect(problem('auto', only)).toEqual([
    { detail: expect.stringContaining('refuses all else (allow_msg_counter)'), isNow: true },
  ]);
  expect(problem('counter', { metadata: { '_nats.ver': '2.11.9' } })).toEqual([old]);
  expect(problem('counter', { metadata: undefined })).toEqual([old]);
  expect(problem('auto', { metadata: undefined })).toEqual([]);
});
