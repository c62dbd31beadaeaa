/** All kinds of hostility, by name. */
import arrays from './arrays.ts';
import beyond from './beyond.ts';
import clocks from './clocks.ts';
import duplicates from './duplicates.ts';
import garbage from './garbage.ts';
import { hosts, pipelining, reconnecting, slow, tokens } from './http.ts';
import type { Kind } from './kind.ts';
import lineProtocol from './line-protocol.ts';
import newSeries from './new-series.ts';
import rejected from './rejected.ts';
import replies from './replies.ts';
import { apps, operator, viewer } from './requests.ts';
import similar from './similar.ts';
import statsd from './statsd.ts';
import still from './still.ts';
import tap from './tap.ts';

export const KINDS: Readonly<Record<string, Kind>> = {
  'new-series': newSeries,
  arrays,
  rejected,
  'line-protocol': lineProtocol,
  similar,
  statsd,
  garbage,
  clocks,
  duplicates,
  replies,
  viewer,
  operator,
  apps,
  tap,
  pipelining,
  slow,
  reconnecting,
  hosts,
  tokens,
  still,
  beyond,
};

/** Those that are to be survived together. */
export const STANDARD_KINDS = Object.keys(KINDS).filter((name) => !KINDS[name]!.isExtra);
