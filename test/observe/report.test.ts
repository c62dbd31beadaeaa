import { afterAll, beforeAll, expect, test } from 'vitest';
import { Recording } from '../../src/observe/report.ts';
import type { Status } from '../../src/observe/status.ts';
import { type NatsServer, startNats } from '../../src/servers/nats.ts';
import { startServiceProgram } from '../../src/servers/service-program.ts';

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
