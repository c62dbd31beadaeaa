/**
 * Control over HTTP, for an instance that is not on the bus: POST /control/<instance or all>/<operation>. If no token
 * is set, only requests from this machine are accepted, and none from a page in a browser that runs here.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { EVERY_INSTANCE } from '../bus/control.ts';
import type { HttpReply } from '../observe/http-server.ts';
import type { ControlAnswer, Controller } from './controller.ts';
import { Refusal } from './refusal.ts';
import { MAX_REQUEST_BYTES } from './request.ts';

const PATH = /^\/control\/([A-Za-z0-9_-]{1,64})\/([a-z.]{1,64})$/;
const LOOPBACK = /^(127(\.\d{1,3}){3}|::1|::ffff:127(\.\d{1,3}){3})$/;
const LOOPBACK_HOST = /^(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?$/i;
const TYPE = 'application/json';

export interface HttpControlOptions {
  readonly controller: Controller;
  readonly instance: string;
  readonly token: string | undefined;
}

/** Never rejects. */
export async function answerControl(
  request: IncomingMessage,
  options: HttpControlOptions,
): Promise<HttpReply> {
  const { status, body } = await answerOf(request, options);
  return { code: status, type: TYPE, body: `${body}\n` };
}

async function answerOf(
  request: IncomingMessage,
  { controller, instance, token }: HttpControlOptions,
): Promise<ControlAnswer> {
  try {
    admit(request, token);
    const [, target, operation] = PATH.exec(request.url ?? '') ?? [];
    if (request.method !== 'POST' || target === undefined || operation === undefined)
      throw new Refusal('unknown_operation', `POST /control/<instance or ${EVERY_INSTANCE}>/<operation>`);
    // A page of another origin cannot send this type without asking first, and this server never agrees.
    if (request.headers['content-type']?.split(';', 1)[0]?.trim().toLowerCase() !== TYPE)
      throw new Refusal('bad_content_type', `the content-type must be ${TYPE}`);
    const isMeant = target === EVERY_INSTANCE || target === instance;
    const answer = isMeant ? controller.handle(operation, await bodyOf(request)) : undefined;
    if (answer === undefined) throw new Refusal('unknown_instance', 'another instance runs at this address');
    return answer;
  } catch (error) {
    return controller.refuse(error);
  }
}

function admit({ headers, socket }: IncomingMessage, token: string | undefined): void {
  if (token !== undefined) {
    const given = /^Bearer (.+)$/i.exec(headers.authorization ?? '')?.[1] ?? '';
    if (timingSafeEqual(digest(given), digest(token))) return;
    throw new Refusal(
      'unauthorized',
      'the token is missing or wrong. Send CONTROL_TOKEN as Authorization: Bearer <token>.',
    );
  }
  // A proxy on this machine passes on requests from elsewhere. Another host name that resolves to this machine may be a
  // trick of a page (DNS rebinding).
  const isPassedOn = headers.forwarded !== undefined || headers['x-forwarded-for'] !== undefined;
  const isLocal = LOOPBACK.test(socket.remoteAddress ?? '') && LOOPBACK_HOST.test(headers.host ?? '');
  if (isPassedOn || !isLocal)
    throw new Refusal('forbidden', 'without CONTROL_TOKEN, control over HTTP is only for this machine');
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  // The connection stays open, so that a sender of too much gets the refusal.
  for await (const chunk of request.iterator({ destroyOnReturn: false })) {
    bytes += (chunk as Buffer).length;
    if (bytes > MAX_REQUEST_BYTES)
      throw new Refusal('too_large', `the request has more than ${MAX_REQUEST_BYTES} bytes`);
    chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks);
}
