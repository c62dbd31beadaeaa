/** What the benchmarks send: messages of about 150 bytes, as nats_metrics writes them. */
import { type Random, seededRandom } from '../../src/load/random.ts';

export const APPS = 20;
const ROUTES = 50;
const MAX_VALUE = 9;
/** RFC 3339 with nanoseconds. */
const TIMESTAMP_LENGTH = 30;

export type Mix = 'counters' | 'all types';

/** Counters only, or a gauge and a timer for every eight counters. */
function typeOf(series: number, mix: Mix): string {
  if (mix === 'counters' || series % 10 < 8) return 'counter';
  return series % 10 === 8 ? 'gauge' : 'timer';
}

function renderSeries(series: number, mix: Mix): { head: Buffer; middle: Buffer } {
  const app = series % APPS;
  const route = Math.floor(series / APPS) % ROUTES;
  const host = Math.floor(series / APPS / ROUTES);
  return {
    head: Buffer.from(`{"name":"http.requests","type":"${typeOf(series, mix)}","value":`),
    middle: Buffer.from(
      `,"dimensions":{"app":"app-${app}","host":"h${host}","route":"/v1/r${route}","status":200},"timestamp":"`,
    ),
  };
}

/** Draws series at random, all equally often, so that no cache can guess the next. Deterministic. */
export class BenchMessages {
  readonly #rendered: readonly { head: Buffer; middle: Buffer }[];
  readonly #random: Random = seededRandom(1);
  /** Of the message that was written last. */
  lastSeries = 0;
  #written = 0;
  #second = -1;
  #prefix = '';

  constructor(series: number, mix: Mix = 'counters') {
    this.#rendered = Array.from({ length: series }, (_, i) => renderSeries(i, mix));
  }

  /** Writes the next message, as of `now` (ms since 1970), into `target` at `at`; returns where it ends. */
  write(target: Buffer, at: number, now: number): number {
    const index = this.#written++;
    this.lastSeries = Math.floor(this.#random() * this.#rendered.length);
    const { head, middle } = this.#rendered[this.lastSeries]!;
    let end = at + head.copy(target, at);
    target[end++] = 0x31 + (index % MAX_VALUE);
    end += middle.copy(target, end);
    end += target.write(this.#timestamp(now, index), end, 'latin1');
    return end + target.write('"}', end, 'latin1');
  }

  #timestamp(now: number, index: number): string {
    const second = Math.floor(now / 1000);
    if (second !== this.#second) {
      this.#second = second;
      this.#prefix = new Date(second * 1000).toISOString().slice(0, 20);
    }
    const nanos = (now - second * 1000) * 1_000_000 + (index % 1_000_000);
    return `${this.#prefix}${String(nanos).padStart(9, '0')}Z`.slice(-TIMESTAMP_LENGTH);
  }
}
