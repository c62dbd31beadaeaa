import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const LOG = fileURLToPath(new URL('../../src/base/log.ts', import.meta.url));

test('the log escapes what acts on a terminal or is invisible, and parses back to the same names', () => {
  const names = [
    'a\u00adb',
    'a\u200bb',
    '\u202etxt',
    '\u009b2J',
    '\u{e0061}x',
    'a "b"\\ ü 漢字 😀',
    '\ud800x',
  ];
  const script = `
    const { createLog } = await import(${JSON.stringify(LOG)});
    createLog('info').warn({ names: ${JSON.stringify(names)}, deep: { name: 'a\\u2060b' } }, 'said\\u200b so');
  `;
  const { stderr } = spawnSync(process.execPath, ['--no-warnings', '--input-type=module', '-e', script], {
    encoding: 'utf8',
  });
  expect(stderr.endsWith('}\n')).toBe(true);
  expect(JSON.parse(stderr)).toMatchObject({ names, deep: { name: 'a\u2060b' }, msg: 'said\u200b so' });
  expect(stderr.trimEnd()).not.toMatch(/[\p{Cc}\p{Cf}\p{Cs}]/u);
});
