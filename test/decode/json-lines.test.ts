/** Lines of JSON in one message. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { InputRejection } from '../../src/decode/rejection.ts';
import { decoding, type Heard } from './formats.ts';

const decode = decoding({ metricsFormat: 'json' });
const auto = decoding({ metricsFormat: 'auto' });
const object = (name: string, value: unknown = 1) => `{"name":"${name}","type":"counter","value":${value}}`;
const names = (elements: readonly (InputRejection | Heard)[]) =>
  elements.map((element) => (typeof element === 'string' ? element : element.name));

describe('lines', () => {
  const inGoLayout = (name: string) =>
    `${object(name).slice(0, -1)},"dimensions":{"k":"v"},"timestamp":"2026-11-23T01:30:00Z"}`;
  const first = fc.constantFrom(
    ...[object('a'), object('b', 2.5), inGoLayout('l'), '{"name":"x"}', '{"broken":}', '{}'],
  );
  const last = fc.constantFrom(object('z'), inGoLayout('y'));
  const line = fc.oneof(
    first,
    fc.constantFrom(inGoLayout('g'), inGoLayout('h\\"')),
    fc.constantFrom('', ' \t', '7', 'null', '[]', `[${object('c')}]`, '{"a":[{', `${object('d')} x`, '"'),
    fc.constantFrom(
      object('é'),
      `  ${object('e')}\t`,
      `{"x":${'['.repeat(40)}`,
      `${object('f')}${object('g')}`,
    ),
    fc.constantFrom(`{"x":${'['.repeat(40)}${']'.repeat(40)}}`, '{"name":"\xff'),
  );

  test('each counts as if it had come by itself, and an empty one is nothing', () => {
    fc.assert(
      fc.property(
        first,
        fc.array(line, { maxLength: 8 }),
        last,
        fc.constantFrom('\n', '\r\n'),
        (begin, more, finish, end) => {
          const lines = [begin, ...more, finish];
          const message = lines.join(end);
          const alone = lines
            .filter((text) => text.trim() !== '')
            .map((text) => {
              if (text.startsWith('[')) return 'not_an_object';
              const { rejection, elements } = decode(text);
              return rejection ?? elements[0]!;
            });
          const isSample = (each: unknown) => typeof each !== 'string';
          const { rejection, elements } = decode(message);
          expect(rejection).toBeUndefined();
          expect(elements.filter(isSample)).toEqual(alone.filter(isSample));
          expect(elements.filter((each) => !isSample(each)).toSorted()).toEqual(
            alone.filter((each) => !isSample(each)).toSorted(),
          );
          expect(auto(message)).toEqual({ rejection, elements });
        },
      ),
    );
  });

  test('an object on several lines is one object, whether it is a sample or not', () => {
    expect(names(decode(JSON.stringify(JSON.parse(object('a')), null, 2)).elements)).toEqual(['a']);
    expect(decode('{"name":"a",\n"type":"x"}').rejection).toBe('bad_type');
    expect(decode('{"x":{}\n,"name":"a"}').rejection).toBe('bad_type');
    expect(decode('{"name":"a",\n"type":}\n').rejection).toBe('not_json');
  });

  test('if no line is JSON, the message is rejected whole', () => {
    expect(decode('{"a"}\n{b}\n')).toEqual({ rejection: 'not_json', elements: [] });
    expect(decode(`${object('a')}\nx`).elements).toHaveLength(2);
    expect(decode(`${object('a')}${object('b')}`).rejection).toBe('not_json');
  });

  test('lines that leave brackets open do not take each other', () => {
    const open = `${'{"x":[0,'}\n`.repeat(20_000);
    expect(names(decode(`{}\n${open}${object('a')}`).elements)).toEqual([
      'a',
      'missing_name',
      ...Array(20_000).fill('not_json'),
    ]);
  });
});
