/** Commands that ask a service: what they say where there is none. */
import { once } from 'node:events';
import { createServer as createHttpServer } from 'node:http';
import type { AddressInfo, Server } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startProgram } from '../../src/servers/fanout-program.ts';
import { type NatsServer, startNats } from '../../src/servers/nats.ts';
import { freePort } from '../../src/servers/server-process.ts';

let nats: NatsServer;
let other: Server;
let foreign: string;

beforeAll(async () => {
  nats = await startNats();
  other = createHttpServer((_, answer) => answer.writeHead(405).end('GET / only')).listen(0, '127.0.0.1');
  await once(other, 'listening');
  foreign = `http://127.0.0.1:${(other.address() as AddressInfo).port}`;
});
afterAll(async () => {
  other.close();
  await nats.stop();
});

async function run(...args: string[]) {
  const program = startProgram(args, { NATS_URL: nats.url });
  return { code: await program.ended, ...program.output };
}

const ASKING: readonly string[][] = [['ask'], ['cardinality'], ['ctl', 'status'], ['compare', '--once']];

test.each(ASKING)('%s: a URL of another form is an error of usage', async (...command) => {
  for (const url of ['localhost:9464', 'foo']) {
    const { code, stderr } = await run(...command, '--url', url);
    expect(stderr).toContain(`'${url}' is invalid. Expected a URL such as http://127.0.0.1:9464.`);
    expect(stderr).not.toContain('    at ');
    expect(code).toBe(1);
  }
});

test.each(ASKING)('%s: says that what answers at a URL is something else', async (...command) => {
  const bus = nats.url.replace(/^nats:/, 'http:');
  // compare says the status instead: a proxy may answer.
  for (const url of command[0] === 'compare' ? [bus] : [`${foreign}/api`, bus]) {
    const { code, stdout, stderr } = await run(...command, '--url', url);
    expect(stdout + stderr).toMatch(
      /: what answers there is not metrics-fanout\W+Is the service running there/,
    );
    expect(stderr).not.toContain('    at ');
    expect(code).toBe(1);
  }
});

test.each(ASKING.slice(0, 3))('%s: first asks whether a service is running', async (...command) => {
  const away = `http://127.0.0.1:${await freePort()}`;
  const gone = await run(...command, '--url', away);
  expect(gone.stderr).toContain(`metrics-fanout: ${away}: ECONNREFUSED\n  Is the service running there?`);
  const nobody = await run(...command);
  expect(nobody.stderr).toMatch(
    /no instance of the pipeline \w+ answers on the bus\n {2}Is the service running\?/,
  );
  expect([gone.code, nobody.code]).toEqual([1, 1]);
});
