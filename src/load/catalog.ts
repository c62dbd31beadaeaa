/** The series that `load` sends: realistic names, dimensions and kinds of values. Pure. */
import type { MetricType } from '../aggregate/point.ts';

export type DimensionValue = string | number | boolean;

/** How the values of a series are drawn; see `drawValue`. */
export type ValueShape =
  | { readonly kind: 'events' }
  | { readonly kind: 'level'; readonly median: number; readonly sigma: number }
  | { readonly kind: 'uniform'; readonly low: number; readonly high: number; readonly decimals: number };

export interface CatalogSeries {
  readonly name: string;
  readonly type: MetricType;
  readonly dimensions: Readonly<Record<string, DimensionValue>>;
  readonly shape: ValueShape;
}

interface Template {
  readonly name: string;
  readonly shape: ValueShape;
  /** Every combination is a series. `host` is added to each, with as many hosts as needed. */
  readonly axes: Readonly<Record<string, readonly DimensionValue[]>>;
}

const app = ['api', 'checkout', 'search', 'accounts', 'catalog', 'billing', 'mailer', 'gateway'];
const env = ['prod', 'staging'];
const region = ['eu-central-1', 'us-east-1', 'ap-southeast-2'];
const method = ['GET', 'POST', 'PUT', 'DELETE'];
// Routes are written with the characters that Go escapes (<, >, &).
const route = [
  '/login',
  '/users/<id>',
  '/orders/<id>/items',
  '/search?q=<term>&page=<n>',
  '/health',
  '/cart',
];
const status = [200, 404, 201, 500, 302, 503];
const queue = ['orders', 'emails', 'thumbnails', 'überweisungen'];
const table = ['users', 'orders', 'order_items', 'sessions'];
const events = { kind: 'events' } as const;

/** This many hosts are used before the other dimensions vary; more are added when all combinations are used up. */
const HOSTS_NEAR = 4;
/**
 * The step through the combinations, chosen so that even a few series differ in all dimensions. A prime, so it meets
 * each combination once.
 */
const STRIDE = 7919;
const MICROSECOND_NS = 1_000;
const MILLISECOND_NS = 1_000_000;

function duration(medianNs: number): ValueShape {
  return { kind: 'level', median: medianNs, sigma: 0.9 };
}

/** Kinds of dimension values: strings, numbers (status, shard), booleans (hit). */
const TEMPLATES: Readonly<Record<MetricType, readonly Template[]>> = {
  counter: [
    { name: 'http.requests', shape: events, axes: { status, method, app, route, region, env } },
    { name: 'http.errors', shape: events, axes: { app, route, status: [500, 502, 503, 504], region, env } },
    {
      name: 'cache.lookups',
      shape: events,
      axes: { hit: [true, false], app, shard: [0, 1, 2, 3], region, env },
    },
    { name: 'queue.published', shape: events, axes: { queue, app, region, env } },
    { name: 'auth.logins', shape: events, axes: { provider: ['password', 'oidc', 'sso'], app, region, env } },
  ],
  gauge: [
    {
      name: 'queue.depth',
      shape: { kind: 'level', median: 40, sigma: 1.2 },
      axes: { queue, app, region, env },
    },
    {
      name: 'cpu.utilization',
      shape: { kind: 'uniform', low: 0, high: 1, decimals: 4 },
      axes: { app, cpu: [0, 1, 2, 3], region, env },
    },
    {
      name: 'memory.used.bytes',
      shape: { kind: 'level', median: 600_000_000, sigma: 0.4 },
      axes: { app, region, env },
    },
    {
      name: 'clock.offset.ms',
      shape: { kind: 'uniform', low: -5, high: 5, decimals: 3 },
      axes: { app, region, env },
    },
  ],
  timer: [
    {
      name: 'http.request.duration',
      shape: duration(18 * MILLISECOND_NS),
      axes: { method, route, app, region, env },
    },
    {
      name: 'db.query.duration',
      shape: duration(2 * MILLISECOND_NS),
      axes: { table, app, shard: [0, 1], region, env },
    },
    { name: 'cache.get.duration', shape: duration(180 * MICROSECOND_NS), axes: { app, region, env } },
    { name: 'job.duration', shape: duration(2_500 * MILLISECOND_NS), axes: { queue, app, region, env } },
  ],
};

/** Returns the series with this number among those of its type. Different numbers give different series. */
export function catalogSeries(type: MetricType, number: number): CatalogSeries {
  const templates = TEMPLATES[type];
  const { name, shape, axes } = templates[number % templates.length]!;
  const among = Math.floor(number / templates.length);
  const near = among % HOSTS_NEAR;
  const lists = Object.entries(axes);
  const combinations = lists.reduce((product, [, values]) => product * values.length, 1);
  const further = Math.floor(among / HOSTS_NEAR);
  let rest = ((further % combinations) * STRIDE) % combinations;
  const dimensions: Record<string, DimensionValue> = {};
  for (const [key, values] of lists) {
    dimensions[key] = values[rest % values.length]!;
    rest = Math.floor(rest / values.length);
  }
  const host = Math.floor(further / combinations) * HOSTS_NEAR + near;
  dimensions.host = `ip-10-${(host >> 16) & 255}-${(host >> 8) & 255}-${host & 255}`;
  return { name, type, dimensions, shape };
}

const GO_ESCAPES: Readonly<Record<string, string>> = {
  '<': '\\u003c',
  '>': '\\u003e',
  '&': '\\u0026',
  '\u2028': '\\u2028',
  '\u2029': '\\u2029',
};

/** Returns a string as Go's encoding/json writes it. */
export function goString(text: string): string {
  return JSON.stringify(text.toWellFormed()).replace(
    /[<>&\u2028\u2029]/g,
    (character) => GO_ESCAPES[character]!,
  );
}

/**
 * Returns dimensions as Go's encoding/json writes a map: with sorted keys. (Go sorts by bytes; ours are ASCII, which
 * JavaScript sorts the same way.)
 */
export function goDimensions(dimensions: Readonly<Record<string, DimensionValue>>): string {
  const members = Object.keys(dimensions)
    .sort()
    .map((key) => {
      const value = dimensions[key]!;
      return `${goString(key)}:${typeof value === 'string' ? goString(value) : String(value)}`;
    });
  return `{${members.join(',')}}`;
}
