/** Whether the text matches: `*` stands for any text, `?` for one character. Takes at most |pattern| x |text| steps. */
export function matchesGlob(pattern: string, text: string): boolean {
  let [p, t] = [0, 0];
  // Where to go back to if the part after the last `*` does not match: the `*` then takes one more character.
  let [star, taken] = [-1, 0];
  while (t < text.length) {
    if (pattern[p] === '*') {
      [star, taken] = [p, t];
      p += 1;
    } else if (pattern[p] === '?' || pattern[p] === text[t]) {
      p += 1;
      t += 1;
    } else if (star >= 0) {
      taken += 1;
      [p, t] = [star + 1, taken];
    } else return false;
  }
  while (pattern[p] === '*') p += 1;
  return p === pattern.length;
}
