import { setting, type Values } from '../../src/sink/index.ts';

export const settings = {
  url: setting.httpUrl({ meaning: 'the server, such as http://influxdb:8086', required: true }),
  api: setting.choice(['v2', 'v1'], {
    meaning: 'how to write: v2 serves InfluxDB 2, 3, Cloud and 1.8, v1 serves 1.x',
    default: 'v2',
  }),
  token: setting.secret({ meaning: 'v2: the token; on 1.8 user:password' }),
  org: setting.text({ meaning: 'v2: the organization; any text where the store has none' }),
  bucket: setting.text({ meaning: 'v2: the bucket; on 3 the database, on 1.8 database/retention-policy' }),
  database: setting.text({ meaning: 'v1: the database; made if it is missing and the user may' }),
  user: setting.text({ meaning: 'v1: the user, where the server asks for one' }),
  password: setting.secret({ meaning: "v1: the user's password" }),
};

export type Config = Values<typeof settings>;

interface Problem {
  readonly key: keyof Config;
  readonly expected: string;
}

/** What each API cannot do without. */
const NEEDED = {
  v1: ['database'],
  v2: ['token', 'org', 'bucket'],
} as const satisfies Record<Config['api'], readonly (keyof Config)[]>;

export function validate(config: Config): Problem[] {
  const problems: Problem[] = NEEDED[config.api]
    .filter((key) => config[key] === undefined)
    .map((key) => ({ key, expected: `${settings[key].expected}, which the ${config.api} API needs` }));
  if (config.api === 'v1' && (config.user === undefined) !== (config.password === undefined)) {
    problems.push({
      key: config.user === undefined ? 'user' : 'password',
      expected: 'user and password together',
    });
  }
  if (config.user?.includes(':')) problems.push({ key: 'user', expected: 'a name without a colon' });
  if (hasCredentials(config.url)) {
    problems.push({
      key: 'url',
      expected: 'a URL without user and password, which have settings of their own',
    });
  }
  return problems;
}

function hasCredentials(url: string): boolean {
  const { username, password } = new URL(url);
  return username !== '' || password !== '';
}
