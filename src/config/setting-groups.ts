/** All settings, in the order in which people read them. */

import { SINKS } from '../../sinks/index.ts';
import { type Setting, type Settings, variableName } from '../settings/setting.ts';
import { CORE_SETTINGS } from './core-settings.ts';
import { SINK_SETTINGS, settingsOf } from './sink-config.ts';

export interface SettingGroup {
  readonly title: string;
  readonly settings: readonly { readonly variable: string; readonly setting: Setting<unknown> }[];
}

export async function settingGroups(): Promise<SettingGroup[]> {
  const modules = await Promise.all(Object.values(SINKS).map((load) => load()));
  const groups = [
    groupOf('The service', CORE_SETTINGS, ''),
    groupOf('Every sink (`<ID>` is its id in upper case)', SINK_SETTINGS, 'SINK_<ID>_'),
    ...modules.map((module) =>
      groupOf(
        `Sinks of kind \`${module.kind}\`: ${module.summary}`,
        settingsOf(module),
        `SINK_${module.kind.toUpperCase()}_`,
      ),
    ),
  ];
  return groups.filter(({ settings }) => settings.length > 0);
}

function groupOf(title: string, settings: Settings, prefix: string): SettingGroup {
  const entries = Object.entries(settings);
  return {
    title,
    settings: entries.map(([key, setting]) => ({ variable: prefix + variableName(key), setting })),
  };
}
