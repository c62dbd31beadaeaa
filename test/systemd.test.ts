/** The unit of systemd: what the program makes of it, and what systemd says of it where that is at hand. */
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadConfig } from '../src/config/config.ts';
import { EXIT_CONFIG } from '../src/config/config-error.ts';
import { temporaryFolder } from '../src/servers/server-process.ts';

const root = join(import.meta.dirname, '..');
const UNIT = readFileSync(join(root, 'examples/systemd/metrics-fanout.service'), 'utf8');
/** Of 100, by the count of systemd. Open are what a service of the network needs, and what a compiler does. */
const MAX_EXPOSURE = 20;

/** Values by directive. */
function directives(text: string): Readonly<Record<string, readonly string[]>> {
  const found: Record<string, string[]> = {};
  for (const line of text.split('\n')) {
    if (line === '' || /^[#[]/.test(line)) continue;
    const [, name, value] = /^([A-Za-z]+)=(.*)$/.exec(line) ?? [];
    if (name === undefined) throw new Error(line);
    found[name] = [...(found[name] ?? []), value!];
  }
  return found;
}
const unit = directives(UNIT);

test('it is the one that the documents show', () => {
  expect(readFileSync(join(root, 'docs/operations.md'), 'utf8')).toContain(`\`\`\`ini\n${UNIT}\`\`\``);
});

test('the program accepts its variables, and has time to stop', async () => {
  const env = Object.fromEntries(unit.Environment!.map((one) => one.split(/=(.*)/s) as [string, string]));
  const { core, warnings } = await loadConfig(env);
  expect(warnings).toEqual([]);
  expect(core.controlSocket).toBe(`/run/${unit.RuntimeDirectory}/control.sock`);
  expect(core.stopTimeout).toBeLessThan(Number(unit.TimeoutStopSec) * 1000);
  expect(unit.RestartPreventExitStatus![0]!.split(' ')).toContain(String(EXIT_CONFIG));
});

test('it writes where it may, and may compile', () => {
  expect(unit.ProtectSystem).toEqual(['strict']);
  expect(unit.WorkingDirectory).toEqual([`/var/lib/${unit.StateDirectory}`]);
  expect(unit.MemoryDenyWriteExecute).toBeUndefined();
});

const HAS_SYSTEMD = spawnSync('systemd-analyze', ['--version']).error === undefined;

describe.skipIf(!HAS_SYSTEMD)('systemd', () => {
  const folder = temporaryFolder('systemd');
  const file = join(folder.path, 'metrics-fanout.service');
  // Neither the program nor its user is here.
  beforeAll(() =>
    writeFileSync(
      file,
      UNIT.replace(/^ExecStart=.*$/m, 'ExecStart=/bin/true').replace(/^User=.*$/m, 'User=daemon'),
    ),
  );
  afterAll(() => folder.remove());
  const analyze = (...args: readonly string[]) => {
    const { status, stdout, stderr } = spawnSync('systemd-analyze', [...args, file], { encoding: 'utf8' });
    return { status, said: stderr.trim() || stdout };
  };

  test('finds nothing wrong', () => {
    expect(analyze('verify', '--man=no')).toEqual({ status: 0, said: '' });
  });

  test('knows each word, and would say so of another', () => {
    writeFileSync(`${file}.service`, readFileSync(file, 'utf8').replace('PrivateTmp', 'PrivateTemp'));
    const { stderr } = spawnSync('systemd-analyze', ['verify', '--man=no', `${file}.service`], {
      encoding: 'utf8',
    });
    expect(stderr).toContain('PrivateTemp');
  });

  test('finds little that is left open', () => {
    const { status, said } = analyze('security', '--offline=true', `--threshold=${MAX_EXPOSURE}`);
    expect(status, said).toBe(0);
  });
});
