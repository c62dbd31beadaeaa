import fc from 'fast-check';
import { expect, test } from 'vitest';
import { loadConfig } from '../../src/config/config.ts';
import { secretsOf } from '../../src/config/config-secrets.ts';
import { setting } from '../../src/settings/builders.ts';
import { Masker } from '../../src/settings/masker.ts';
import type { WriteOutcome } from '../../src/sink/contract.ts';
import { defineSink } from '../../src/sink/contract.ts';
import { createSink } from '../../src/sink/masked-sink.ts';

function masked(secrets: readonly string[], text: string, cuts: readonly number[] = []): string {
  const masker = new Masker(secrets);
  const ends = [...cuts.map((cut) => cut % (text.length + 1)).sort((a, b) => a - b), text.length];
  let [out, from] = ['', 0];
  for (const end of ends) {
    out += masker.push(text.slice(from, end));
    from = end;
  }
  return out + masker.end();
}

test('a secret is masked as it is, in JSON and in URLs, wherever the text is cut', () => {
  fc.assert(
    fc.property(
      fc.string({ minLength: 4, maxLength: 12, unit: 'grapheme' }),
      fc.array(fc.string()),
      fc.array(fc.nat()),
      (secret, around, cuts) => {
        const text = [...around, secret, JSON.stringify(secret), ...around, secret].join('|');
        const found = masked([secret], text, cuts);
        if (!'***'.includes(secret)) expect(found).not.toContain(secret);
      },
    ),
  );
  expect(masked(['p"ä\n/s'], 'a p\\"\\u00E4\\n/s b p%22%C3%A4%0A%2Fs c')).toBe('a *** b *** c');
});

test('a whole text is masked even if it was cut in the middle of a secret, and in base64', () => {
  fc.assert(
    fc.property(
      fc.string({ minLength: 6, maxLength: 20 }),
      fc.string(),
      fc.string(),
      fc.nat(),
      (secret, before, after, cut) => {
        const masker = new Masker([secret]);
        const text = before + secret + after;
        const kept = before.length + 4 + (cut % (secret.length - 4));
        // If the secret has stars itself, the mask looks like a part of it.
        if (!before.includes(secret.slice(0, 4)) && !secret.slice(0, 4).includes('*'))
          expect(masker.mask(text.slice(0, kept))).not.toContain(secret.slice(0, 4));
        const encoded = Buffer.from(`user:${secret}`).toString('base64');
        expect(masker.mask(encoded)).not.toBe(encoded);
      },
    ),
  );
  expect(new Masker(['swordfish']).mask('refused: key=swordf')).toBe('refused: key=***');
  expect(new Masker(['valu valu ']).mask('key=valu valu')).toBe('key=***');
});

test('a secret that is part of another one, or overlaps it, does not give the other away', () => {
  const secrets = ['hunter2-secret-XYZ', 'secret', 'XYZ-next'];
  const text = 'a=hunter2-secret-XYZ b=secret c=hunter2-secret-XYZ-next';
  for (let cut = 0; cut <= text.length; cut++) {
    for (let second = cut; second <= text.length; second++)
      expect(masked(secrets, text, [cut, second]), `${cut}, ${second}`).toBe('a=*** b=*** c=***');
  }
  expect(new Masker(secrets).mask(text)).toBe('a=*** b=*** c=***');
  expect(new Masker(secrets).mask('a=hunter2-secret-')).toBe('a=***');
});

test('what is not a secret stays, to the last character', () => {
  fc.assert(
    fc.property(fc.string(), fc.array(fc.nat()), (text, cuts) => {
      expect(masked([], text, cuts)).toBe(text);
      expect(masked(['\u{10ffff}never here'], text, cuts)).toBe(text);
    }),
  );
  expect(masked(['abc'], 'abc')).toBe('abc');
});

test('the secrets of all settings are known: of the bus, of every sink, of URLs', async () => {
  const env = {
    NATS_URL: 'nats://fan:pl%40nted-1@a:4222,b:4222',
    CONTROL_TOKEN: 'planted-2-of-the-control',
    CONTROL_CALLBACK_SECRET: 'user:pl@nted-3',
    SINK_REDSHIFT_ENABLED: 'true',
    SINK_REDSHIFT_URL: 'postgres://u:planted-4@host/db',
    SINK_INFLUXDB_ENABLED: 'true',
    SINK_INFLUXDB_URL: 'http://influx:8086',
    SINK_INFLUXDB_ORG: 'o',
    SINK_INFLUXDB_BUCKET: 'b',
    SINK_INFLUXDB_TOKEN: 'planted-5',
    SINK_OTLP_ENABLED: 'true',
    SINK_OTLP_URL: 'http://otlp:4318/v1/metrics?key=planted-7',
    SINK_OTLP_HEADERS: 'authorization=Bearer planted-8',
    AWS_SECRET_ACCESS_KEY: 'planted-6',
  };
  const found = secretsOf(await loadConfig(env), env);
  for (const secret of [
    'pl@nted-1',
    'pl%40nted-1',
    'user:pl@nted-3',
    'planted-2-of-the-control',
    ...[4, 5, 6, 7, 8].map((n) => `planted-${n}`),
  ])
    expect(found).toContain(secret);
  expect(found).not.toContain('o');
});

test('a sink that cannot be created reveals no secret', () => {
  const module = defineSink({
    kind: 'broken',
    summary: 'for a test',
    settings: { token: setting.secret({ meaning: 'what nobody may see', required: true }) },
    limits: { maxPoints: 1, maxBytes: 1, inFlight: 1 },
    create({ token }) {
      throw new Error(`no such token: ${token}`);
    },
  });
  const described = { id: 'broken', module, values: { token: 'hunter2-hunter2' } };
  expect(() => createSink(described as never, { info() {}, warn() {} }, {})).toThrow('no such token: ***');
});

test('what a store says of points that it dropped holds no secret', async () => {
  const told = (message: string): WriteOutcome => ({
    kind: 'partial',
    retry: [],
    rejected: [{ index: 0, reason: 'refused', message }],
    unidentified: { count: 2, message },
  });
  const module = {
    settings: { token: setting.secret({ meaning: 'a token' }) },
    create: () => ({ write: async () => told('no such token: hunter2-hunter2') }),
  };
  const described = { id: 't', module, values: { token: 'hunter2-hunter2' } };
  const sink = createSink(described as never, { info() {}, warn() {} }, {});
  const outcome = await sink.write({ points: [] }, new AbortController().signal);
  expect(outcome).toEqual(told('no such token: ***'));
});
