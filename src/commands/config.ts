import { Command } from 'commander';
import { SINKS } from '../../sinks/index.ts';
import { CORE_SETTINGS, describeConfig, loadConfig, SINK_SETTINGS, settingsOf } from '../config.ts';
import { type Setting, type Settings, variableName } from '../settings.ts';
import { renderTable } from './table.ts';

export function configCommand(): Command {
  return new Command('config')
    .description('print the settings as they are resolved from the environment, secrets masked')
    .option('--json', 'print JSON')
    .option('--markdown', 'print the table of all settings, as in the README')
    .action(async (options: { json?: true; markdown?: true }) => {
      if (options.markdown) {
        process.stdout.write(await settingsMarkdown());
        return;
      }
      const config = await loadConfig(process.env);
      if (options.json) {
        process.stdout.write(`${JSON.stringify(describeConfig(config), null, 2)}\n`);
        return;
      }
      const { resolved, sinks } = config;
      const rows = resolved.map(({ variable, shown, from }) => [variable, shown, from]);
      process.stdout.write(`${renderTable(['variable', 'value', 'from'], rows)}\n`);
      process.stdout.write(
        `\nsinks on: ${sinks.map(({ id, module }) => `${id} (${module.kind})`).join(', ')}\n`,
      );
    });
}

/** The tables of the README: generated, so that they are never behind the schema. */
export async function settingsMarkdown(): Promise<string> {
  const modules = await Promise.all(Object.values(SINKS).map((load) => load()));
  const parts = [
    ['The service', table(CORE_SETTINGS, '')],
    ['Every sink (`<ID>` names it, upper case)', table(SINK_SETTINGS, 'SINK_<ID>_')],
    ...modules
      .filter((module) => Object.keys(settingsOf(module)).length > 0)
      .map((module) => [
        `Sinks of kind \`${module.kind}\`: ${module.summary}`,
        table(settingsOf(module), `SINK_${module.kind.toUpperCase()}_`),
      ]),
  ];
  return parts.map(([title, text]) => `#### ${title}\n\n${text}`).join('\n');
}

function table(settings: Settings, prefix: string): string {
  const rows = Object.entries(settings).map(
    ([key, setting]) =>
      `| \`${prefix}${variableName(key)}\` | ${shownDefault(setting)} | ${setting.meaning} | ${setting.expected} |`,
  );
  return ['| variable | default | meaning | expected |', '|---|---|---|---|', ...rows, ''].join('\n');
}

function shownDefault(setting: Setting<unknown>): string {
  if (setting.default !== undefined) return `\`${setting.default}\``;
  return setting.optional ? '' : 'required';
}
