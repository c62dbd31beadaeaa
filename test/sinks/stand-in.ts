/** For tests of answers: a server that says what a real one does not say on demand, and tasks for the end of a test. */
import { once } from 'node:events';
import { accessSync, constants } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import { delimiter, join } from 'node:path';
import { afterEach } from 'vitest';
import { readSettings, type SettingError, type Settings, type Values } from '../../src/settings/setting.ts';
import type { SinkModule } from '../../src/sink/contract.ts';

/** Runs after the test, the last one first. */
export type AtEnd = (task: () => unknown) => void;

export function endAfterEach(): AtEnd {
  const tasks: (() => unknown)[] = [];
  afterEach(async () => {
    for (const task of tasks.splice(0).reverse()) await task();
  });
  return (task) => tasks.push(task);
}

/** Resolves to its URL. */
export async function startStandIn(listener: RequestListener, atEnd: AtEnd): Promise<string> {
  const server = createServer(listener).listen(0, '127.0.0.1');
  await once(server, 'listening');
  atEnd(() => server.close().closeAllConnections());
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return `http://127.0.0.1:${address.port}`;
}

/** Returns the settings that these variables, without their prefix, give a sink. Throws if they are wrong. */
export function sinkSettings<S extends Settings>(
  module: SinkModule<S>,
  variables: Readonly<Record<string, string>>,
): Values<S> {
  const errors: SettingError[] = [];
  const env = Object.fromEntries(Object.entries(variables).map(([name, value]) => [`SINK_T_${name}`, value]));
  const config = readSettings(module.settings, 'SINK_T_', env, errors, []);
  if (errors.length > 0) throw new Error(JSON.stringify(errors));
  return config;
}

export function isOnPath(program: string): boolean {
  return (process.env.PATH ?? '').split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}
