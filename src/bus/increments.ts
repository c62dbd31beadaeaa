/** Whether a stream takes the increments of counters, and whether the format of its messages fits that. */
import type { StreamConfig } from 'nats';
import type { CoreConfig } from '../config/core-settings.ts';
import { isNatsOlder } from './nats-version.ts';

/** From this version on, nats-server has streams of counters, and other streams refuse increments. */
const COUNTERS_SINCE = '2.12';

/**
 * `only`: it takes nothing else. `any`: the server is older, and does not know what an increment is. `copied`: nobody
 * publishes to it, and it copies whatever the other streams hold. `refused`: those that are published, not those that
 * it copies.
 */
export type Increments =
  | { readonly kind: 'only' | 'any' | 'copied' }
  | { readonly kind: 'refused'; readonly copies: boolean };

export interface IncrementsProblem {
  readonly detail: string;
  /** An imperative sentence; empty if there is nothing to do. */
  readonly advice: string;
  /** Nothing of what is published counts. */
  readonly isNow: boolean;
}

/** Servers before 2.11 do not say which version they are. A mirror can not be told to take only increments. */
export function incrementsOf(config: Partial<StreamConfig>): Increments {
  const { subjects = [], sources = [], metadata } = config;
  const { allow_msg_counter: isOnly } = config as { readonly allow_msg_counter?: boolean };
  if (!hasCounters(metadata?.['_nats.ver'])) return { kind: 'any' };
  if (isOnly) return { kind: 'only' };
  return subjects.length === 0 ? { kind: 'copied' } : { kind: 'refused', copies: sources.length > 0 };
}

export function hasCounters(serverVersion: string | undefined): boolean {
  return serverVersion !== undefined && !isNatsOlder(serverVersion, COUNTERS_SINCE);
}

export const NO_COUNTERS = `this nats-server has no streams of counters (${COUNTERS_SINCE} and newer have them): it checks no increment, and keeps no total`;

/** Undefined if the stream takes what METRICS_FORMAT says. */
export function incrementsProblem(
  increments: Increments,
  { metricsFormat }: Pick<CoreConfig, 'metricsFormat'>,
): IncrementsProblem | undefined {
  if (metricsFormat !== 'counter') return increments.kind === 'only' ? onlyIncrements() : undefined;
  switch (increments.kind) {
    case 'only':
    case 'copied':
      return undefined;
    case 'any':
      return { detail: NO_COUNTERS, advice: '', isNow: false };
    case 'refused':
      return noIncrements(increments.copies);
    default:
      return increments satisfies never;
  }
}

function onlyIncrements(): IncrementsProblem {
  return {
    detail: 'the stream takes increments of counters, and refuses all else (allow_msg_counter)',
    advice: 'Set METRICS_FORMAT to counter, or METRICS_STREAM to another stream.',
    isNow: true,
  };
}

function noIncrements(copies: boolean): IncrementsProblem {
  const others = copies ? '; it copies those of its sources' : '';
  return {
    detail: `the stream refuses every increment that is published on its subjects (it lacks allow_msg_counter)${others}`,
    advice:
      'No stream can be changed to take increments: set METRICS_STREAM to one that was made with allow_msg_counter: true, or remove this one, and the service makes it so.',
    isNow: !copies,
  };
}
