import { expect, test } from 'vitest';
import { startProgram } from '../../src/servers/fanout-program.ts';

test('a demo that sent nothing says so, and fails', async () => {
  const program = startProgram(['demo', '--rate', '1', '--duration', '100ms'], {});
  expect(await program.ended, program.output.stderr).toBe(130);
  expect(program.output.stdout).toContain('nothing was compared');
  expect(program.output.stderr).toBe('');
});
