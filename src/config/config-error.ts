/** What is wrong with the settings. */
import { counted } from '../base/number-format.ts';
import type { SettingError } from '../settings/setting.ts';

/** EX_CONFIG of sysexits.h. */
export const EXIT_CONFIG = 78;

/** Everything that is wrong with the environment. The message lists one error a line. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  readonly errors: readonly SettingError[];
  /** What is odd but not an error: a misspelled variable may be why another one has no value. */
  readonly warnings: readonly string[];
  readonly advice: string | undefined;

  constructor(errors: readonly SettingError[], warnings: readonly string[] = []) {
    const lines = errors.map((error) => `  ${settingErrorText(error)}`);
    super(`the settings have ${counted(errors.length, 'error')}:\n${lines.join('\n')}`);
    this.errors = errors;
    this.warnings = warnings;
    this.advice = errors.find(({ advice }) => advice !== undefined)?.advice;
  }
}

function settingErrorText({ variable, expected, got, unknown, meant }: SettingError): string {
  const question = meant === undefined ? '' : ` (did you mean ${meant}?)`;
  if (unknown) return `${variable}: unknown variable${question}; expected ${expected}`;
  const given = got === undefined ? 'it is not set' : `got ${JSON.stringify(got)}${question}`;
  return `${variable}: expected ${expected}; ${given}`;
}
