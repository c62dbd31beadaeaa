import { RULE_KINDS } from '../decode/shaping-rules.ts';
import { setting } from '../settings/builders.ts';

/** Rules on names and dimensions, each as text. What is wrong with one is said of that one. */
export function rules(
  kind: keyof typeof RULE_KINDS,
  expected: string,
  options: { readonly meaning: string },
) {
  const read = RULE_KINDS[kind];
  const parse = (text: string) => {
    const result = read(text);
    return 'rules' in result ? result.rules : undefined;
  };
  const advice = (text: string) => {
    const result = read(text);
    return 'problem' in result ? `${result.problem}.` : undefined;
  };
  return setting.custom(parse, expected, { ...options, advice });
}
