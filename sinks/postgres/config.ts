import {
  CA_FILE_MEANS,
  PG_TABLE,
  parsePgTable,
  pgTlsProblems,
  SKETCH_MEANS,
  SSL_MODES_MEAN,
  setting,
  type Values,
} from '../../src/sink/index.ts';

/** How the table is divided by time. */
export const PARTITIONING = ['off', 'day', 'week', 'month', 'hypertable'] as const;
export type Partitioning = (typeof PARTITIONING)[number];

export const settings = {
  url: setting.url(['postgres:', 'postgresql:'], {
    meaning: `postgres://user:password@host:5432/database; ${SSL_MODES_MEAN}`,
    required: true,
  }),
  table: setting.custom(parsePgTable, PG_TABLE, {
    meaning: 'the table, with its schema if that is not on the search path; created if it is missing',
    default: 'fanout_points',
  }),
  caFile: setting.text({ meaning: CA_FILE_MEANS }),
  sketch: setting.boolean({ meaning: SKETCH_MEANS, default: 'false' }),
  partition: setting.choice(PARTITIONING, {
    meaning:
      'partitions of the table, which are made ahead of the writes that need them; hypertable: one of TimescaleDB; ' +
      'decides how a missing table is created',
    default: 'off',
  }),
  keep: setting.duration({
    meaning: 'partitions that are older as a whole are dropped; without it, none is; needs PARTITION',
  }),
};

export type PostgresConfig = Values<typeof settings>;

const DAY_MS = 86_400_000;
/** The longest time that a partition spans. No shorter time is kept, so that a partition in use is never dropped. */
const SPANS_MS: Readonly<Record<Partitioning, number>> = {
  off: 0,
  day: DAY_MS,
  week: 7 * DAY_MS,
  month: 31 * DAY_MS,
  hypertable: DAY_MS,
};
/** Room in a name of 63 bytes for what `partitionOf` adds to the name of the table. */
const MAX_PARTITIONED_NAME = 53;

interface Problem {
  readonly key: keyof typeof settings;
  readonly expected: string;
}

export function validate(config: PostgresConfig): readonly Problem[] {
  const { partition, keep, table } = config;
  const problems: Problem[] = [...pgTlsProblems(config)];
  if (keep !== undefined && partition === 'off') {
    problems.push({ key: 'keep', expected: 'PARTITION, because only whole partitions are dropped' });
  } else if (keep !== undefined && keep < SPANS_MS[partition]) {
    problems.push({
      key: 'keep',
      expected: `at least ${SPANS_MS[partition] / DAY_MS}d with these partitions`,
    });
  }
  if (partition !== 'off' && table.split('.').at(-1)!.length > MAX_PARTITIONED_NAME) {
    problems.push({
      key: 'table',
      expected: `a name of at most ${MAX_PARTITIONED_NAME} bytes, for partitions`,
    });
  }
  return problems;
}
