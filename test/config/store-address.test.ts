import { expect, test } from 'vitest';
import { loadConfig } from '../../src/config/config.ts';
import { storeAddress } from '../../src/config/store-address.ts';

const env = {
  SINK_POSTGRES_ENABLED: 'true',
  SINK_POSTGRES_URL: 'postgres://writer:geheim@db.example:5432/metrics?sslmode=require&password=geheim',
  SINK_INFLUXDB_ENABLED: 'true',
  SINK_INFLUXDB_URL: 'http://influx.example:8086',
  SINK_INFLUXDB_TOKEN: 'geheim',
  SINK_INFLUXDB_ORG: 'o',
  SINK_INFLUXDB_BUCKET: 'b',
  SINK_BLACKHOLE_ENABLED: 'true',
  SINK_SQLITE_ENABLED: 'true',
  SINK_SQLITE_PATH: '/data/fanout.db',
};

test('a store is where its settings say, without user, password and key', async () => {
  const { sinks } = await loadConfig(env);
  expect(Object.fromEntries(sinks.map((sink) => [sink.id, storeAddress(sink)]))).toEqual({
    postgres: 'postgres://***@db.example:5432/metrics?sslmode=require&password=***',
    influxdb: 'http://influx.example:8086',
    sqlite: '/data/fanout.db',
    blackhole: null,
  });
});
