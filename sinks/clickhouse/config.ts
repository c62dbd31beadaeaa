import { setting, type Values } from '../../src/sink/index.ts';

const TABLE = /^[A-Za-z_][A-Za-z0-9_]{0,100}$/;

export const settings = {
  url: setting.httpUrl({ meaning: 'the HTTP interface, such as http://clickhouse:8123', required: true }),
  database: setting.text({ meaning: 'the database', default: 'default' }),
  table: setting.custom((text) => (TABLE.test(text) ? text : undefined), 'a name: letters, digits and _', {
    meaning: 'the table; made if it is missing',
    default: 'fanout_points',
  }),
  user: setting.text({ meaning: 'the user', default: 'default' }),
  password: setting.secret({ meaning: 'its password' }),
};

export type Config = Values<typeof settings>;

export function validate({ url, user }: Config): { key: keyof Config; expected: string }[] {
  const { username, password, pathname, search } = new URL(url);
  const problems: { key: keyof Config; expected: string }[] = [];
  if (username !== '' || password !== '' || pathname !== '/' || search !== '') {
    problems.push({ key: 'url', expected: 'scheme, host and port; all else has settings of its own' });
  }
  if (user.includes(':')) problems.push({ key: 'user', expected: 'a name without a colon' });
  return problems;
}
