/** The secrets that the process holds. */

import { readFileSync } from 'node:fs';
import { foreignSecrets, secretsIn } from '../settings/secrets.ts';
import type { Environment } from '../settings/setting.ts';
import type { Config } from './config.ts';
import { CORE_SETTINGS } from './core-settings.ts';

const SEED = /\bS[A-Z2-7]{57,}\b/g;

export function secretsOf(config: Config, env: Environment): string[] {
  const { core, sinks } = config;
  const files = [core.natsNkeySeedFile, core.natsCredsFile].filter((file) => file !== undefined);
  return [
    ...secretsIn(CORE_SETTINGS, core),
    ...sinks.flatMap(({ module, values }) => secretsIn(module.settings, values)),
    ...foreignSecrets(env),
    ...files.flatMap((file) => contentOf(file).match(SEED) ?? []),
  ].filter((secret) => secret !== '');
}

function contentOf(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
