import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Refusal } from '../../src/control/refusal.ts';
import { isOperation, MAX_REQUEST_BYTES, OPERATIONS, parseRequest } from '../../src/control/request.ts';

const NOW = Date.parse('2026-11-24T12:00:00Z');
const parse = (name: string, text: string) => {
  if (!isOperation(name)) throw new Error(`no operation ${name}`);
  return parseRequest(name, Buffer.from(text), NOW);
};

function refusal(name: string, text: string): Refusal {
  try {
    parse(name, text);
  } catch (error) {
    if (error instanceof Refusal) return error;
    throw error;
  }
  throw new Error('the request was accepted');
}

describe('a request', () => {
  test('is parsed; an empty body is an empty request, and a null counts as left out', () => {
    expect(parse('status', '')).toEqual({ operation: 'status' });
    const verify = '{"name":"http.*","from":"2026-11-24T10:00:00Z"}';
    expect(parse('verify', verify)).toMatchObject({ operation: 'verify', name: 'http.*' });
    expect(parse('detach', '{"keepControl":true,"callback":null}')).toEqual({
      operation: 'detach',
      keepControl: true,
    });
    expect(
      parse('replay', '{"sink":"a","from":"2026-11-24T10:00:00Z","to":"2026-11-24T12:00:00+01:00"}'),
    ).toEqual({
      operation: 'replay',
      sink: 'a',
      from: Date.parse('2026-11-24T10:00:00Z'),
      to: Date.parse('2026-11-24T11:00:00Z'),
    });
  });

  test.each([
    ['status', '{', 'not_json', undefined],
    ['status', '\xff\xfe', 'not_json', undefined],
    ['status', '[]', 'not_json', undefined],
    ['status', '"status"', 'not_json', undefined],
    ['status', 'null', 'not_json', undefined],
    ['status', '{"sink":"a"}', 'unknown_field', 'sink'],
    ['status', '{"__proto__":{"a":1}}', 'unknown_field', '__proto__'],
    ['status', '{"constructor":1}', 'unknown_field', 'constructor'],
    ['status', `{"pipeline":"${'x'.repeat(257)}"}`, 'bad_value', 'pipeline'],
    ['status', `{"a":"${'x'.repeat(MAX_REQUEST_BYTES)}"}`, 'too_large', undefined],
    ['status', '['.repeat(10_000), 'not_json', undefined],
    ['sink.pause', '{}', 'missing_field', 'sink'],
    ['sink.pause', '{"sink":null}', 'missing_field', 'sink'],
    ['sink.pause', '{"sink":["a"]}', 'bad_value', 'sink'],
    ['sink.pause', '{"sink":""}', 'bad_value', 'sink'],
    ['sink.pause', '{"sink":7}', 'bad_value', 'sink'],
    ['replay', '{"sink":"a"}', 'missing_field', 'from'],
    ['replay', '{"sink":"a","from":1700000000000}', 'bad_value', 'from'],
    ['replay', '{"sink":"a","from":"yesterday"}', 'bad_value', 'from'],
    ['replay', '{"sink":"a","from":"2026-11-24T11:00:00Z","to":"2026-11-24T10:00:00Z"}', 'bad_value', 'from'],
    ['replay', '{"sink":"a","from":"2099-01-01T00:00:00Z"}', 'bad_value', 'from'],
    ['verify', '{"from":"2026-10-01T00:00:00Z"}', 'range_too_long', 'from'],
    ['verify', '{"from":"2020-01-01T00:00:00Z","to":"2021-01-01T00:00:00Z"}', 'range_too_long', 'from'],
    ['detach', '{"keepControl":"yes"}', 'bad_value', 'keepControl'],
    ['detach', '{"callback":"not a url"}', 'bad_value', 'callback'],
    ['profile.cpu', '{"seconds":0}', 'bad_value', 'seconds'],
    ['profile.cpu', '{"seconds":61}', 'bad_value', 'seconds'],
    ['profile.cpu', '{"seconds":"5"}', 'bad_value', 'seconds'],
    ['profile.cpu', '{"seconds":1e999}', 'bad_value', 'seconds'],
  ])('%s %s is refused: %s', (name, text, code, field) => {
    const { code: found, field: at, status } = refusal(name, text);
    expect([found, at]).toEqual([code, field]);
    expect(status).toBeGreaterThanOrEqual(400);
    expect(status).toBeLessThan(500);
  });

  test('is accepted or refused in few words, whatever it contains', () => {
    const names = Object.keys(OPERATIONS);
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 200 }),
      fc.json().map((text) => Buffer.from(text)),
      fc
        .dictionary(fc.constantFrom('sink', 'from', 'to', 'id', 'seconds', 'callback', 'x'), fc.jsonValue())
        .map((value) => Buffer.from(JSON.stringify(value))),
    );
    fc.assert(
      fc.property(fc.constantFrom(...names), bytes, (name, given) => {
        try {
          if (isOperation(name)) parseRequest(name, given, NOW);
        } catch (error) {
          expect(error).toBeInstanceOf(Refusal);
          expect((error as Error).message.length).toBeLessThan(1000);
        }
      }),
    );
  });
});
