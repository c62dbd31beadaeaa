/** What a siege has shown, and which of the bars it met. */
import { renderTable } from '../../src/commands/terminal/table.ts';
import { describeDifference, isEqual } from '../../src/verify/rows.ts';
import type { Counts } from './counts.ts';
import { KINDS } from './kinds/index.ts';
import type { SiegeReport } from './siege.ts';

/** What is asked of the service: docs/security.md. */
const MAX_RESIDENT_MB = 512;
const MAX_HEALTHZ_P99_MS = 100;
/** Of the time that the main thread had to wait for a processor: with more, the times are those of the machine. */
const MAX_WAITED_SHARE = 0.2;
/** Less of the honest rate would be another siege. */
const LEAST_SHARE_OF_RATE = 0.95;

export interface Bar {
  readonly what: string;
  readonly value: string;
  readonly wanted: string;
  readonly isMet: boolean;
}

const count = (value: number) => value.toLocaleString('en-US', { maximumFractionDigits: 0 });
const ms = (value: number) => `${value.toFixed(value < 10 ? 1 : 0)} ms`;
const sum = (counts: Counts) => Object.values(counts).reduce((a, b) => a + b, 0);

const none = (what: string, value: number): Bar => ({
  what,
  value: count(value),
  wanted: '0',
  isMet: value === 0,
});

/** Those of correctness do not depend on the machine; the others do. */
export function correctness(report: SiegeReport): Bar[] {
  const { honest, stores, verify, unaccounted, changes, kinds } = report;
  const wrong = Object.values(kinds).reduce((all, outcome) => all + sum(outcome.wrong), 0);
  return [
    none('honest series of which the stream does not hold what was sent', honest.differing),
    ...Object.entries(stores).map(([id, { honest: rows }]): Bar => {
      const isMet = isEqual(rows) && rows.points === honest.rows && honest.rows > 0;
      return {
        what: `honest rows in ${id}, equal to the last bit`,
        value: count(rows.equal),
        wanted: count(honest.rows),
        isMet,
      };
    }),
    {
      what: 'verify: all rows of all series are equal in both stores',
      value: verify === undefined ? 'no answer' : verify.equal ? 'yes' : 'no',
      wanted: 'yes',
      isMet: verify?.equal === true,
    },
    none('counts that differ from what was sent', unaccounted.length),
    none('changes of what belongs to others', changes.length),
    none('answers over HTTP that should have been refusals', wrong),
  ];
}

export function speed({ honest, memory, health }: SiegeReport): Bar[] {
  const { perSecond, wantedPerSecond } = honest;
  const megabytes = memory.most / 1e6;
  const { p99 } = health['/healthz'];
  const failures = Object.values(health).reduce((all, route) => all + route.failures, 0);
  return [
    {
      what: 'honest messages a second, as sent',
      value: count(perSecond),
      wanted: `>= ${count(wantedPerSecond * LEAST_SHARE_OF_RATE)}`,
      isMet: perSecond >= wantedPerSecond * LEAST_SHARE_OF_RATE,
    },
    {
      what: 'memory of the service at most, MB',
      value: count(megabytes),
      wanted: `<= ${MAX_RESIDENT_MB}`,
      isMet: megabytes <= MAX_RESIDENT_MB,
    },
    {
      what: '/healthz, p99',
      value: ms(p99),
      wanted: `<= ${ms(MAX_HEALTHZ_P99_MS)}`,
      isMet: p99 <= MAX_HEALTHZ_P99_MS,
    },
    none('requests for health without an answer in time', failures),
  ];
}

export function renderReport(report: SiegeReport): string {
  const { honest, kinds, health, busy, lag, counts, stores } = report;
  const bars = [...correctness(report), ...speed(report)];
  const hostile = Object.entries(kinds).map(([name, { done, refused }]) => [
    name,
    count(done),
    refused > 0 ? count(refused) : '',
    KINDS[name]!.tries,
  ]);
  const routes = Object.entries(health).map(([route, { asked, failures, p50, p99, most }]) => [
    route === 'idle' ? 'a server with nothing to do' : route,
    count(asked),
    count(failures),
    ...[p50, p99, most].map((each) => each.toFixed(1)),
  ]);
  const rows = bars.map(({ what, value, wanted, isMet }) => [what, value, wanted, isMet ? 'met' : 'MISSED']);
  return [
    `${report.seconds} s, ${count(honest.messages)} honest messages, ${count(counts.messages! - honest.messages)} hostile ones:`,
    '',
    renderTable(['kind', 'done', 'refused', 'tries'], hostile),
    '',
    renderTable(['health', 'asked', 'failures', 'p50 ms', 'p99 ms', 'most ms'], routes),
    '',
    `processors: the service ${busy.service.process.toFixed(2)} (its main thread ${busy.service.mainThread.toFixed(2)}, which waited for one for ${(100 * busy.service.mainThreadWaited).toFixed(0)} % of the time), ` +
      `the honest producer ${busy.producer.toFixed(2)}, hostile users ${busy.attackers.toFixed(2)}`,
    `the service was ${lag.mostSeconds.toFixed(1)} s and ${count(lag.mostPending)} messages behind at most, was done ${lag.confirmedSeconds.toFixed(1)} s after the end, ` +
      `and had ${count(report.memory.end / 1e6)} MB then`,
    `requests to control that were ignored: ${count(report.refusedRequests)}`,
    ...Object.entries(stores).map(
      ([id, store]) =>
        `${id}: ${count(store.rows)} rows, ${count(store.samples)} samples; of the honest ones ${count(store.folded)} folded`,
    ),
    '',
    renderTable(['', 'value', 'wanted', ''], rows),
    ...(busy.service.mainThreadWaited > MAX_WAITED_SHARE
      ? [
          'The service often had to wait for a processor: these times say more about the machine than about it.',
        ]
      : []),
    ...details(report),
  ].join('\n');
}

function details({ unaccounted, changes, kinds, stores, verify }: SiegeReport): string[] {
  const wrong = Object.values(kinds).flatMap((outcome) => Object.keys(outcome.wrong));
  const examples = Object.entries(stores).flatMap(([id, { honest }]) =>
    honest.examples.map((example) => `${id}: ${describeDifference(example)}`),
  );
  const verified = verify?.sinks.flatMap(({ sink, rows, windows, remarks }) =>
    verify.equal ? [] : [`verify, ${sink}: ${JSON.stringify({ windows, rows, remarks })}`],
  );
  const found = [...unaccounted, ...changes, ...wrong, ...examples, ...(verified ?? [])];
  return found.length === 0 ? [] : ['', ...found.map((line) => `  ${line.slice(0, 300)}`)];
}
