/** What can be changed in the values of a release, one by one. */
import { merged, type Values } from './chart.ts';
import { EXTRAS } from './values.ts';

/** A release without files in its pods. */
export const BLACKHOLE: Values = { sinks: { blackhole: { enabled: true } } };

/** Every path of the values. */
export function pathsOf(values: Values, prefix: readonly string[] = []): (readonly string[])[] {
  return Object.entries(values).flatMap(([key, value]) => {
    const path = [...prefix, key];
    const isMap = typeof value === 'object' && value !== null && !Array.isArray(value);
    return [path, ...(isMap ? pathsOf(value as Values, path) : [])];
  });
}

/** With another one of these. */
const TOGETHER: Readonly<Record<string, string>> = {
  dnsPolicy: 'dnsConfig',
  extraVolumeMounts: 'extraVolumes',
};

/** Another value for nearly every key. What somebody merges into an object is their own affair. */
export function changesOf(base: Values): [key: string, changed: Values][] {
  const more = { standby: 1, nameOverride: 'b', replicas: 2, secrets: { natsToken: 't' } };
  const all = merged(EXTRAS, more);
  const keys = Object.keys(all).filter((key) => key !== 'merge' && (key !== 'standby' || base === BLACKHOLE));
  return keys.map((key) => {
    const other = TOGETHER[key];
    return [key, { ...base, [key]: all[key], ...(other === undefined ? {} : { [other]: all[other] }) }];
  });
}
