import { setting, type Values } from '../../src/sink/index.ts';

export const settings = {
  url: setting.httpUrl({ meaning: 'URL of the server, such as http://influxdb:8086', required: true }),
  api: setting.choice(['v2', 'v1', 'v3'], {
    meaning: 'API to write with: v2 for InfluxDB 2, 3, Cloud and 1.8; v1 for 1.x; v3 for InfluxDB 3',
    default: 'v2',
  }),
  token: setting.secret({ meaning: 'for v2 and v3: the token; on 1.8, user:password' }),
  org: setting.text({ meaning: 'for v2: the organization; any text if the server has no organizations' }),
  bucket: setting.text({
    meaning: 'for v2: the bucket; on 3, the database; on 1.8, database/retention-policy',
  }),
  database: setting.text({
    meaning: 'for v1 and v3: the database; created if it is missing and the user is allowed to',
  }),
  user: setting.text({ meaning: 'for v1: the user, if the server requires one' }),
  password: setting.secret({ meaning: 'for v1: the password of that user' }),
};

export type Config = Values<typeof settings>;

interface Problem {
  readonly key: keyof Config;
  readonly expected: string;
}

/** The settings that each API needs. */
const NEEDED = {
  v1: ['database'],
  v2: ['token', 'org', 'bucket'],
  v3: ['database'],
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
      expected: 'a URL without user and password, because they have settings of their own',
    });
  }
  return problems;
}

function hasCredentials(url: string): boolean {
  const { username, password } = new URL(url);
  return username !== '' || password !== '';
}
