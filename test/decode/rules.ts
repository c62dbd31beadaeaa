/** Turns rules as texts into settings. */
import type { ShapingSettings } from '../../src/decode/shaping.ts';
import { RULE_KINDS } from '../../src/decode/shaping-rules.ts';
import type { RuleTexts } from '../aggregate/shaping-oracle.ts';

function rulesOf(kind: keyof typeof RULE_KINDS, text: string | undefined): readonly string[] | undefined {
  if (text === undefined) return undefined;
  const read = RULE_KINDS[kind](text);
  if ('problem' in read) throw new Error(`${text}: ${read.problem}`);
  return read.rules;
}

export function settingsOf({ names, drop, keep, rename, subjects, subjectWins }: RuleTexts): ShapingSettings {
  return {
    metricsNames: rulesOf('names', names),
    metricsDropDimensions: rulesOf('dimensions', drop),
    metricsKeepDimensions: rulesOf('dimensions', keep),
    metricsRename: rulesOf('rename', rename),
    metricsSubjectDimensions: rulesOf('subjects', subjects),
    ...(subjectWins === undefined ? {} : { metricsSubjectWins: subjectWins }),
  };
}
