/** What `check` says about the stream. */
import { bytes, counted, seconds } from '../base/number-format.ts';
import { isDoubled, storedPatterns } from '../bus/capture.ts';
import type { Bus } from '../bus/connect.ts';
import { EARLY_REMOVAL } from '../bus/early-removal.ts';
import { hasCounters, NO_COUNTERS } from '../bus/increments.ts';
import { tryReading } from '../bus/read/trial.ts';
import { describeStream, overlapping, type StreamFacts, streamExists } from '../bus/stream.ts';
import { findLosses } from '../bus/stream-losses.ts';
import type { Config } from '../config/config.ts';
import type { CoreConfig } from '../config/core-settings.ts';
import { type Finding, failed } from './check-finding.ts';

export const READING_NAME = 'reading';
export const LIMITS_NAME = 'limits';
export const streamName = ({ metricsStream }: Pick<CoreConfig, 'metricsStream'>) => `stream ${metricsStream}`;

/** Only looks: `check` creates no stream. */
export async function checkStream(bus: Bus, core: CoreConfig): Promise<Finding> {
  const what = streamName(core);
  try {
    if (!(await streamExists(bus, core.metricsStream))) return await wouldBeMade(bus, core);
    const facts = await describeStream(bus, core);
    const advice = remarks(facts, core).join(' ');
    return { what, state: advice === '' ? 'ok' : 'warn', detail: inWords(facts), advice };
  } catch (error) {
    return failed(what, error);
  }
}

async function wouldBeMade(bus: Bus, core: CoreConfig): Promise<Finding> {
  const { metricsStream, metricsSubjects, metricsStreamMaxAge, metricsStreamMaxBytes } = core;
  const what = streamName(core);
  const other = await overlapping(bus, core);
  if (other !== undefined) {
    const detail = `does not exist, and cannot be made: ${other} captures some of ${metricsSubjects.join(', ')}`;
    const advice = `Set METRICS_STREAM to ${other}, or METRICS_SUBJECTS to subjects that no other stream captures.`;
    return { what, state: 'failed', detail, advice };
  }
  const kept = `${seconds(metricsStreamMaxAge / 1000)} and at most ${bytes(metricsStreamMaxBytes)} on disk`;
  const lacks = core.metricsFormat === 'counter' && !hasCounters(bus.connection.info!.version);
  const detail = `does not exist yet; the service creates it, if its user is permitted to: ${metricsSubjects.join(', ')}, kept for ${kept}${lacks ? `; ${NO_COUNTERS}` : ''}`;
  const advice = `To keep more or less, set METRICS_STREAM_MAX_AGE and METRICS_STREAM_MAX_BYTES, or make ${metricsStream} yourself.`;
  return { what, state: 'ok', detail, advice };
}

/** Makes two consumers, reads with one, and removes them. */
export async function checkReading(bus: Bus, core: CoreConfig): Promise<Finding> {
  const what = READING_NAME;
  try {
    if (!(await streamExists(bus, core.metricsStream)))
      return { what, state: 'ok', detail: 'there is no stream yet', advice: '' };
    const { consumers, messages } = await tryReading(bus, await describeStream(bus, core));
    const detail = `made and removed ${counted(consumers, 'consumer')}, read ${counted(messages, 'message')}`;
    return { what, state: 'ok', detail, advice: '' };
  } catch (error) {
    return failed(what, error);
  }
}

/** What may be published and not stored. It fails only if that is so now, and warns if there is something to do. */
export async function checkLimits(bus: Bus, { core, sinks }: Config): Promise<Finding> {
  const what = LIMITS_NAME;
  try {
    const longestWindowMs = Math.max(0, ...sinks.map(({ windowMs = 0 }) => windowMs));
    const found = await findLosses(bus, { ...core, longestWindowMs });
    if (found === undefined) return { what, state: 'ok', detail: 'there is no stream yet', advice: '' };
    const { losses, unknown } = found;
    const details = losses.map(({ detail }) => detail);
    const doubt = unknown === undefined ? [] : [`of the account: unknown (${unknown})`];
    const advice = new Set(losses.map((loss) => loss.advice).filter((text) => text !== ''));
    const isNow = losses.some((loss) => loss.isNow);
    return {
      what,
      state: isNow ? 'failed' : advice.size > 0 ? 'warn' : 'ok',
      detail: [...(losses.length > 0 ? details : ['none loses messages']), ...doubt].join('; '),
      advice: [...advice].join(' '),
    };
  } catch (error) {
    return failed(what, error);
  }
}

function inWords({ messages, bytes: size, firstSequence, lastSequence, ...facts }: StreamFacts): string {
  const { subjects, sources, mirror, capture } = facts;
  const stored = storedPatterns(capture).join(', ');
  return [
    `${counted(messages, 'message')}, ${bytes(size)}, sequence ${firstSequence} to ${lastSequence}`,
    ...subjects,
    ...(mirror === undefined ? [] : [`mirror of ${mirror.origin}, ${counted(mirror.lag, 'message')} behind`]),
    ...(sources.length > 0 ? [`from ${sources.join(' and ')}`] : []),
    ...(stored === subjects.join(', ') ? [] : [`stored as ${stored}`]),
  ].join(', ');
}

function remarks({ name, capture, removesEarly }: StreamFacts, { metricsSubjects }: CoreConfig): string[] {
  const { message, advice } = EARLY_REMOVAL;
  return [
    ...(removesEarly.length > 0 ? [`By ${removesEarly.join(', ')}, ${message}. ${advice}`] : []),
    ...(isDoubled(metricsSubjects, capture)
      ? [
          `The same message may reach this stream in two ways, and then counts twice. It shows as two messages with the same content, of which one has the header Nats-Stream-Source and the other has none, or that of another stream (nats stream view ${name}). If you find such, take away one of the two ways.`,
        ]
      : []),
  ];
}
