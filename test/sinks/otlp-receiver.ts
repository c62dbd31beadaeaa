/**
 * A receiver of OTLP over HTTP. OpenTelemetry's own code, generated from the protocol's descriptors, decodes the
 * requests. They are kept by series, field and time, and `/read` returns them as points.
 */

import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { gunzipSync } from 'node:zlib';
import root from '@opentelemetry/otlp-transformer/build/src/generated/root.js';
import { ALL_FIELDS, type Field, METRIC_TYPES, type Series } from '../../src/aggregate/point.ts';
import { makeSeries } from '../../src/aggregate/series.ts';
import type { StoredPoint } from '../../src/sink/contract.ts';

/** The part of the generated code that is used here. It has no types. */
interface Generated {
  readonly ExportMetricsServiceRequest: { decode(bytes: Uint8Array): Request };
  readonly ExportMetricsServiceResponse: { encode(response: object): { finish(): Uint8Array } };
}

type Attributes = readonly { readonly key: string; readonly value: { readonly stringValue: string } }[];

interface Data {
  readonly dataPoints: readonly {
    /** A Long, as is asInt. */
    readonly startTimeUnixNano: object;
    readonly timeUnixNano: object;
    readonly asInt?: object | null;
    readonly asDouble?: number | null;
    readonly attributes: Attributes;
  }[];
}

interface Request {
  readonly resourceMetrics: readonly {
    readonly resource: { readonly attributes: Attributes };
    readonly scopeMetrics: readonly {
      readonly metrics: readonly {
        readonly name: string;
        readonly gauge?: Data | null;
        readonly sum?:
          | (Data & { readonly aggregationTemporality: number; readonly isMonotonic: boolean })
          | null;
      }[];
    }[];
  }[];
}

const { ExportMetricsServiceRequest, ExportMetricsServiceResponse } = (
  root as unknown as { opentelemetry: { proto: { collector: { metrics: { v1: Generated } } } } }
).opentelemetry.proto.collector.metrics.v1;
/** AGGREGATION_TEMPORALITY_DELTA. */
const DELTA = 1;

/** A data point, with what its metric says about it. */
export interface Received {
  readonly metric: string;
  readonly kind: 'gauge' | 'delta sum' | 'monotonic delta sum';
  readonly start: bigint;
  readonly time: bigint;
  readonly value: number;
  readonly isInteger: boolean;
  readonly attributes: Readonly<Record<string, string>>;
  readonly service: string;
}

export interface Answer {
  readonly status: number;
  readonly headers?: Record<string, string>;
  readonly body?: Uint8Array | string;
}

export interface Receiver {
  readonly url: string;
  readonly port: number;
  received(): readonly Received[];
  /** Of every request. */
  readonly requests: { readonly headers: IncomingMessage['headers']; readonly dataPoints: number }[];
  /** What to answer instead of keeping the data points; undefined keeps them. */
  answerWith(answer: (dataPoints: readonly Received[]) => Answer | undefined): void;
  stop(): Promise<void>;
}

export const KEY = 'the-key';

interface RowKey {
  readonly windowStart: number;
  readonly id: string;
  readonly instance: string;
}

export async function startReceiver(): Promise<Receiver> {
  /** By namespace: a parameter of the URL that only tests have. */
  const kept = new Map<string, Map<string, Received>>();
  const requests: Receiver['requests'] = [];
  let answer: (data: readonly Received[]) => Answer | undefined = () => undefined;
  const receive = async (incoming: IncomingMessage, outgoing: ServerResponse) => {
    const url = new URL(incoming.url ?? '/', 'http://receiver');
    const namespace = url.searchParams.get('namespace') ?? '';
    const rows = kept.get(namespace) ?? new Map<string, Received>();
    kept.set(namespace, rows);
    const body = Buffer.concat(await Array.fromAsync(incoming as AsyncIterable<Buffer>));
    const send = ({ status, headers = {}, body }: Answer) => outgoing.writeHead(status, headers).end(body);
    if (url.pathname === '/read') return send({ status: 200, body: JSON.stringify(pointsOf(rows.values())) });
    if (url.pathname === '/remove') {
      const gone = new Set((JSON.parse(body.toString()) as RowKey[]).map((key) => JSON.stringify(key)));
      for (const [key, data] of rows) if (gone.has(JSON.stringify(rowKey(data)))) rows.delete(key);
      return send({ status: 200 });
    }
    if (url.pathname !== '/v1/metrics') return send({ status: 404 });
    if (incoming.headers['api-key'] !== KEY) return send({ status: 401, body: 'no such key' });
    const data = decode(incoming.headers['content-encoding'] === 'gzip' ? gunzipSync(body) : body);
    requests.push({ headers: incoming.headers, dataPoints: data.length });
    const other = answer(data);
    if (other !== undefined) return send(other);
    for (const one of data) rows.set(`${JSON.stringify(rowKey(one))} ${one.metric}`, one);
    const headers = { 'content-type': 'application/x-protobuf' };
    return send({ status: 200, headers, body: ExportMetricsServiceResponse.encode({}).finish() });
  };
  const server = createServer((incoming, outgoing) => {
    // A request that a fault cut short.
    receive(incoming, outgoing).catch(() => incoming.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return {
    url: `http://127.0.0.1:${address.port}`,
    port: address.port,
    requests,
    received: () => [...kept.values()].flatMap((rows) => [...rows.values()]),
    answerWith(change) {
      answer = change;
    },
    async stop() {
      server.close();
      server.closeAllConnections();
    },
  };
}

/** The answer that says partial success. */
export function partialSuccess(rejectedDataPoints: number, errorMessage: string): Answer {
  const body = ExportMetricsServiceResponse.encode({ partialSuccess: { rejectedDataPoints, errorMessage } });
  return { status: 200, headers: { 'content-type': 'application/x-protobuf' }, body: body.finish() };
}

function decode(body: Uint8Array): Received[] {
  const { resourceMetrics } = ExportMetricsServiceRequest.decode(body);
  return resourceMetrics.flatMap(({ resource, scopeMetrics }) => {
    const service = attributesOf(resource.attributes)['service.name'] ?? '';
    return scopeMetrics.flatMap(({ metrics }) =>
      metrics.flatMap((metric) => {
        const { sum } = metric;
        if (sum && sum.aggregationTemporality !== DELTA) throw new Error('not delta');
        const kind = sum ? (sum.isMonotonic ? 'monotonic delta sum' : 'delta sum') : 'gauge';
        return (sum ?? metric.gauge)!.dataPoints.map((point) => ({
          metric: metric.name,
          kind: kind as Received['kind'],
          start: BigInt(String(point.startTimeUnixNano)),
          time: BigInt(String(point.timeUnixNano)),
          value: point.asInt == null ? point.asDouble! : Number(point.asInt),
          isInteger: point.asInt != null,
          attributes: attributesOf(point.attributes),
          service,
        }));
      }),
    );
  });
}

function attributesOf(list: Attributes): Record<string, string> {
  return Object.fromEntries(list.map(({ key, value }) => [key, value.stringValue]));
}

function unescapeText(text: string): string {
  return text.replace(/%(?:u([0-9A-F]{4})|([0-9A-F]{2}))/g, (_, half?: string, code?: string) =>
    String.fromCharCode(Number.parseInt(half ?? code!, 16)),
  );
}

function fieldOf({ metric }: Received): Field {
  return ALL_FIELDS.find((field) => metric.endsWith(`.${field}`))!;
}

const known = new Map<string, Series>();

function seriesOf(data: Received): Series {
  const key = `${data.metric} ${JSON.stringify(data.attributes)}`;
  const series = known.get(key) ?? decodeSeries(data);
  known.set(key, series);
  return series;
}

function decodeSeries(data: Received): Series {
  const { metric_type: type, instance: _, ...rest } = data.attributes;
  const dimensions = Object.entries(rest).map(
    ([key, value]) => [unescapeText(key), unescapeText(value)] as const,
  );
  const name = unescapeText(data.metric.slice(0, -1 - fieldOf(data).length));
  return makeSeries(name, METRIC_TYPES.find((one) => one === type)!, dimensions);
}

function rowKey(data: Received): RowKey {
  const windowStart = Number(data.start / 1_000_000n);
  return { windowStart, id: seriesOf(data).id, instance: unescapeText(data.attributes.instance ?? '') };
}

function pointsOf(data: Iterable<Received>): StoredPoint[] {
  const points = new Map<string, StoredPoint>();
  const none = Object.fromEntries(ALL_FIELDS.map((field) => [field, null]));
  for (const one of data) {
    const { windowStart, instance } = rowKey(one);
    const key = JSON.stringify(rowKey(one));
    const point = points.get(key) ?? { ...none, series: seriesOf(one), windowStart, instance };
    points.set(key, { ...point, [fieldOf(one)]: one.value } as StoredPoint);
  }
  return [...points.values()];
}
