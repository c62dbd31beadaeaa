/** (h) Telegraf, if it is installed, doing the same job: reads JSON from NATS, aggregates, writes to InfluxDB. */

import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { spawnTied } from '../../src/base/tied-process.ts';
import { startInfluxDb } from '../../src/servers/influxdb.ts';
import { startNats } from '../../src/servers/nats.ts';
import { temporaryFolder } from '../../src/servers/server-process.ts';
import { startChild } from './children.ts';
import { cpuTimeOf, type Figure, figure } from './measure.ts';

const SUBJECT = 'bench';
const STARTED_MS = 3_000;
const DRAINED_MS = 3_000;

export interface TelegrafPlace {
  readonly subject: string;
  readonly source: 'core' | 'jetstream';
  readonly database: string;
}

export const telegrafConfiguration = (
  nats: string,
  influxdb: string,
  { subject, source, database }: TelegrafPlace,
) => `
[agent]
  interval = "10s"
  flush_interval = "10s"
  metric_batch_size = 5000
  metric_buffer_limit = 1000000
  omit_hostname = true
[[inputs.nats_consumer]]
  servers = ["${nats}"]
  ${source === 'core' ? 'subjects' : 'jetstream_subjects'} = ["${subject}"]
  max_undelivered_messages = 1000000
  pending_message_limit = 1000000
  pending_bytes_limit = 1000000000
  data_format = "json_v2"
  [[inputs.nats_consumer.json_v2]]
    measurement_name_path = "name"
    timestamp_path = "timestamp"
    timestamp_format = "rfc3339"
    [[inputs.nats_consumer.json_v2.field]]
      path = "value"
      type = "float"
${['app', 'host', 'route', 'status'].map((tag) => `    [[inputs.nats_consumer.json_v2.tag]]\n      path = "dimensions.${tag}"\n`).join('')}
[[aggregators.basicstats]]
  period = "10s"
  drop_original = true
  stats = ["count", "sum"]
[[outputs.influxdb]]
  urls = ["${influxdb}"]
  database = "${database}"
`;

export function isTelegrafHere(): boolean {
  try {
    execFileSync('telegraf', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

export async function measureTelegraf(rounds: number, messages: number, rate: number): Promise<Figure[]> {
  const nats = await startNats({ jetstream: false });
  const influxdb = await startInfluxDb();
  const folder = temporaryFolder('telegraf');
  const file = join(folder.path, 'telegraf.conf');
  const place = { subject: SUBJECT, source: 'core', database: 'telegraf' } as const;
  writeFileSync(file, telegrafConfiguration(nats.url, influxdb.url, place));
  const producer = await startChild('./producer.ts', [nats.url, '1000', 'counters']);
  const telegraf = spawnTied('telegraf', ['--config', file]);
  try {
    await sleep(STARTED_MS);
    const order = { subject: SUBJECT, messages, rate };
    await producer.ask(order);
    const costs: number[] = [];
    for (let round = 0; round < rounds; round++) {
      const before = cpuTimeOf(telegraf.pid!).process;
      await producer.ask(order);
      await sleep(DRAINED_MS);
      costs.push((cpuTimeOf(telegraf.pid!).process - before) / messages);
    }
    return [figure('h', 'Telegraf, the same job', 'ns/message', costs)];
  } finally {
    telegraf.kill('SIGKILL');
    await producer.stop();
    await Promise.all([nats.stop(), influxdb.stop()]);
    folder.remove();
  }
}
