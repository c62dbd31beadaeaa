import { expect, test } from 'vitest';
import { startProgram } from '../../src/servers/fanout-program.ts';
import { LIMIT_MS } from '../limits.ts';

test('a demo that sent nothing says so, and fails', async () => {
  const program = startProgram(['demo', '--rate', '1', '--duration', '100ms'], {});
  expect(await program.ended, program.output.stderr).toBe(130);
  expect(program.output.stdout).toContain('nothing was compared');
  expect(program.output.stderr).toBe('');
});

test('Ctrl-C before the end of --duration compares what was sent, and says that it was stopped', async () => {
  const program = startProgram(['demo', '--rate', '50', '--duration', '1h'], {});
  await expect
    .poll(() => program.output.stdout, { timeout: LIMIT_MS })
    .toMatch(/ [1-9][\d,]* messages? received/);
  // As a terminal does: to the whole process group.
  process.kill(-program.child.pid!, 'SIGINT');
  expect(await program.ended, program.output.stderr).toBe(130);
  expect(program.output.stderr).toBe('');
  expect(program.output.stdout).toContain('\nStopped. Waiting until every store');
  expect(program.output.stdout).toContain('Every store has exactly');
});
