import { readFileSync, statSync } from 'node:fs';
import type { Command } from 'commander';
import { errorText } from '../../base/error-text.ts';
import { amount, milliseconds } from '../../base/number-format.ts';
import { printable, printableJson } from '../../base/printable.ts';
import {
  diffOf,
  type FigureChange,
  parseTrial,
  TEST_IN_WORDS,
  type TrialDifference,
} from '../../trial/diff.ts';
import type { TrialResult } from '../../trial/result.ts';
import { print } from '../terminal/output.ts';
import { type Cell, renderTable } from '../terminal/table.ts';

/** A longer file is no trial. */
const MAX_FILE_BYTES = 64_000_000;

export default async function runTrialDiff(
  before: string,
  after: string,
  _options: object,
  command: Command,
): Promise<void> {
  const { json } = command.optsWithGlobals<{ readonly json?: true }>();
  const read = (file: string): TrialResult => {
    let parsed: TrialResult | string;
    try {
      const isLong = statSync(file).size > MAX_FILE_BYTES;
      parsed = isLong ? 'it is too long' : parseTrial(readFileSync(file, 'utf8'));
    } catch (error) {
      parsed = `${errorText(error)}. Give two files with what trial --json printed`;
    }
    if (typeof parsed !== 'string') return parsed;
    return command.error(`error: ${printable(`${file} is not a trial: ${parsed}`)}`);
  };
  const [first, second] = [read(before), read(after)];
  let difference: TrialDifference;
  try {
    difference = diffOf(first, second);
  } catch (error) {
    return command.error(`error: one of the files is not the whole of a trial: ${printable(String(error))}`);
  }
  const text = json ? `${printableJson({ ...difference, test: TEST_IN_WORDS })}\n` : diffText(difference);
  await print(text, difference.isSame ? 0 : 1);
}

function diffText({ verdict, facts, machine, figures }: TrialDifference): string {
  const changed = figures.filter(({ change }) => change !== undefined);
  const table =
    changed.length === 0
      ? []
      : [renderTable(['store', 'what', 'before', 'after', '', 'p'], changed.map(line), { keys: [0, 1] })];
  return `${[[...verdict, ...facts, ...(machine === undefined ? [] : [machine])].map(printable).join('\n'), ...table, TEST_IN_WORDS].join('\n\n')}\n`;
}

function line({ store, what, unit, before, after, p, change }: FigureChange): Cell[] {
  const shown = (value: number) => (unit === 'ms' ? milliseconds(value) : `${amount(value)}/s`);
  const factor = `${amount(Math.max(before, after) / Math.min(before, after))} times ${change}`;
  const colour = change === 'better' ? 'green' : 'red';
  return [
    printable(store),
    printable(what),
    shown(before),
    shown(after),
    { text: factor, colour },
    p.toExponential(1),
  ];
}
