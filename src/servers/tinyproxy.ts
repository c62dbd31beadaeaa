/** A real HTTP proxy for the tests: Debian's package `tinyproxy-bin`. */
import { readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { freePort, type Server, startProcess, temporaryFolder } from './server-process.ts';

export interface HttpProxy extends Server {
  /** The hosts that it was asked for so far, each with its port. */
  asked(): string[];
}

export async function startProxy(): Promise<HttpProxy> {
  const folder = temporaryFolder('proxy');
  const port = await freePort();
  const [config, log] = ['tinyproxy.conf', 'tinyproxy.log'].map((name) => join(folder.path, name));
  const lines = [`Port ${port}`, 'Listen 127.0.0.1', 'Timeout 600', 'LogLevel Connect', `LogFile "${log}"`];
  writeFileSync(config!, `${lines.join('\n')}\n`);
  const server = await startProcess('tinyproxy', ['-d', '-c', config!], () => isOpen(port));
  return {
    port,
    url: `http://127.0.0.1:${port}`,
    asked: () => {
      const text = readFileSync(log!, 'utf8');
      const urls = text.matchAll(/^CONNECT .*?: (?:CONNECT|GET|POST) (?:https?:\/\/)?([^/ ]+)/gm);
      return [...new Set([...urls].map(([, host]) => host!))];
    },
    async stop() {
      await server.stop('SIGKILL');
      folder.remove();
    },
  };
}

function isOpen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => resolve(false));
  });
}
