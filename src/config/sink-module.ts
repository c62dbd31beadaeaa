/**
 * Where the module of a sink is found, by its kind. The thread of a sink imports this and nothing else of config/: the
 * settings of the service would take 0.6 MB in each.
 */
import { isAbsolute, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { SINKS } from '../../sinks/index.ts';
import type { SinkModule } from '../sink/contract.ts';

export function isOurs(kind: string): boolean {
  return Object.hasOwn(SINKS, kind);
}

/** A module that is not ours may export anything. `loadModule` says whether it is a sink. */
export async function importSinkModule(kind: string): Promise<SinkModule> {
  if (isOurs(kind)) return await SINKS[kind]!();
  const isPath = kind.startsWith('.') || isAbsolute(kind);
  return (await import(isPath ? pathToFileURL(resolve(kind)).href : kind)).default;
}
