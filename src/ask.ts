/** HTTP to services of ours on any port: `fetch` refuses some that HTTP_PORT may name, such as 6000 and 10080. */
import { once } from 'node:events';
import http, { type IncomingMessage } from 'node:http';
import https from 'node:https';
import { text } from 'node:stream/consumers';

export interface Asking {
  readonly method?: 'GET' | 'POST';
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly signal: AbortSignal;
}

export interface Answer {
  readonly status: number;
  readonly text: string;
}

/** Redirects are answers like any other. Rejects where there is no answer: with the signal's reason where that aborts. */
export async function ask(
  url: string,
  { method = 'GET', headers = {}, body, signal }: Asking,
): Promise<Answer> {
  const { request } = url.startsWith('https:') ? https : http;
  try {
    const outgoing = request(url, { method, headers, signal, agent: false });
    // Once there is an answer, an error shows in its body.
    outgoing.on('error', () => {});
    outgoing.end(body);
    const [answer] = (await once(outgoing, 'response')) as [IncomingMessage];
    return { status: answer.statusCode ?? 0, text: await text(answer) };
  } catch (error) {
    throw signal.aborted ? signal.reason : error;
  }
}
