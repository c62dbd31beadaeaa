/** compose.yaml, checked without a container engine: the program accepts its settings, and what it names exists. */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it, test } from 'vitest';
import { parse } from 'yaml';
import { createProgram } from '../src/commands/program.ts';
import { loadConfig } from '../src/config/config.ts';
import { temporaryFolder } from '../src/servers/server-process.ts';

const root = join(import.meta.dirname, '..');
const read = (path: string) => parse(readFileSync(join(root, path), 'utf8'));

interface Service {
  readonly image: string;
  readonly build?: string;
  readonly command?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly ports?: readonly string[];
  readonly volumes?: readonly string[];
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>>;
  readonly healthcheck?: { readonly test?: readonly string[]; readonly disable?: true };
  readonly read_only?: boolean;
  readonly stop_grace_period?: string;
}

const { services, volumes } = read('compose.yaml') as {
  readonly services: Readonly<Record<string, Service>>;
  readonly volumes: Readonly<Record<string, null>>;
};
const all = Object.entries(services);
const ours = all.filter(([, { image }]) => image === services.fanout!.image);

describe('our services', () => {
  it.each(ours)(
    '%s: the program accepts the environment, without a warning',
    async (_, { environment = {} }) => {
      for (const value of Object.values(environment)) expect(value).toBeTypeOf('string');
      const { warnings } = await loadConfig(environment);
      expect(warnings).toEqual([]);
    },
  );

  it('find the servers beside them by name and port, and have time to stop', async () => {
    const { core, sinks } = await loadConfig(services.fanout!.environment!);
    expect(sinks.map(({ id }) => id)).toEqual(['dynamodb', 'influxdb', 'redshift']);
    const urls = [...core.natsUrl, ...sinks.map(({ values }) => String(values.url ?? values.endpoint))];
    for (const url of urls) {
      const { hostname, port } = new URL(url);
      expect(services[hostname]?.ports, url).toEqual([`127.0.0.1:${port}:${port}`]);
    }
    expect(core.stopTimeout).toBeLessThan(Number.parseInt(services.fanout!.stop_grace_period!, 10) * 1000);
  });

  it('call commands with options that exist', () => {
    for (const [, { command = ['run'] }] of ours) {
      const found = createProgram().commands.find((one) => one.name() === command[0]);
      const flags = found?.options.map(({ long }) => long);
      for (const word of command.filter((word) => word.startsWith('--'))) expect(flags).toContain(word);
    }
  });

  it('have a read-only root file system', () => {
    for (const [name, service] of ours) expect(service.read_only, name).toBe(true);
  });
});

/** Compose itself, or its library (`go install github.com/compose-spec/compose-go/v2/cmd`, called compose-go). */
const PARSERS: Readonly<Record<string, (file: string) => readonly string[]>> = {
  docker: (file) => ['compose', '-f', file, 'config', '--quiet'],
  'compose-go': (file) => [file],
};

describe.each(Object.entries(PARSERS))('%s', (program, argsFor) => {
  const folder = temporaryFolder('compose');
  afterAll(() => folder.remove());
  const reads = (text: string) => {
    const file = join(folder.path, 'compose.yaml');
    writeFileSync(file, text);
    return spawnSync(program, argsFor(file), { encoding: 'utf8' });
  };
  const text = readFileSync(join(root, 'compose.yaml'), 'utf8');
  const isHere = reads('services: {}\n').status === 0;

  test.skipIf(!isHere)('accepts the file, and would refuse a word that it does not know', () => {
    const { status, stderr } = reads(text);
    expect(status, stderr).toBe(0);
    expect(reads(text.replace('read_only:', 'read_onyl:')).status).not.toBe(0);
  });
});

test('images have exact versions, ports are open to this machine only, and every server has a health check', () => {
  for (const [name, { image, ports = [], healthcheck, depends_on = {} }] of all) {
    if (!ours.some(([one]) => one === name)) {
      expect(image, name).toMatch(/:v?\d+\.\d+(\.\d+)?(-\w+)?$/);
      expect(healthcheck?.test?.length, name).toBeGreaterThan(1);
    }
    for (const port of ports) expect(port, name).toMatch(/^127\.0\.0\.1:(\d+):\1$/);
    for (const [other, { condition }] of Object.entries(depends_on)) {
      expect(condition).toBe('service_healthy');
      expect(services[other]?.healthcheck?.disable, other).toBeUndefined();
    }
  }
});

test('everything that is mounted exists', () => {
  const mounts = all.flatMap(([, { volumes: mounted = [] }]) => mounted.map((mount) => mount.split(':')[0]!));
  for (const source of mounts) {
    // A file of this repository, such as the dashboard of the chart.
    if (source.startsWith('./')) expect(existsSync(join(root, source)), source).toBe(true);
    else expect(Object.keys(volumes)).toContain(source);
  }
});

test('Prometheus accepts its configuration, and scrapes the service at its port', () => {
  execFileSync('promtool', ['check', 'config', join(root, 'compose/prometheus.yaml')]);
  const [job] = read('compose/prometheus.yaml').scrape_configs;
  expect(job.static_configs[0].targets).toEqual(['fanout:9464']);
});

test('Grafana finds its data source and the folder of its dashboard', () => {
  const [datasource] = read('compose/grafana/datasources.yaml').datasources;
  expect(datasource.url).toBe('http://prometheus:9090');
  const [provider] = read('compose/grafana/dashboards.yaml').providers;
  const mounted = services.grafana!.volumes!.map((mount) => mount.split(':')[1]);
  expect(mounted).toContain(provider.options.path);
});
