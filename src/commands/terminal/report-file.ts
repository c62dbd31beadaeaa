import { accessSync, constants, existsSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Command } from 'commander';
import { errorText } from '../../base/error-text.ts';

/** Ends the command if the report could not be written: before the work, not after it. */
export function checkReportFile(file: string | undefined, command: Command): void {
  if (file === undefined) return;
  const advice = 'Give the name of a file in a folder that exists';
  if (existsSync(file) && statSync(file).isDirectory())
    command.error(`error: --report: ${file} is a folder. ${advice}`);
  try {
    accessSync(existsSync(file) ? file : dirname(file), constants.W_OK);
  } catch (error) {
    command.error(`error: --report: ${errorText(error)}. ${advice}`);
  }
}
