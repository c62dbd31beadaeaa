/** The secrets that the process knows of: what must not be in anything that it writes for people to look at. */
import { readFileSync } from 'node:fs';
import { CORE_SETTINGS, type Config } from '../config.ts';
import type { Environment, Settings } from '../settings.ts';

/** Credentials that are no settings of ours: those of AWS's own chain. */
const FOREIGN = ['AWS_SECRET_ACCESS_KEY', 'AWS_SESSION_TOKEN'];
const SEED = /\bS[A-Z2-7]{57,}\b/g;

export function secretsOf(config: Config, env: Environment): string[] {
  const { core, sinks } = config;
  const files = [core.natsNkeySeedFile, core.natsCredsFile].filter((file) => file !== undefined);
  return [
    ...secretsIn(CORE_SETTINGS, core),
    ...sinks.flatMap(({ module, values }) => secretsIn(module.settings, values)),
    ...FOREIGN.flatMap((name) => env[name] ?? []),
    ...files.flatMap((file) => contentOf(file).match(SEED) ?? []),
  ].filter((secret) => secret !== '');
}

function secretsIn(settings: Settings, values: Readonly<Record<string, unknown>>): string[] {
  return Object.entries(settings).flatMap(([key, { mask }]) => {
    const texts = [values[key]].flat().filter((value) => typeof value === 'string');
    return texts.flatMap((text) => {
      if (mask === undefined || mask(text) === text) return [];
      return URL.canParse(text) || text.includes('@') ? secretParts(text) : [text];
    });
  });
}

/** Of a URL: user, password, and the values of its query. */
function secretParts(url: string): string[] {
  const user = /^(?:[^/]*\/\/)?(.*)@/.exec(url)?.[1]?.split(':') ?? [];
  const query = [...url.matchAll(/[?&][^=&#]*=([^&#]*)/g)].map((match) => match[1]!);
  return [...user, ...query].flatMap((part) => [part, decoded(part)]);
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function contentOf(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
