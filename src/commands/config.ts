import type { Command } from 'commander';
import { describeConfig, loadConfig } from '../config/config.ts';
import { settingGroups } from '../config/setting-groups.ts';
import type { Setting } from '../settings/setting.ts';
import { BUS, describe, SINK_VARIABLES, WRONG_SETTINGS } from './terminal/help-page.ts';
import { warn } from './terminal/output.ts';
import { renderTable } from './terminal/table.ts';

const PAGE = {
  summary: 'print the settings resolved from the environment, with secrets masked',
  text: `
Every setting is an environment variable. A secret can also come from the file that <NAME>_FILE names.`,
  examples: [
    [
      'metrics-fanout config',
      'what a service in this environment would use, and where each value comes from',
    ],
    ['metrics-fanout config --markdown', 'every setting, with its meaning and default'],
  ],
  exit: [['0', 'the settings are valid'], WRONG_SETTINGS],
  environment: [...BUS, ['...', 'and all other variables that --markdown lists'], ...SINK_VARIABLES],
} as const;

export function configCommand(): Command {
  return describe('config', PAGE)
    .option('--json', 'print JSON')
    .option('--markdown', 'print the table of all settings, as in the README')
    .action(async (options: { json?: true; markdown?: true }) => {
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
    });
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
