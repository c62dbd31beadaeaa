import { SKETCH_MEANS, setting, type Values } from '../../src/sink/index.ts';

const TABLE = /^[A-Za-z_][A-Za-z0-9_]{0,100}$/;

export const settings = {
  url: setting.httpUrl({
    meaning: 'URL of the HTTP interface, such as http://clickhouse:8123',
    required: true,
  }),
  database: setting.text({ meaning: 'the database, which must exist', default: 'default' }),
  table: setting.custom((text) => (TABLE.test(text) ? text : undefined), 'a name: letters, digits and _', {
    meaning: 'the table; created if it is missing',
    default: 'fanout_points',
  }),
  user: setting.text({ meaning: 'user to sign in as', default: 'default' }),
  password: setting.secret({ meaning: 'password of that user' }),
  sketch: setting.boolean({ meaning: SKETCH_MEANS, default: 'false' }),
  keep: setting.duration({
    meaning: 'partitions (one for each month) that are older as a whole are dropped; without it, none is',
  }),
};

export type Config = Values<typeof settings>;

const MONTH_MS = 31 * 86_400_000;

export function validate({ url, user, keep }: Config): { key: keyof Config; expected: string }[] {
  const { username, password, pathname, search } = new URL(url);
  const problems: { key: keyof Config; expected: string }[] = [];
  if (username !== '' || password !== '' || pathname !== '/' || search !== '') {
    problems.push({
      key: 'url',
      expected: 'only scheme, host and port, because the rest has settings of its own',
    });
  }
  if (user.includes(':')) problems.push({ key: 'user', expected: 'a name without a colon' });
  // A partition that is in use is never dropped.
  if (keep !== undefined && keep < MONTH_MS) problems.push({ key: 'keep', expected: 'at least 31d' });
  return problems;
}
