/**
 * Control over HTTP, for an instance that is not on the bus: POST /control/<instance or all>/<operation>. Over TCP it
 * takes CONTROL_TOKEN, wherever the request comes from; over the control socket it takes none.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import { EVERY_INSTANCE } from '../bus/control.ts';
import type { Entrance, HttpReply, RequestHead, ServiceRequest } from '../observe/http-routes.ts';
import type { ControlAnswer, Controller } from './controller.ts';
import { Refusal } from './refusal.ts';
import { MAX_REQUEST_BYTES } from './request.ts';

const PATH = /^\/control\/([A-Za-z0-9_-]{1,64})\/([a-z.]{1,64})$/;
const TYPE = 'application/json';
const NO_TOKEN =
  'control over TCP needs a token. Set CONTROL_TOKEN for the service and for ctl, or run ctl as the user of the service on its machine, or in its pod: there it uses CONTROL_SOCKET.';

export interface HttpControlOptions {
  readonly controller: Controller;
  readonly instance: string;
  readonly token: string | undefined;
  readonly entrance: Entrance;
}

/** Never rejects. */
export async function answerControl(
  request: ServiceRequest,
  options: HttpControlOptions,
): Promise<HttpReply> {
  const { status, body } = await answerOf(request, options);
  return { code: status, type: TYPE, body: `${body}\n` };
}

async function answerOf(
  request: ServiceRequest,
  { controller, instance, token, entrance }: HttpControlOptions,
): Promise<ControlAnswer> {
  try {
    // Only the user of the service can open the socket.
    if (entrance === 'tcp') admit(request, token);
    const [, target, operation] = PATH.exec(request.url) ?? [];
    if (request.method !== 'POST' || target === undefined || operation === undefined)
      throw new Refusal('unknown_operation', `POST /control/<instance or ${EVERY_INSTANCE}>/<operation>`);
    // A page of another origin cannot send this type without asking first, and this server never agrees.
    if (request.headers['content-type']?.split(';', 1)[0]?.trim().toLowerCase() !== TYPE)
      throw new Refusal('bad_content_type', `the content-type must be ${TYPE}`);
    const isMeant = target === EVERY_INSTANCE || target === instance;
    const via = entrance === 'tcp' ? 'http' : entrance;
    const answer = isMeant ? await controller.handle(operation, bodyOf(request), via) : undefined;
    if (answer === undefined) throw new Refusal('unknown_instance', 'another instance runs at this address');
    return answer;
  } catch (error) {
    return controller.refuse(error);
  }
}

function admit({ headers }: RequestHead, token: string | undefined): void {
  if (token === undefined) throw new Refusal('forbidden', NO_TOKEN);
  const given = /^Bearer (.+)$/i.exec(headers.authorization ?? '')?.[1] ?? '';
  if (timingSafeEqual(digest(given), digest(token))) return;
  throw new Refusal(
    'unauthorized',
    'the token is missing or wrong. Send CONTROL_TOKEN as Authorization: Bearer <token>.',
  );
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

function bodyOf({ body }: ServiceRequest): Uint8Array {
  if (body === 'too_large')
    throw new Refusal('too_large', `the request has more than ${MAX_REQUEST_BYTES} bytes`);
  return body;
}
