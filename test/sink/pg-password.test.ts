import { expect, test } from 'vitest';
import { classifyPg } from '../../src/sink/pg/classify.ts';

test.each(['a string', 'a non-empty string'])('a password that is missing is said in words: %s', (what) => {
  const error = classifyPg(new Error(`SASL: SCRAM-SERVER-FIRST-MESSAGE: client password must be ${what}`));
  expect(error).toMatchObject({
    reason: 'unauthorized',
    message: 'the server asks for a password, and none is set',
    advice: expect.stringContaining('postgres://user:password@'),
  });
});
