/** A real Prometheus that scrapes one target, for the tests. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort, type Server, startProcess, temporaryFolder } from './process.ts';

export interface Prometheus extends Server {
  /** The values of an instant query, in the order of their labels. */
  query(expression: string): Promise<number[]>;
  /** Resolves when a scrape that began after the call has been stored. */
  untilScraped(): Promise<void>;
}

const SCRAPE_INTERVAL_MS = 500;
const SCRAPE_TIMEOUT_MS = 20_000;

interface Answer {
  readonly data: { readonly result: { readonly metric: object; readonly value: [number, string] }[] };
}

/** Debian's package `prometheus`. */
export async function startPrometheus(target: string): Promise<Prometheus> {
  const folder = temporaryFolder('prometheus');
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const config = join(folder.path, 'prometheus.yml');
  const job = { job_name: 'fanout', static_configs: [{ targets: [new URL(target).host] }] };
  // JSON is YAML.
  writeFileSync(
    config,
    JSON.stringify({ global: { scrape_interval: `${SCRAPE_INTERVAL_MS}ms` }, scrape_configs: [job] }),
  );
  const args = [`--config.file=${config}`, `--storage.tsdb.path=${folder.path}/data`];
  const ready = async () => (await fetch(`${url}/-/ready`)).ok;
  const server = await startProcess('prometheus', [...args, `--web.listen-address=127.0.0.1:${port}`], ready);
  const results = async (expression: string) => {
    const response = await fetch(`${url}/api/v1/query?${new URLSearchParams({ query: expression })}`);
    const { data } = (await response.json()) as Answer;
    const key = (metric: object) => JSON.stringify(metric);
    return data.result.sort((a, b) => (key(a.metric) < key(b.metric) ? -1 : 1));
  };
  return {
    url,
    port,
    query: async (expression) => (await results(expression)).map(({ value }) => Number(value[1])),
    async untilScraped() {
      const after = Date.now() / 1000;
      for (
        const deadline = Date.now() + SCRAPE_TIMEOUT_MS;
        Date.now() < deadline;
        await sleep(SCRAPE_INTERVAL_MS)
      ) {
        const [newest] = await results('timestamp(fanout_messages_received_total)');
        if (newest !== undefined && Number(newest.value[1]) > after) return;
      }
      throw new Error('Prometheus did not scrape in time');
    },
    async stop() {
      await server.stop();
      folder.remove();
    },
  };
}
