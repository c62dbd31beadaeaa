import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { SINKS } from '../../sinks/index.ts';
import { loadConfig } from '../../src/config/config.ts';
import { CORE_SETTINGS } from '../../src/config/core-settings.ts';
import { settingsOf } from '../../src/config/sink-config.ts';
import { type Setting, type Settings, variableName } from '../../src/settings/setting.ts';
import {
  CHART,
  objectsOf,
  RELEASE,
  type Renderer,
  schemaErrors,
  startRenderer,
  type Values,
} from './chart.ts';
import { clusterOf, podOf } from './pod.ts';
import { combinations, EVERY_SINK, EXTRAS, FROM_CLUSTER } from './values.ts';

const errorsOf = schemaErrors();
const isOnPath = (program: string) => spawnSync(program, ['version']).error === undefined;
const HAS_HELM = isOnPath('helm');
const HAS_KUBECONFORM = spawnSync('kubeconform', ['-v']).error === undefined;

let renderer: Renderer;
beforeAll(() => {
  renderer = startRenderer();
});
afterAll(() => renderer?.remove());

const GOOD: readonly Values[] = [
  {},
  EVERY_SINK,
  EXTRAS,
  FROM_CLUSTER,
  { settings: { maxSeries: '5', verifyShare: '.5', controlEnabled: 'false', natsUrl: null } },
  { secrets: { natsUrl: 'nats://user:password@host' } },
  { secrets: { controlToken: { secretName: 'a', key: 'b' } } },
  { global: { region: 'eu' } },
  { sinks: { influxdb: null, archive: { enabled: true, kind: './archive.js', settings: { anything: 1 } } } },
];

/** Each with what the error must say. */
const BAD: readonly (readonly [values: Values, says: RegExp])[] = [
  [{ replica: 3 }, /replica/],
  [{ replicas: 0 }, /\/replicas/],
  [{ replicas: '3' }, /\/replicas/],
  [{ image: { tagg: 'x' } }, /tagg/],
  [{ image: { digest: 'latest' } }, /\/image\/digest/],
  [{ settings: { windw: '10s' } }, /windw/],
  [{ settings: { window: '10 parsecs' } }, /\/settings\/window/],
  [{ settings: { window: 10 } }, /\/settings\/window/],
  [{ settings: { maxSeries: 0 } }, /\/settings\/maxSeries/],
  [{ settings: { metricsSource: 'kafka' } }, /\/settings\/metricsSource/],
  [{ settings: { verifyShare: 2 } }, /\/settings\/verifyShare/],
  [{ settings: { controlEnabled: 'yes' } }, /\/settings\/controlEnabled/],
  // What the chart sets, secrets where everybody sees them, files without content.
  [{ settings: { slice: '0/3' } }, /slice/],
  [{ settings: { natsPassword: 'p' } }, /natsPassword/],
  [{ settings: { controlSocket: 'off' } }, /controlSocket/],
  [{ secrets: { controlToken: 'too short' } }, /\/secrets\/controlToken/],
  [{ settings: { natsCredsFile: '/etc/creds' } }, /natsCredsFile/],
  [{ secrets: { natsToken: { secretName: 'nats' } } }, /\/secrets\/natsToken/],
  [{ secrets: { natsToken: { configMapName: 'nats', key: 'token' } } }, /\/secrets\/natsToken/],
  [{ sinks: { influxdb: { enabled: 'true' } } }, /\/sinks\/influxdb\/enabled/],
  [{ sinks: { influxdb: { enabled: true } } }, /\/sinks\/influxdb/],
  [{ sinks: { influxdb: { settings: { url: 'influxdb:8086' } } } }, /\/sinks\/influxdb\/settings\/url/],
  [{ sinks: { influxdb: { settings: { token: 't' } } } }, /token/],
  [{ sinks: { redshift: { settings: { url: 'postgres://u:p@h/d' } } } }, /url/],
  [{ sinks: { parquet: { settings: { url: 'file:///var/x' } } } }, /\/sinks\/parquet\/settings\/url/],
  [{ sinks: { sqlite: { settings: { path: '/var/fanout.db' } } } }, /\/sinks\/sqlite\/settings\/path/],
  [{ sinks: { dynamodb: { settings: { ttl: 'forever' } } } }, /\/sinks\/dynamodb\/settings\/ttl/],
  [{ sinks: { second: { enabled: true } } }, /kind/],
  [{ sinks: { second: { enabled: true, kind: 'influxdb' } } }, /\/sinks\/second/],
  [{ sinks: { second: { kind: 'influxdb', settings: { tokn: 't' } } } }, /tokn/],
  [{ sinks: { 'not-an-id': { enabled: true, kind: 'blackhole' } } }, /not-an-id/],
  [{ service: { port: 70_000 } }, /\/service\/port/],
  [{ probes: { liveness: { period: 1 } } }, /period/],
  [{ dnsPolicy: 'None' }, /\/dnsConfig/],
  [{ podDisruptionBudget: { maxUnavailable: 'half' } }, /\/podDisruptionBudget/],
];

describe('the schema of the values', () => {
  test('accepts valid values', () => {
    for (const values of [...GOOD, ...combinations()])
      expect(errorsOf(values), JSON.stringify(values)).toEqual([]);
  });

  test.each(BAD)('refuses %j', (values, says) => {
    expect(errorsOf(values).join('\n')).toMatch(says);
  });
});

/** A value that the setting accepts: one of these, or an example in the text that says what it expects. */
function sampleOf({ expected, parse }: Setting<unknown>): string {
  const candidates = [
    '47',
    '7m',
    '7MB',
    'http://h:1/x',
    'postgres://u:p@h/d',
    'nats://u:p@h:1',
    '.7',
    'true',
    'a=b',
    'a.*: b',
  ];
  const examples = expected.split(/[\s,]+/).reverse();
  const found = [...candidates, 'some.text', 'a_name', ...examples].find((text) => parse(text) !== undefined);
  if (found === undefined) throw new Error(`no sample of ${expected}`);
  return found;
}

/** All of `settings`, as values of the chart. */
function everySetting(settings: Settings, without: readonly string[]): Values {
  const parts: Record<string, Record<string, string>> = { settings: {}, secrets: {}, files: {} };
  for (const [key, one] of Object.entries(settings)) {
    if (without.includes(key)) continue;
    const part = key.endsWith('File') ? 'files' : one.mask === undefined ? 'settings' : 'secrets';
    parts[part]![key] = sampleOf(one);
  }
  return parts;
}

describe('every setting reaches the program', () => {
  async function resolvedOf(values: Values) {
    expect(errorsOf(values)).toEqual([]);
    const [result] = renderer.render([values]);
    if (typeof result !== 'object') throw new Error(result);
    const [set] = result.objects.filter(({ kind }) => kind === 'StatefulSet');
    const { env } = podOf(set!, 0, clusterOf(result.objects), join(renderer.folder, 'pod'));
    // That some settings contradict each other does not matter here.
    const config = await loadConfig(env).catch(
      (error: unknown) => error as { errors: { variable: string; got?: string }[] },
    );
    return { env, config };
  }

  test('of the service', async () => {
    const ofChart = ['slice', 'httpPort', 'stopTimeout', 'controlSocket', 'controlProfileDir'];
    const { env } = await resolvedOf(everySetting(CORE_SETTINGS, ofChart));
    for (const [key, one] of Object.entries(CORE_SETTINGS)) {
      if (ofChart.includes(key)) continue;
      const variable = variableName(key);
      if (one.mask !== undefined)
        expect(env[`${variable}_FILE`], variable).toContain(`/secrets/${variable}_FILE`);
      else if (key.endsWith('File')) expect(env[variable]).toContain(`/secrets/${variable}`);
      else expect(env[variable]).toBe(sampleOf(one));
    }
  });

  test.each(Object.entries(SINKS))('of sinks of kind %s', async (kind, load) => {
    const all = settingsOf(await load());
    // The SQLite file is always on the volume.
    const values = everySetting(all, kind === 'sqlite' ? ['path'] : []);
    const { env, config } = await resolvedOf({ sinks: { [kind]: { enabled: true, ...values } } });
    if ('sinks' in config) expect(config.sinks.map(({ id }) => id)).toEqual([kind]);
    else for (const { variable } of config.errors) expect(variable).not.toMatch(/_FILE$/);
    const prefix = `SINK_${kind.toUpperCase()}_`;
    for (const [key, { mask }] of Object.entries(all)) {
      const variable = `${prefix}${variableName(key)}`;
      expect(env[mask === undefined ? variable : `${variable}_FILE`], variable).toBeDefined();
    }
  });
});

const OPERATOR = 'monitoring.coreos.com/v1';

describe.skipIf(!HAS_HELM)('helm itself', () => {
  const SETS = [{}, EVERY_SINK, EXTRAS, FROM_CLUSTER, ...combinations().filter((_, i) => i % 341 === 0)];

  function helm(command: string, values: Values) {
    const file = join(renderer.folder, 'values.json');
    writeFileSync(file, JSON.stringify(values));
    const cluster = ['--kube-version', '1.33.0'];
    const args =
      command === 'lint' ? ['lint', CHART, '--strict'] : ['template', RELEASE.name, CHART, '-a', OPERATOR];
    return spawnSync('helm', [...args, ...cluster, '-n', RELEASE.namespace, '-f', file], {
      encoding: 'utf8',
    });
  }

  test('finds nothing to lint', () => {
    const { status, stdout } = helm('lint', EVERY_SINK);
    expect(stdout).toContain('0 chart(s) failed');
    expect(status).toBe(0);
  });

  test('renders the same objects as our renderer', () => {
    const sorted = (objects: readonly object[]) => objects.map((object) => JSON.stringify(object)).sort();
    const ours = renderer.render(SETS);
    for (const [i, values] of SETS.entries()) {
      const { stdout, stderr } = helm('template', values);
      expect(stderr).toBe('');
      const mine = ours[i];
      if (typeof mine !== 'object') throw new Error(mine);
      expect(sorted(objectsOf(stdout))).toEqual(sorted(mine.objects));
    }
  });

  test('refuses the same values', () => {
    for (const [values] of BAD) {
      const { stderr } = helm('template', values);
      expect(stderr, JSON.stringify(values)).toContain("values don't meet the specifications of the schema");
    }
  });

  test.skipIf(!HAS_KUBECONFORM)(
    'kubeconform finds the objects valid, if it can fetch its schemas',
    (context) => {
      const { stdout } = helm('template', EVERY_SINK);
      const args = ['-strict', '-ignore-missing-schemas', '-kubernetes-version', '1.33.0'];
      const { status, stdout: report } = spawnSync('kubeconform', args, { input: stdout, encoding: 'utf8' });
      if (/failed (downloading|getting) schema|could not find schema/i.test(report))
        context.skip('its schemas are out of reach');
      expect(report).toBe('');
      expect(status).toBe(0);
    },
  );
});
