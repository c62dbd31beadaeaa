import { setting, type Values } from '../../src/sink/index.ts';

export const settings = {
  url: setting.httpUrl({
    meaning: 'URL of the receiver, such as http://collector:4318; /v1/metrics is added if the path lacks it',
    required: true,
  }),
  headers: setting.headers({ meaning: 'headers to send with every request, such as api-key=SECRET' }),
  sums: setting.choice(['delta', 'gauge'], {
    meaning:
      'delta: count and sum are sums of delta temporality; gauge: they are gauges, for stores that do not accept delta (Prometheus, Mimir, Grafana Cloud)',
    default: 'delta',
  }),
  monotonic: setting.choice(['all', 'counters', 'none'], {
    meaning:
      'with SUMS=delta: which sums are said to be monotonic, whatever the sign of a value. all: of every type; counters: of counters and timers, not of gauges; none: of no type, if counters go down too. count always is',
    default: 'all',
  }),
  histograms: setting.boolean({
    meaning:
      'true: a timer is one exponential histogram of delta temporality with the name of the timer, in place of a metric for each of its fields; needs SUMS=delta',
    default: 'false',
  }),
  service: setting.text({
    meaning: 'service.name of the resource that all metrics belong to',
    default: 'metrics-fanout',
  }),
};

export type Config = Values<typeof settings>;

export function validate({ sums, histograms }: Config): { key: keyof Config; expected: string }[] {
  const isWrong = histograms && sums === 'gauge';
  return isWrong ? [{ key: 'histograms', expected: 'false, as SUMS=gauge allows no delta temporality' }] : [];
}

const METRICS_PATH = '/v1/metrics';

/** Returns the path and query of requests. */
export function targetOf({ url }: Config): string {
  const { pathname, search } = new URL(url);
  const path = pathname.replace(/\/+$/, '');
  return (path.endsWith(METRICS_PATH) ? path : path + METRICS_PATH) + search;
}
