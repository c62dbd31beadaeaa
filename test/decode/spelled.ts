import fc from 'fast-check';

/** Writes a JSON value with a random choice of white space, key order, escapes and forms of numbers. */
export const spelled: fc.Arbitrary<(value: unknown) => string> = fc
  .infiniteStream(fc.nat(999))
  .map((choices) => (value: unknown) => {
    const choose = (count: number) => choices.next().value % count;
    const space = () => [' ', '\n', '\t\r', '', '', '', ''][choose(7)]!;

    const string = (text: string): string => {
      const units = Array.from({ length: text.length }, (_, i) => {
        const unit = text[i]!;
        const code = text.charCodeAt(i);
        const hex = `\\u${code.toString(16).padStart(4, '0')}`;
        const loneIfEscaped = code >= 0xd800 && code <= 0xdfff;
        if (!loneIfEscaped && choose(8) === 0)
          return choose(2) === 0 ? hex : hex.toUpperCase().replace('U', 'u');
        if (unit === '/' && choose(2) === 0) return '\\/';
        return loneIfEscaped ? unit : JSON.stringify(unit).slice(1, -1);
      });
      return `"${units.join('')}"`;
    };

    const number = (n: number): string => {
      const plain = Object.is(n, -0) ? '-0' : String(n);
      return [
        plain,
        plain,
        n.toExponential(),
        n.toExponential().replace('e+', 'E'),
        `${plain}${/[.e]/.test(plain) ? '' : '.00'}`,
      ][choose(5)]!;
    };

    const write = (v: unknown): string => {
      if (typeof v === 'string') return string(v);
      if (typeof v === 'number') return number(v);
      if (typeof v !== 'object' || v === null) return JSON.stringify(v);
      const list = (items: string[]) => items.join(`${space()},${space()}`);
      if (Array.isArray(v)) return `[${space()}${list(v.map(write))}${space()}]`;
      const members = Object.entries(v)
        .filter(([, member]) => member !== undefined)
        .map((member) => ({ member, rank: choose(100) }))
        .sort((a, b) => a.rank - b.rank)
        .map(({ member: [key, of] }) => `${string(key)}${space()}:${space()}${write(of)}`);
      return `{${space()}${list(members)}${space()}}`;
    };
    return `${space()}${write(value)}${space()}`;
  });
