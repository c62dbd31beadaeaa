/** Decides where in the stream a new consumer begins, so that no message is delivered twice and none is skipped. */
import { type ConsumerConfig, DeliverPolicy } from 'nats';
import type { Bus } from '../connect.ts';
import type { StreamConfigured, StreamFacts } from '../stream.ts';
import { isRolledBack } from './parting.ts';
import type { Gap, ReadFrom } from './source.ts';

export const NANOS_PER_MS = 1_000_000n;
const NANOS_PER_SECOND = 1_000_000_000n;

/** The last message that was handed over. */
export interface LastRead {
  readonly sequence: number;
  /** Nanoseconds since 1970. */
  readonly nanos: bigint;
  /** The sequence that was expected next: later if a gap was reported; 0 if the stream was known to be replaced. */
  readonly next: number;
  /** When the stream from which it was expected was created. */
  readonly created: string;
}

export interface ConsumerStart {
  readonly deliver: Partial<ConsumerConfig>;
  /** The sequence that comes next; 0 if unknown. */
  readonly next: number;
  readonly gap?: Gap;
  /** What an operator should know about this start. */
  readonly remark?: string;
}

/** Begins where the caller asks. */
export function startAt(start: ReadFrom, facts: StreamFacts, nowMs: number): ConsumerStart {
  switch (start.kind) {
    case 'earliest':
      return { deliver: { deliver_policy: DeliverPolicy.All }, next: 0 };
    case 'sequence':
      return fromSequence(start.sequence, 0, facts, nowMs);
    case 'time': {
      const deliver = {
        deliver_policy: DeliverPolicy.StartTime,
        opt_start_time: new Date(start.ms).toISOString(),
      };
      const gap = gapAtTime(start, facts, nowMs);
      return { deliver, next: 0, ...(gap ? { gap } : {}) };
    }
  }
}

/** Begins after the last message that was handed over, or after a gap that was already reported. */
export async function startAfter(
  last: LastRead,
  facts: StreamFacts,
  {
    bus,
    core,
  }: { readonly bus: Bus; readonly core: Pick<StreamConfigured, 'metricsStream' | 'metricsSubjects'> },
  nowMs: number,
): Promise<ConsumerStart> {
  const lastMs = Number(last.nanos / NANOS_PER_MS);
  // Our clock may be behind the server's.
  const latestMs = Math.max(lastMs, Math.floor(nowMs));
  const isCutShort = last.created !== facts.created && last.sequence > facts.lastSequence;
  const mark = { sequence: last.sequence, time: lastMs };
  if (!isCutShort && !(await isRolledBack(bus, core, facts, [mark]))) {
    // In a stream that was set back, messages reported as gone may be there again.
    const isGone = last.next <= facts.firstSequence;
    const next = isGone ? Math.max(last.next, last.sequence + 1) : last.sequence + 1;
    return fromSequence(next, lastMs, facts, latestMs);
  }
  // Its sequences now mean something else, but its times still show what is new.
  const deliver = { deliver_policy: DeliverPolicy.StartTime, opt_start_time: rfc3339(last.nanos + 1n) };
  if (last.next === 0 && last.created === facts.created) return { deliver, next: 0 };
  return {
    deliver,
    next: 0,
    // Of a stream that was rolled back, it is not known which messages are missing between the last one and now.
    gap: { fromTime: lastMs, toTime: Math.max(facts.firstTime ?? 0, latestMs), messages: 0 },
    remark: 'the stream was replaced, or lost messages that it had delivered; reading continues by time',
  };
}

function fromSequence(sequence: number, fromTime: number, facts: StreamFacts, nowMs: number): ConsumerStart {
  if (sequence > facts.lastSequence + 1) {
    return {
      deliver: { deliver_policy: DeliverPolicy.All },
      next: 0,
      gap: { fromTime, toTime: facts.firstTime ?? nowMs, messages: 0 },
      remark:
        'the stream ends before the sequence to continue from, so it was replaced; reading starts with what it holds',
    };
  }
  const removed = facts.firstSequence - Math.max(sequence, facts.beginSequence);
  const next = Math.max(sequence, facts.firstSequence);
  const deliver = { deliver_policy: DeliverPolicy.StartSequence, opt_start_seq: next };
  if (removed <= 0) return { deliver, next };
  return { deliver, next, gap: { fromTime, toTime: facts.firstTime ?? nowMs, messages: removed } };
}

/** A start by time cannot know what retention removed after that time, unless it knows what was consumed before. */
function gapAtTime(
  start: Extract<ReadFrom, { kind: 'time' }>,
  facts: StreamFacts,
  nowMs: number,
): Gap | undefined {
  const toTime = facts.firstTime ?? (start.after === undefined ? 0 : nowMs);
  const after = Math.max(start.after ?? 0, facts.beginSequence - 1);
  if (facts.firstSequence <= after + 1 || toTime <= start.ms) return undefined;
  const messages = start.after === undefined ? 0 : facts.firstSequence - after - 1;
  return { fromTime: start.ms, toTime, messages };
}

function rfc3339(nanos: bigint): string {
  const seconds = new Date(Number(nanos / NANOS_PER_SECOND) * 1000).toISOString().slice(0, 19);
  return `${seconds}.${String(nanos % NANOS_PER_SECOND).padStart(9, '0')}Z`;
}
