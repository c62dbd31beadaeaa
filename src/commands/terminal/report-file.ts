import { accessSync, constants, existsSync, statSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Command } from 'commander';
import { errorText } from '../../base/error-text.ts';
import { printable } from '../../base/printable.ts';
import { warn } from './output.ts';

/** Ends the command if the report could not be written: before the work, not after it. */
export function checkReportFile(file: string | undefined, command: Command): void {
  if (file === undefined) return;
  const refuse = (why: string) =>
    command.error(`error: --report: ${printable(why)}. Give the name of a file in a folder that exists`);
  if (file === '' || file.endsWith('/')) refuse(`'${file}' is no name of a file`);
  const folder = dirname(file);
  try {
    if (!statSync(folder).isDirectory()) refuse(`${folder} is no folder`);
    if (existsSync(file) && statSync(file).isDirectory()) refuse(`${file} is a folder`);
    accessSync(existsSync(file) ? file : folder, constants.W_OK);
  } catch (error) {
    refuse(errorText(error));
  }
}

/** Returns whether it could be written, and says so. If not, the result is still to be printed. */
export function writeReport(file: string, html: string): boolean {
  try {
    writeFileSync(file, html);
  } catch (error) {
    warn([printable(`the report could not be written: ${errorText(error)}`)]);
    return false;
  }
  process.stderr.write(`The report is in ${file}.\n`);
  return true;
}
