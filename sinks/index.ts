import type { SinkModule } from '../src/sink/contract.ts';

/** The sinks by kind. A new sink is a folder, a test file and one line here. A module is loaded only when needed. */
export const SINKS: Readonly<Record<string, () => Promise<SinkModule>>> = {
  blackhole: async () => (await import('./blackhole/sink.ts')).default,
  clickhouse: async () => (await import('./clickhouse/sink.ts')).default,
  dynamodb: async () => (await import('./dynamodb/sink.ts')).default,
  influxdb: async () => (await import('./influxdb/sink.ts')).default,
  nats: async () => (await import('./nats/sink.ts')).default,
  otlp: async () => (await import('./otlp/sink.ts')).default,
  parquet: async () => (await import('./parquet/sink.ts')).default,
  postgres: async () => (await import('./postgres/sink.ts')).default,
  prometheus: async () => (await import('./prometheus/sink.ts')).default,
  redshift: async () => (await import('./redshift/sink.ts')).default,
  sqlite: async () => (await import('./sqlite/sink.ts')).default,
};

/** The sink that runs if none is enabled: it needs only a file. */
export const DEFAULT_SINK = 'sqlite';
