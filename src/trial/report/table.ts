/** The figures of a trial as rows of a table: the best of each row is marked, the others are a factor of it. Pure. */
import {
  amount,
  bytes,
  counted,
  dollars,
  milliseconds,
  NO_VALUE,
  perSecond,
  seconds,
} from '../../base/number-format.ts';
import { type AskedResult, MISSED_AFTER_MS, type StoreResult, type TrialResult } from '../result.ts';
import { askedQuestions, hotRunOf, VERDICT_CLIENTS } from '../verdict.ts';

export interface ReportCell {
  readonly text: string;
  /** Below the text: the factor, or more of it. */
  readonly note: string;
  readonly tone: 'best' | 'bad' | 'plain';
}

export interface ReportRow {
  readonly what: string;
  readonly cells: readonly ReportCell[];
}

export interface ReportGroup {
  readonly title: string;
  readonly rows: readonly ReportRow[];
}

const NOTHING: ReportCell = { text: NO_VALUE, note: '', tone: 'plain' };
/** Nearer to the best than this, a value is as good. */
const AS_GOOD = 1.05;

type Better = 'lower' | 'higher';

/** Returns a row of numbers. With `stores`, those that prove nothing are not compared. */
function row(
  what: string,
  better: Better,
  values: readonly (number | null | undefined)[],
  format: (value: number) => string,
  stores: readonly StoreResult[] = [],
): ReportRow {
  const isApart = (index: number) => stores[index]?.isReadable === false;
  const known = values.filter(
    (value, index): value is number => value != null && Number.isFinite(value) && !isApart(index),
  );
  const best = better === 'lower' ? Math.min(...known) : Math.max(...known);
  const cells = values.map((value, index): ReportCell => {
    if (value == null || !Number.isFinite(value)) return NOTHING;
    if (isApart(index)) return { text: format(value), note: 'not compared', tone: 'plain' };
    const factor = better === 'lower' ? value / best : best / value;
    const isBest = known.length > 1 && (value === best || factor < AS_GOOD);
    const note = isBest || known.length < 2 || !Number.isFinite(factor) ? '' : `${amount(factor)} times`;
    return { text: format(value), note: isBest ? 'best' : note, tone: isBest ? 'best' : 'plain' };
  });
  return { what, cells };
}

/** Of what is not a number, or not to be compared. */
function words(what: string, texts: readonly (string | null | undefined)[]): ReportRow {
  return { what, cells: texts.map((text) => (text == null ? NOTHING : { text, note: '', tone: 'plain' })) };
}

export function groupsOf(trial: TrialResult): ReportGroup[] {
  const { stores } = trial;
  const groups: readonly (ReportGroup | undefined)[] = [
    stores.some(({ ingest }) => ingest) ? ingestGroup(stores) : undefined,
    stores.some(({ backfill }) => backfill) ? backfillGroup(stores) : undefined,
    askedQuestions(trial).length > 0 ? questionsGroup(trial) : undefined,
    stores.some(({ freshness }) => freshness) ? freshnessGroup(stores) : undefined,
    stores.some(({ room }) => room) ? roomGroup(stores) : undefined,
    stores.some(({ money }) => money) ? moneyGroup(stores) : undefined,
    stores.some(({ proof }) => proof) ? proofGroup(stores) : undefined,
  ];
  return groups.filter((group) => group !== undefined);
}

function ingestGroup(stores: readonly StoreResult[]): ReportGroup {
  const best = stores.map(({ ingest }) => ingest?.rungs.find(({ writers }) => writers === ingest.writers));
  const ingests = stores.map(({ ingest }) => ingest);
  return {
    title: 'Ingest ceiling',
    rows: [
      row(
        'points a second',
        'higher',
        ingests.map((ingest) => ingest?.ceiling),
        perSecond,
        stores,
      ),
      words(
        'writers, after which it no longer grew',
        ingests.map((ingest) => ingest && String(ingest.writers)),
      ),
      row(
        'write p50',
        'lower',
        best.map((rung) => rung?.write.p50),
        milliseconds,
        stores,
      ),
      row(
        'write p99',
        'lower',
        best.map((rung) => rung?.write.p99),
        milliseconds,
        stores,
      ),
      row(
        'our processor time per point',
        'lower',
        best.map((rung) => rung?.cpuPerPoint),
        (us) => `${amount(us)} us`,
        stores,
      ),
      row(
        'points a second, all stores at once',
        'higher',
        ingests.map((ingest) => ingest?.together?.pointsPerSecond),
        perSecond,
        stores,
      ),
      words(
        'errors',
        ingests.map((ingest) => ingest && errorsOf(ingest.rungs.map(({ errors }) => errors))),
      ),
    ],
  };
}

function errorsOf(all: readonly Readonly<Record<string, number>>[]): string {
  const sums: Record<string, number> = {};
  for (const errors of all)
    for (const [reason, count] of Object.entries(errors)) sums[reason] = (sums[reason] ?? 0) + count;
  const parts = Object.entries(sums).map(
    ([reason, count]) => `${amount(count)} ${reason.replaceAll('_', ' ')}`,
  );
  return parts.length === 0 ? 'none' : parts.join(', ');
}

function backfillGroup(stores: readonly StoreResult[]): ReportGroup {
  const all = stores.map(({ backfill }) => backfill);
  return {
    title: 'Backfill',
    rows: [
      row(
        'an hour of this traffic',
        'lower',
        all.map((one) => one?.hourSeconds),
        seconds,
        stores,
      ),
      row(
        'a day of this traffic (computed)',
        'lower',
        all.map((one) => one?.daySeconds),
        seconds,
        stores,
      ),
    ],
  };
}

const askedOf = (store: StoreResult, id: string) =>
  store.questions.find((question) => question.id === id)?.asked;

/** Says why a question has no time with the clients of the verdict; undefined if it has one. */
export function withoutTime(asked: AskedResult | undefined): ReportCell | undefined {
  switch (asked?.kind) {
    case 'equal': {
      if (hotRunOf(asked) !== undefined) return undefined;
      const alone = hotRunOf(asked, 1);
      const note = alone === undefined ? '' : `alone ${milliseconds(alone.p50)}`;
      return { text: `too slow for ${VERDICT_CLIENTS} clients`, note, tone: 'plain' };
    }
    case 'different':
      return { text: `wrong: ${asked.difference}`, note: '', tone: 'bad' };
    case 'failed':
      return { text: `no answer: ${asked.why}`, note: '', tone: 'plain' };
    case 'not_asked':
    case undefined:
      // Its remarks say why.
      return { ...NOTHING, text: 'not asked' };
    default:
      return asked satisfies never;
  }
}

function questionsGroup(trial: TrialResult): ReportGroup {
  const { stores } = trial;
  return {
    title: 'Questions: p50 with 8 clients',
    rows: askedQuestions(trial).map(({ id, text }) => {
      const asked = stores.map((store) => askedOf(store, id));
      const timed = row(
        text,
        'lower',
        asked.map((one) => hotRunOf(one)?.p50),
        milliseconds,
      );
      return { what: text, cells: timed.cells.map((cell, index) => withoutTime(asked[index]) ?? cell) };
    }),
  };
}

/** Every time that was measured: a row for each question and number of clients. */
export function timesOf(trial: TrialResult): ReportGroup[] {
  const { stores } = trial;
  return askedQuestions(trial).map(({ id, text }) => {
    const asked = stores.map((store) => askedOf(store, id));
    const clients = [
      ...new Set(asked.flatMap((one) => (one?.kind === 'equal' ? one.hot.map((run) => run.clients) : []))),
    ];
    const cold = row(
      'cold',
      'lower',
      asked.map((one) => (one?.kind === 'equal' ? one.cold : null)),
      milliseconds,
    );
    const hot = clients.map((count) => {
      const runs = asked.map((one) =>
        one?.kind === 'equal' ? one.hot.find((run) => run.clients === count) : undefined,
      );
      const cells = row(
        '',
        'higher',
        runs.map((run) => run?.perSecond),
        (rate) => `${amount(rate)} answers/s`,
      ).cells;
      return {
        what: counted(count, 'client'),
        cells: cells.map((cell, index): ReportCell => {
          const run = runs[index];
          if (run === undefined) return cell;
          const latency = [run.p50, run.p95, run.p99].map(milliseconds).join(', ');
          return { text: latency, note: cell.text, tone: cell.tone };
        }),
      };
    });
    return { title: text, rows: [cold, ...hot] };
  });
}

/** A missed window took at least this long. */
export function waited(ms: number): string {
  return ms >= MISSED_AFTER_MS ? `> ${milliseconds(MISSED_AFTER_MS)}` : milliseconds(ms);
}

function missedRow(all: readonly StoreResult['freshness'][]): ReportRow {
  return {
    what: `windows not returned within ${milliseconds(MISSED_AFTER_MS)}`,
    cells: all.map((one): ReportCell => {
      if (one === null) return NOTHING;
      return { text: `${one.missed} of ${one.windows}`, note: '', tone: one.missed > 0 ? 'bad' : 'plain' };
    }),
  };
}

function freshnessGroup(stores: readonly StoreResult[]): ReportGroup {
  const all = stores.map(({ freshness }) => freshness);
  return {
    title: `Freshness: after the end of a window and LATENESS, of ${counted(Math.max(...all.map((one) => one?.windows ?? 0)), 'window')}`,
    rows: [
      row(
        'acknowledged, p95',
        'lower',
        all.map((one) => one?.acknowledged.p95),
        milliseconds,
      ),
      row(
        'returned by a query, p50',
        'lower',
        all.map((one) => one?.returned.p50),
        waited,
      ),
      row(
        'returned by a query, p95',
        'lower',
        all.map((one) => one?.returned.p95),
        waited,
      ),
      ...(all.some((one) => one && one.missed > 0) ? [missedRow(all)] : []),
    ],
  };
}

function roomGroup(stores: readonly StoreResult[]): ReportGroup {
  const all = stores.map(({ room }) => room);
  const MILLION = 1e6;
  return {
    title: 'Room',
    rows: [
      row(
        'a row',
        'lower',
        all.map((room) => room?.bytesPerRow),
        bytes,
      ),
      row(
        'a million points',
        'lower',
        all.map((room) => room?.bytesPerRow && MILLION * room.bytesPerRow),
        bytes,
      ),
      words(
        'before its own compaction',
        all.map((room) => (room?.bytes == null ? 'not told' : bytes(room.bytes))),
      ),
      words(
        'after it',
        all.map((room) => {
          if (room?.bytes == null) return 'not told';
          return room.bytesAfterCompaction === null
            ? 'cannot be asked for'
            : bytes(room.bytesAfterCompaction);
        }),
      ),
      words(
        'rows held',
        all.map((room) => room && amount(room.rows)),
      ),
    ],
  };
}

function moneyGroup(stores: readonly StoreResult[]): ReportGroup {
  const all = stores.map(({ money }) => money);
  return {
    title: 'Money (estimates: see the assumptions)',
    rows: [
      row(
        'a month at this rate',
        'lower',
        all.map((money) => money?.usdPerMonth),
        dollars,
      ),
      row(
        'a million points written',
        'lower',
        all.map((money) => money?.usdPerMillionPoints),
        dollars,
      ),
      row(
        'a million questions',
        'lower',
        all.map((money) => money?.usdPerMillionQuestions),
        dollars,
      ),
    ],
  };
}

function proofGroup(stores: readonly StoreResult[]): ReportGroup {
  const all = stores.map(({ proof }) => proof);
  return {
    title: 'Proof',
    rows: [
      words(
        'rows equal to the stream',
        all.map((proof) => proof && amount(proof.equal)),
      ),
      {
        what: 'rows missing, too many, different',
        cells: all.map((proof): ReportCell => {
          if (proof === null) return NOTHING;
          const counts = [proof.missing, proof.extra, proof.different];
          const isBad = counts.some((count) => count > 0);
          return { text: counts.map(amount).join(', '), note: '', tone: isBad ? 'bad' : 'plain' };
        }),
      },
    ],
  };
}
