/** Reads what a nats-server sends first, before any sign-in. */
import { connect } from 'node:net';

const GREETING_TIMEOUT_MS = 2_000;
const MAX_GREETING_CHARACTERS = 65_536;

/**
 * Resolves to whether the server at `address` (host:port) asks its clients for a certificate. With TLS 1.3, a client
 * without one is rejected only after it thinks it is connected, and then gets no further reply.
 */
export async function asksForCertificate(address: string): Promise<boolean> {
  const match = /^\s*INFO\s+(\{.*\})/.exec(await firstLine(address));
  try {
    const info: { tls_verify?: unknown } = JSON.parse(match?.[1] ?? '{}');
    return info.tls_verify === true;
  } catch {
    return false;
  }
}

function firstLine(address: string): Promise<string> {
  const { hostname, port } = new URL(`tcp://${address}`);
  return new Promise((resolve) => {
    let text = '';
    const socket = connect(Number(port), hostname.replace(/^\[|\]$/g, ''));
    const settle = () => {
      socket.destroy();
      resolve(text);
    };
    socket.setTimeout(GREETING_TIMEOUT_MS, settle);
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1');
      if (text.includes('\n') || text.length > MAX_GREETING_CHARACTERS) settle();
    });
    socket.once('error', settle);
    socket.once('close', settle);
  });
}
