/** Text from outside, such as metric names, made safe to print. */

/**
 * Characters that move a terminal's cursor, change its state or reorder its text (controls, bidirectional marks), that
 * nobody sees (format characters, such as the soft hyphen and zero-width joiners, and others that Unicode calls
 * ignorable), and unpaired surrogates. Emoji that are joined by U+200D are shown in parts, with an escape in between.
 * The dashboard has the same expression: `src/observe/page/dom.js`.
 */
const UNSAFE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]/gu;

/**
 * Returns the text with every character that could act on a terminal, or that would make two different texts look
 * alike because nobody sees it, as an escape, such as \u001b.
 */
export function printable(text: string): string {
  return text.replace(UNSAFE, (character) =>
    character
      .split('')
      .map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
      .join(''),
  );
}

/** Returns JSON in which nothing acts on a terminal. It still parses to the same value. */
export function printableJson(value: unknown, indent = 0): string {
  return JSON.stringify(value, null, indent).split('\n').map(printable).join('\n');
}
