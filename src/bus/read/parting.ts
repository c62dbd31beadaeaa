/** Compares what was read of a stream with what it holds now. */
import { setTimeout as sleep } from 'node:timers/promises';
import { ErrorCode } from 'nats';
import type { Bus } from '../connect.ts';
import { apiSubject } from '../jetstream-api.ts';
import { describeStream, manager, type StreamConfigured, type StreamFacts } from '../stream.ts';
import { keyOfMark, type Mark } from './trail.ts';

/**
 * `other`: the stream was rolled back; its sequence belongs to another message by now, or to none yet. `gone`: removed
 * by retention or one by one, or we may not look: that says nothing.
 */
export type Held = 'same' | 'other' | 'gone';

/** What became of each mark, by `keyOfMark`. */
export type HeldMarks = ReadonlyMap<string, Held>;

/** A server that has just begun to lead a stream may say for a moment that it ends earlier. */
const SETTLE_MS = 1_000;

/** Resolves to what the stream holds in the place of each mark. `facts`: a description of the stream. */
export async function compareMarks(
  bus: Bus,
  core: Pick<StreamConfigured, 'metricsStream' | 'metricsSubjects'>,
  facts: StreamFacts,
  marks: readonly Mark[],
): Promise<HeldMarks> {
  const settled = await settledFacts(bus, core, facts, Math.max(0, ...marks.map(({ sequence }) => sequence)));
  const held = marks.map(async (mark) => [keyOfMark(mark), await heldOf(bus, settled, mark)] as const);
  return new Map(await Promise.all(held));
}

/**
 * Resolves to whether the stream was rolled back: the newest of these marks that it does not lack tells. Another stream
 * of the same name was not.
 */
export async function isRolledBack(
  bus: Bus,
  core: Pick<StreamConfigured, 'metricsStream' | 'metricsSubjects'>,
  facts: StreamFacts,
  marks: readonly Mark[],
): Promise<boolean> {
  const newestFirst = [...marks].sort((a, b) => b.sequence - a.sequence);
  const settled = await settledFacts(bus, core, facts, newestFirst[0]?.sequence ?? 0);
  if (settled.created !== facts.created) return false;
  for (const mark of newestFirst) {
    const held = await heldOf(bus, settled, mark);
    if (held !== 'gone') return held === 'other';
  }
  return false;
}

async function settledFacts(
  bus: Bus,
  core: Pick<StreamConfigured, 'metricsStream' | 'metricsSubjects'>,
  facts: StreamFacts,
  last: number,
): Promise<StreamFacts> {
  if (last <= facts.lastSequence) return facts;
  await sleep(SETTLE_MS);
  return await describeStream(bus, core);
}

async function heldOf(bus: Bus, facts: StreamFacts, { sequence, time }: Mark): Promise<Held> {
  if (sequence > facts.lastSequence) return 'other';
  if (sequence < facts.firstSequence) return 'gone';
  try {
    const stored = await (await manager(bus)).streams.getMessage(facts.name, { seq: sequence });
    return stored.time.getTime() === time ? 'same' : 'other';
  } catch (error) {
    if (isNotFound(error)) return 'gone';
    if ((error as { code?: unknown }).code !== ErrorCode.PermissionsViolation) throw error;
    sayOnce(bus, facts.name);
    return 'gone';
  }
}

/** Connections that may not look at single messages: that was said. */
const said = new WeakSet<Bus>();

function sayOnce(bus: Bus, stream: string): void {
  if (said.has(bus)) return;
  said.add(bus);
  const advice = `Let the user publish to ${apiSubject(bus, 'STREAM.MSG.GET', stream)}.`;
  bus.log.warn(
    { stream, advice },
    'a rollback of the stream would not be noticed: its messages cannot be looked at',
  );
}

function isNotFound(error: unknown): boolean {
  return (error as { api_error?: { code?: number } }).api_error?.code === 404;
}
