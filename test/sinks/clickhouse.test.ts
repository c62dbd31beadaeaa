import { type ClickHouse, startClickHouse } from '../../src/servers/clickhouse.ts';
import { makePoint, START } from '../conformance/points.ts';
import { describeConformance } from '../conformance.ts';

const USER = 'fanout';
const PASSWORD = "pa:ss'w<örd";

const OLD_COLUMNS = `window_start Int64, window_ms Int64, series_id String, instance String, name String, type String,
  dimension_keys Array(String), dimension_values Array(String), count Int64, sum Float64,
  time DateTime MATERIALIZED toDateTime(intDiv(window_start, 1000))`;

let server: ClickHouse;

describeConformance('clickhouse', {
  async start() {
    server = await startClickHouse({ user: USER, password: PASSWORD });
    return server.port;
  },
  stop: () => server.stop(),
  variables: (namespace, port) => ({
    URL: `http://127.0.0.1:${port}`,
    TABLE: namespace,
    USER,
    PASSWORD,
  }),
  secrets: [PASSWORD, Buffer.from(`${USER}:${PASSWORD}`).toString('base64')],
  wrongCredentials: (variables) => ({ ...variables, PASSWORD: 'another' }),
  missing: (variables) => ({ ...variables, DATABASE: 'absent' }),
  async older(namespace) {
    const point = makePoint({ values: { count: 4, sum: 2.5 } });
    await server.execute(
      `CREATE TABLE ${namespace} (${OLD_COLUMNS}) ENGINE = ReplacingMergeTree PARTITION BY toYYYYMM(time) ORDER BY (name, window_start, series_id, instance)`,
    );
    await server.execute(
      `INSERT INTO ${namespace} VALUES (${START}, 10000, '${point.series.id}', '', 'requests', 'counter', ['app'], ['api'], 4, 2.5)`,
    );
    return [point];
  },
  async unusable(namespace) {
    await server.execute(
      `CREATE TABLE ${namespace} (${OLD_COLUMNS}) ENGINE = MergeTree PARTITION BY toYYYYMM(time) ORDER BY (name, window_start)`,
    );
  },
  async drop(namespace) {
    await server.execute(`DROP TABLE ${namespace}`);
  },
});
