import { afterAll, beforeAll, expect, test } from 'vitest';
import { Recording } from '../../src/observe/report.ts';
import type { Status } from '../../src/observe/status.ts';
import { type NatsServer, startNats } from '../../src/servers/nats.ts';
import { startServiceProgram } from '../../src/servers/service-program.ts';
import { sinkStatus, statusOf } from './parts.ts';

let nats: NatsServer;
let status: Status;
beforeAll(async () => {
  nats = await startNats();
  const service = await startServiceProgram({ NATS_URL: nats.url, SINK_BLACKHOLE_ENABLED: 'true' });
  status = await service.status();
  await service.stop();
});
afterAll(async () => void (await nats?.stop()));

/** What the service would report this many seconds later, with this many points. */
function later(seconds: number, written: number): Status {
  const now = new Date(Date.parse(status.now) + 1000 * seconds).toISOString();
  const retries = { timeout: written / 100 };
  const sinks = status.sinks.map((sink) => ({ ...sink, written, writtenBytes: 1000 * written, retries }));
  return { ...status, now, sinks };
}

test('the totals continue after a restart of the service', () => {
  const recording = new Recording('http://h:1', later(0, 1000));
  for (const [seconds, written] of [
    [2, 1500],
    [4, 200],
    [10, 700],
  ] as const)
    recording.add(later(seconds, written));
  const [, json] = /<script type="application\/json" id="report">(.*?)<\/script>/.exec(recording.html())!;
  const rows: { what: string; cells: { text: string }[] }[] = JSON.parse(json!).view.comparison.rows;
  const texts = rows.filter(({ what }) => what.endsWith(', overall'));
  expect(Object.fromEntries(texts.map(({ what, cells }) => [what, cells[0]!.text]))).toMatchObject({
    'points, overall': '1,200',
    'points per second, overall': '120/s',
    'bytes, overall': '1.2 MB',
    'retries, overall': '12',
  });
});

test('it says how long a store was down, and shows nothing of a store that took no write', () => {
  const [sink] = status.sinks;
  const writeSeconds = { p50: 0.1, p90: 0.2, p99: 0.3 };
  const at = (seconds: number, up: boolean, ofB: number | null): Status => ({
    ...later(seconds, 0),
    sinks: [
      { ...sink!, id: 'a', up, writeSeconds: up ? writeSeconds : null, lateSeconds: seconds },
      { ...sink!, id: 'b', up: true, writeSeconds: ofB === null ? null : { ...writeSeconds, p99: ofB } },
    ],
  });
  const recording = new Recording('http://h:1', at(0, true, null));
  for (const [seconds, up] of [
    [2, false],
    [4, false],
    [6, true],
  ] as const)
    recording.add(at(seconds, up, null));
  const cells = (of: Recording) => {
    const [, json] = /<script type="application\/json" id="report">(.*?)<\/script>/.exec(of.html())!;
    const { view } = JSON.parse(json!);
    const all: { what: string; cells: { text: string; factor?: string }[] }[] = view.comparison.rows;
    return Object.fromEntries(
      all.map(({ what, cells }) => [what, cells.map(({ text, factor = '' }) => `${text} ${factor}`.trim())]),
    );
  };
  expect(cells(recording)).toMatchObject({
    'down, overall': ['50 %', '0 %'],
    'highest write p99, overall': ['300 ms', '–'],
    'highest lag beyond WINDOW + LATENESS, overall': ['6 s', '< 1 ms'],
  });
  recording.add(at(8, true, 0.9));
  expect(cells(recording)['highest write p99, overall']).toEqual(['300 ms', '900 ms 3.0×']);
});

test('totals of a sink that gets other names are not compared', async () => {
  const of = (names: readonly string[] | null, p99: number) =>
    sinkStatus({ id: `${p99}`, names, writeSeconds: { p50: p99, p90: p99, p99 } });
  const recording = new Recording('http://h:1', await statusOf([of(null, 2), of(['a'], 1), of(null, 4)]));
  const [, json] = /<script type="application\/json" id="report">(.*?)<\/script>/.exec(recording.html())!;
  const rows: { what: string; cells: { factor?: string; best?: boolean }[] }[] = JSON.parse(json!).view
    .comparison.rows;
  const of99 = rows.find(({ what }) => what === 'highest write p99, overall')!;
  expect(of99.cells.map(({ factor, best }) => factor ?? best)).toEqual([true, 'other names', '2.0×']);
});
