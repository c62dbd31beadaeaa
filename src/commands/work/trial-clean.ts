import type { Command } from 'commander';
import { systemClock } from '../../base/clock.ts';
import { printable, printableJson } from '../../base/printable.ts';
import { endProcess } from '../../base/process-end.ts';
import { loadConfig } from '../../config/config.ts';
import { type Cleaning, cleanTrials, type LeftTable } from '../../trial/clean.ts';
import { print } from '../terminal/output.ts';
import { renderTable } from '../terminal/table.ts';
import { chosenSinks } from './trial.ts';

interface CleanOptions {
  readonly sinks?: readonly string[];
  readonly older: number;
  readonly yes?: true;
  readonly json?: true;
}

export default async function runTrialClean(_options: object, command: Command): Promise<void> {
  const { sinks, older, yes, json } = command.optsWithGlobals<CleanOptions>();
  const config = await loadConfig(process.env);
  const able = chosenSinks(config, sinks, command).filter(({ module }) => module.trial !== undefined);
  const before = systemClock.now() - older;
  const cleaning = await cleanTrials(able, { env: process.env, before, isMeant: yes === true });
  const isFine = cleaning.unknown.length === 0 && cleaning.tables.every(({ fate }) => fate !== 'kept');
  await print(json ? `${printableJson(cleaning)}\n` : cleaningText(cleaning), isFine ? 0 : 1);
  endProcess();
}

const FATES: Readonly<Record<LeftTable['fate'], string>> = {
  found: 'to be deleted with --yes',
  young: 'left alone: its trial may still run (--older)',
  deleted: 'deleted',
  kept: 'not deleted',
};

function cleaningText({ tables, unknown }: Cleaning): string {
  const unasked = unknown.map(({ sink, why }) =>
    printable(`${sink}: nobody knows what trials left: ${why}.`),
  );
  const body = tables.map(({ sink, name, began, fate, why }) =>
    [sink, name, began, why === undefined ? FATES[fate] : `${FATES[fate]}: ${why}`].map(printable),
  );
  const found =
    body.length === 0
      ? 'No table of a trial was found.'
      : renderTable(['sink', 'table', 'its trial began', ''], body, { keys: [0, 1] });
  return `${[found, ...unasked].join('\n')}\n`;
}
