/** A real Prometheus for the tests: one that scrapes targets, or one that accepts remote writes. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { RENDERED_MS } from '../observe/shared-rendering.ts';
import { freePort, type Server, startProcess, temporaryFolder } from './server-process.ts';

export interface Prometheus extends Server {
  /** The values of an instant query, in the order of their labels. */
  query(expression: string): Promise<number[]>;
  /** Resolves when a scrape of every target has been stored that shows what was there at the call. */
  untilScraped(): Promise<void>;
}

const SCRAPE_INTERVAL_MS = 500;
const SCRAPE_TIMEOUT_MS = 300_000;

interface Answer {
  readonly error?: string;
  readonly data?: { readonly result: { readonly metric: object; readonly value: [number, string] }[] };
}

/** Starts the server of Debian's package `prometheus`. `rules`: a file with rules for it to evaluate. */
export async function startPrometheus(targets: readonly string[], rules?: string): Promise<Prometheus> {
  const hosts = targets.map((target) => new URL(target).host);
  const interval = `${SCRAPE_INTERVAL_MS}ms`;
  const server = await start({
    global: { scrape_interval: interval, evaluation_interval: interval },
    scrape_configs: [{ job_name: 'metrics-fanout', static_configs: [{ targets: hosts }] }],
    ...(rules === undefined ? {} : { rule_files: [rules] }),
  });
  const { url } = server;
  const results = async (expression: string) => {
    const response = await fetch(`${url}/api/v1/query?${new URLSearchParams({ query: expression })}`);
    const { data, error } = (await response.json()) as Answer;
    if (data === undefined) throw new Error(`${expression}: ${error}`);
    const key = (metric: object) => JSON.stringify(metric);
    return data.result.sort((a, b) => (key(a.metric) < key(b.metric) ? -1 : 1));
  };
  return {
    ...server,
    query: async (expression) => (await results(expression)).map(({ value }) => Number(value[1])),
    async untilScraped() {
      // A scrape may be of what was rendered before.
      const after = (Date.now() + RENDERED_MS) / 1000;
      for (
        const deadline = Date.now() + SCRAPE_TIMEOUT_MS;
        Date.now() < deadline;
        await sleep(SCRAPE_INTERVAL_MS)
      ) {
        const newest = await results('timestamp(fanout_messages_received_total)');
        if (newest.length === hosts.length && newest.every(({ value }) => Number(value[1]) > after)) return;
      }
      throw new Error('Prometheus did not scrape in time');
    },
  };
}

export interface ReceiverOptions {
  /** How much older than the newest sample others may be (`5m`); without it, no sample may be older. */
  readonly outOfOrder?: string;
  /** Added to those that make it a receiver. */
  readonly flags?: readonly string[];
}

/** Starts a real Prometheus that accepts remote writes. */
export async function startPrometheusReceiver({ outOfOrder, flags = [] }: ReceiverOptions): Promise<Server> {
  const storage =
    outOfOrder === undefined ? {} : { storage: { tsdb: { out_of_order_time_window: outOfOrder } } };
  return await start(storage, ['--web.enable-remote-write-receiver', ...flags]);
}

async function start(settings: object, flags: readonly string[] = []): Promise<Server> {
  const folder = temporaryFolder('prometheus');
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const config = join(folder.path, 'prometheus.yml');
  // JSON is YAML.
  writeFileSync(config, JSON.stringify(settings));
  const args = [`--config.file=${config}`, `--storage.tsdb.path=${folder.path}/data`, ...flags];
  const ready = async () => (await fetch(`${url}/-/ready`)).ok;
  const server = await startProcess('prometheus', [...args, `--web.listen-address=127.0.0.1:${port}`], ready);
  const stop = async () => {
    // At once, because nobody needs the data.
    await server.stop('SIGKILL');
    folder.remove();
  };
  return { url, port, stop };
}
