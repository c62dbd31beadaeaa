import { maskUrl } from '../settings/url-secrets.ts';
import type { SinkConfig } from './sink-config.ts';

/** The settings of a store that say where it is, the most telling first. */
const ADDRESSES = ['endpoint', 'url', 'path', 'cluster', 'workgroup', 'region'];

/** By sink, because a status is made every second. */
const known = new WeakMap<SinkConfig, string | null>();

/** Returns where the store is, as set, without user, password and key; null if the settings do not say. */
export function storeAddress(sink: SinkConfig): string | null {
  const before = known.get(sink);
  if (before !== undefined) return before;
  const address = addressIn(sink.values as Readonly<Record<string, unknown>>);
  known.set(sink, address);
  return address;
}

function addressIn(values: Readonly<Record<string, unknown>>): string | null {
  const key = ADDRESSES.find((name) => values[name] !== undefined && values[name] !== '');
  const value = key === undefined ? undefined : values[key];
  if (typeof value !== 'string') return null;
  return key === 'url' || key === 'endpoint' ? (maskUrl(value) ?? null) : value;
}
