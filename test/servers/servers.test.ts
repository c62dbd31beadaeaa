import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { expect, test } from 'vitest';
import { startProcess } from '../../src/servers/server-process.ts';

const STACK = new URL('../../src/servers/stack.ts', import.meta.url).href;

/** Starts all servers, prints their ports, and runs for ever. */
const PROGRAM = `
const { startStack } = await import('${STACK}');
const { nats, influxdb, postgres, dynamodb, folder } = await startStack();
console.log(JSON.stringify({ ports: [nats, influxdb, postgres, dynamodb].map(({ port }) => port), folder }));
setInterval(() => {}, 1e6);
`;

async function isListening(port: number): Promise<boolean> {
  const { connect } = await import('node:net');
  const socket = connect(port, '127.0.0.1');
  const answered = await Promise.race([once(socket, 'connect'), once(socket, 'error')]).then(
    () => !socket.pending,
    () => false,
  );
  socket.destroy();
  return answered;
}

test.each(['SIGKILL', 'SIGTERM', 'SIGINT'] as const)(
  'no server outlives the process that started it: %s',
  async (signal) => {
    const parent = spawn(process.execPath, ['--no-warnings', '--input-type=module', '-e', PROGRAM], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [line] = await once(createInterface({ input: parent.stdout }), 'line');
    const { ports } = JSON.parse(line as string) as { ports: number[]; folder: string };
    expect(await Promise.all(ports.map(isListening))).toEqual([true, true, true, true]);
    parent.kill(signal);
    const listening = () => Promise.all(ports.map(isListening));
    await expect.poll(listening).toEqual([false, false, false, false]);
  },
);

test('the error says that a program is not installed, or what it printed before it ended early', async () => {
  const never = async () => false;
  await expect(startProcess('no-such-program', [], never)).rejects.toThrow(
    'no-such-program: the program is not installed',
  );
  await expect(startProcess('sh', ['-c', 'echo no luck; exit 3'], never)).rejects.toThrow(
    /ended with 3\nno luck/,
  );
});
