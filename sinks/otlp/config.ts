import { setting, type Values } from '../../src/sink/index.ts';

export const settings = {
  url: setting.httpUrl({
    meaning: 'the receiver, such as http://collector:4318; /v1/metrics is added where the path lacks it',
    required: true,
  }),
  headers: setting.headers({ meaning: 'sent with every request, such as api-key=SECRET' }),
  sums: setting.choice(['delta', 'gauge'], {
    meaning:
      'count and sum as sums of delta temporality, or as gauges, for stores that take no delta (Prometheus, Mimir, Grafana Cloud)',
    default: 'delta',
  }),
  service: setting.text({
    meaning: 'service.name of the resource that all metrics belong to',
    default: 'metrics-fanout',
  }),
};

export type Config = Values<typeof settings>;

const METRICS_PATH = '/v1/metrics';

/** The path and query of requests. */
export function targetOf({ url }: Config): string {
  const { pathname, search } = new URL(url);
  const path = pathname.replace(/\/+$/, '');
  return (path.endsWith(METRICS_PATH) ? path : path + METRICS_PATH) + search;
}
