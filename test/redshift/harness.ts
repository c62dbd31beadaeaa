/**
 * What the conformance suite must know about the sink's tables, on PostgreSQL and on the double of Redshift alike.
 */
import type { Postgres } from '../../src/servers/postgres.ts';
import { makePoint, START } from '../conformance/points.ts';
import type { Harness } from '../conformance.ts';

export const WRONG_PASSWORD = 'wrong-pa55word';

const OLD_COLUMNS = `window_start timestamp NOT NULL, window_ms int NOT NULL, series_id char(32) NOT NULL,
  instance varchar(128) NOT NULL, name varchar(512) NOT NULL, type varchar(16) NOT NULL,
  dimensions varchar(65535) NOT NULL, count bigint NOT NULL, sum double precision NOT NULL`;

/** `server` is called only after it has started. The URL contains its password, and ends in the database. */
export function tablesOf(server: () => Postgres): Omit<Harness, 'start' | 'stop' | 'variables'> {
  return {
    wrongCredentials: (variables) => ({
      ...variables,
      URL: variables.URL!.replace(server().password, WRONG_PASSWORD),
    }),
    missing: (variables) => ({ ...variables, URL: variables.URL!.replace(/postgres$/, 'absent') }),
    async older(namespace) {
      const point = makePoint({ values: { count: 4, sum: 2.5 } });
      const time = new Date(START).toISOString();
      await server().execute(`CREATE TABLE ${namespace} (${OLD_COLUMNS});
        INSERT INTO ${namespace} VALUES ('${time}', 10000, '${point.series.id}', '', 'requests', 'counter', '{"app":"api"}', 4, 2.5)`);
      return [point];
    },
    async unusable(namespace) {
      const columns = OLD_COLUMNS.replace('sum double precision', 'sum text');
      await server().execute(`CREATE TABLE ${namespace} (${columns})`);
    },
    async drop(namespace) {
      await server().execute(`DROP TABLE ${namespace}`);
    },
    differs: {
      // Redshift's longest varchar has 65,535 bytes.
      refuses: ({ series }) => (Buffer.byteLength(series.dimensionsJson) > 65_535 ? 'too_large' : undefined),
    },
  };
}
