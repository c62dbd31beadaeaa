/** Looks at what a nats-server says to a client that does not sign in. */
import { connect, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';

const GREETING_TIMEOUT_MS = 2_000;
/** A server that refuses everybody says so right after its first line. */
const REFUSAL_TIMEOUT_MS = 200;
const MAX_GREETING_CHARACTERS = 65_536;
const INFO = /^\s*INFO\s+(\{.*\})/;
const REFUSAL = /^-ERR\s+'([^']{1,200})'/m;
/** The other side ended the handshake by TLS's own means, so it speaks it. */
const TLS_ALERT = /^ERR_SSL_.*ALERT/;

/** What a server says first. */
export interface Greeting {
  /**
   * It asks its clients for a certificate. With TLS 1.3, a client without one is rejected only after it thinks it is
   * connected, and then gets no further reply.
   */
  readonly asksForCertificate: boolean;
  /** Why it takes nobody: too many connections, say. */
  readonly refusal: string | undefined;
  /** It says nothing until the client has begun TLS (`handshake_first`). */
  readonly isTlsFirst: boolean;
}

/** Asks the server at `address` (host:port). Resolves in any case, after twice `GREETING_TIMEOUT_MS` at the latest. */
export async function greetingOf(address: string): Promise<Greeting> {
  const { hostname, port } = new URL(`tcp://${address}`);
  const to = { host: hostname.replace(/^\[|\]$/g, ''), port: Number(port) };
  const { text, isConnected } = await firstWords(connect(to));
  const asksForCertificate = infoIn(text).tls_verify === true;
  const refusal = REFUSAL.exec(text)?.[1];
  const isTlsFirst = text === '' && isConnected && (await speaksTls(to));
  return { asksForCertificate, refusal, isTlsFirst };
}

function infoIn(text: string): { readonly tls_verify?: unknown } {
  try {
    return JSON.parse(INFO.exec(text)?.[1] ?? '{}');
  } catch {
    return {};
  }
}

/** The first line, and the next if it follows at once. */
function firstWords(socket: Socket): Promise<{ readonly text: string; readonly isConnected: boolean }> {
  return new Promise((resolve) => {
    let text = '';
    let isConnected = false;
    const settle = () => {
      socket.destroy();
      resolve({ text, isConnected });
    };
    socket.setTimeout(GREETING_TIMEOUT_MS, settle);
    socket.once('connect', () => {
      isConnected = true;
    });
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1');
      if (text.includes('\n')) socket.setTimeout(REFUSAL_TIMEOUT_MS, settle);
      if (text.length > MAX_GREETING_CHARACTERS) settle();
    });
    socket.once('error', settle);
    socket.once('close', settle);
  });
}

function speaksTls(to: { readonly host: string; readonly port: number }): Promise<boolean> {
  return new Promise((resolve) => {
    // Nothing is sent over it.
    const socket = connectTls({ ...to, rejectUnauthorized: false });
    const settle = (speaks: boolean) => {
      socket.destroy();
      resolve(speaks);
    };
    socket.setTimeout(GREETING_TIMEOUT_MS, () => settle(false));
    socket.once('secureConnect', () => settle(true));
    socket.once('error', ({ code }: NodeJS.ErrnoException) => settle(TLS_ALERT.test(code ?? '')));
    socket.once('close', () => settle(false));
  });
}
