/** Reads back what a sender published and compares it with what was sent. */
import { makeSeries } from '../aggregate/series.ts';
import type { Clock } from '../base/clock.ts';
import type { Source } from '../bus/read/source.ts';
import type { MessageLabel, RawMessage } from '../decode/raw-message.ts';
import type { Truth, TruthRow } from '../verify/truth.ts';
import type { SentSeries } from './traffic.ts';

/** If no message came for this long, the stream is assumed to hold no more, even if messages are missing. */
const IDLE_MS = 5_000;
/**
 * The same if the stream does hold more, or cannot be asked: the bus may be electing a leader, or the machine may be
 * busy.
 */
const STUCK_MS = 60_000;
const POLL_MS = 100;

/**
 * Adds the messages of `source` to `truth` until it has `expected` messages and none is pending, or until no more
 * arrive, because some may be lost: the caller compares.
 */
export async function readBack(source: Source, truth: Truth, expected: number, clock: Clock): Promise<void> {
  const end = new AbortController();
  let lastMessage = clock.steady();
  const stopWhenDone = () => {
    if (truth.messages >= expected && source.stats.pending === 0) end.abort();
  };
  const stopWhenIdle = async () => {
    while (!end.signal.aborted) {
      await clock.sleep(POLL_MS, end.signal);
      const isAtEnd = source.stats.reading && source.stats.pending === 0;
      if (clock.steady() - lastMessage >= (isAtEnd ? IDLE_MS : STUCK_MS)) end.abort();
    }
  };
  const reader = {
    message({ bytes, start, end, streamTime }: RawMessage, label?: MessageLabel) {
      truth.add(bytes.subarray(start, end), streamTime, label?.subject);
      lastMessage = clock.steady();
    },
    progress: stopWhenDone,
  };
  const idle = stopWhenIdle();
  try {
    await source.run(reader, end.signal);
  } finally {
    end.abort();
    await idle;
  }
}

/** A series for which the stream does not hold what was sent. */
export interface SeriesDifference {
  readonly name: string;
  readonly dimensionsJson: string;
  readonly sent: Total;
  readonly held: Total;
}

/** Series by series: what one has too many makes up for nothing that another lacks. */
export function samplesAstray(differences: readonly SeriesDifference[]): { missing: number; extra: number } {
  const sum = (of: (each: SeriesDifference) => number) =>
    differences.reduce((all, each) => all + Math.max(0, of(each)), 0);
  return {
    missing: sum(({ sent, held }) => sent.count - held.count),
    extra: sum(({ sent, held }) => held.count - sent.count),
  };
}

interface Total {
  readonly count: number;
  readonly sum: number;
}

const NOTHING: Total = { count: 0, sum: 0 };

/**
 * Returns the series that differ. Both sums were added in the same order, so they must be equal to the last bit.
 * `held`: `Truth.totals()`.
 */
export function findDifferences(sent: Iterable<SentSeries>, held: Iterable<TruthRow>): SeriesDifference[] {
  const rows = new Map([...held].map((row) => [row.series.id, row]));
  const found: SeriesDifference[] = [];
  for (const { series, count, sum } of sent) {
    const dimensions = Object.entries(series.dimensions).map(([key, value]) => [key, String(value)] as const);
    const { id, name, dimensionsJson } = makeSeries(series.name, series.type, dimensions);
    const row = rows.get(id) ?? NOTHING;
    rows.delete(id);
    if (row.count === count && row.sum === sum) continue;
    found.push({ name, dimensionsJson, sent: { count, sum }, held: { count: row.count, sum: row.sum } });
  }
  for (const { series, count, sum } of rows.values()) {
    const { name, dimensionsJson } = series;
    found.push({ name, dimensionsJson, sent: NOTHING, held: { count, sum } });
  }
  return found;
}
