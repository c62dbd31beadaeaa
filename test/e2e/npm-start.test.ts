/** Ctrl-C at `npm start`: the terminal signals every process of the group, and npm passes the signal on as well. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, type TestContext, test } from 'vitest';
import { spawnTied } from '../../src/base/tied-process.ts';
import { startNats } from '../../src/servers/nats.ts';
import { freePort, temporaryFolder } from '../../src/servers/server-process.ts';
import { LIMIT_MS } from '../limits.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** `npm start` in a process group of its own, as a shell with a terminal has it. */
function npmStart(env: Readonly<Record<string, string>>, { onTestFinished }: TestContext) {
  const folder = temporaryFolder('npm-start');
  const socket = join(folder.path, 'control.sock');
  const child = spawnTied('npm', ['start', '-s', '--', 'run'], {
    cwd: root,
    env: {
      ...process.env,
      SINK_SQLITE_ENABLED: 'true',
      SINK_SQLITE_PATH: join(folder.path, 'fanout.db'),
      HTTP_HOST: '127.0.0.1',
      LOG_FORMAT: 'json',
      CONTROL_SOCKET: socket,
      ...env,
    },
  });
  let output = '';
  for (const stream of [child.stdout!, child.stderr!])
    stream.on('data', (chunk) => (output += String(chunk)));
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  onTestFinished(async () => {
    if (child.exitCode === null && child.signalCode === null) process.kill(-child.pid!, 'SIGKILL');
    await ended;
    folder.remove();
  });
  return {
    socket,
    said: () => output,
    close: ended,
    ctrlC: () => process.kill(-child.pid!, 'SIGINT'),
  };
}

test.for([true, false])('one Ctrl-C is one: it stops in order (with a bus: %s)', async (isUp, context) => {
  const nats = isUp ? await startNats() : undefined;
  context.onTestFinished(async () => nats?.stop());
  const NATS_URL = nats?.url ?? `nats://127.0.0.1:${await freePort()}`;
  const started = npmStart({ NATS_URL, HTTP_PORT: String(await freePort()) }, context);
  await expect.poll(() => existsSync(started.socket), { timeout: LIMIT_MS }).toBe(true);
  started.ctrlC();
  await started.close;
  expect(started.said()).toContain('stopping; press Ctrl-C again');
  expect(started.said()).toContain('"msg":"stopped"');
  expect(existsSync(started.socket)).toBe(false);
});
