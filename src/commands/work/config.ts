import { describeConfig, loadConfig } from '../../config/config.ts';
import { settingGroups } from '../../config/setting-groups.ts';
import type { Setting } from '../../settings/setting.ts';
import { warn } from '../terminal/output.ts';
import { renderTable } from '../terminal/table.ts';

export default async function runConfig(options: { json?: true; markdown?: true }): Promise<void> {
  if (options.markdown) {
    process.stdout.write(await settingsMarkdown());
    return;
  }
  const config = await loadConfig(process.env);
  warn(config.warnings);
  if (options.json) {
    process.stdout.write(`${JSON.stringify(describeConfig(config), null, 2)}\n`);
    return;
  }
  const { resolved, sinks } = config;
  const rows = resolved.map(({ variable, shown, from }) => [variable, shown, from]);
  process.stdout.write(`${renderTable(['variable', 'value', 'from'], rows)}\n`);
  process.stdout.write(
    `\nenabled sinks: ${sinks.map(({ id, module }) => `${id} (${module.kind})`).join(', ')}\n`,
  );
}

/** Returns the README's tables of settings, generated so that they always match the schema. */
export async function settingsMarkdown(): Promise<string> {
  const parts = (await settingGroups()).map(({ title, settings }) => {
    const rows = settings.map(
      ({ variable, setting }) =>
        `| \`${variable}\` | ${shownDefault(setting)} | ${setting.meaning} | ${setting.expected} |`,
    );
    const table = ['| variable | default | meaning | expected |', '|---|---|---|---|', ...rows, ''];
    return `#### ${title}\n\n${table.join('\n')}`;
  });
  return parts.join('\n');
}

function shownDefault(setting: Setting<unknown>): string {
  if (setting.default !== undefined) return `\`${setting.default}\``;
  return setting.optional ? '' : 'required';
}
