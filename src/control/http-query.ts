/** Questions about the recent windows over HTTP. They are read-only, as the status is. */
import type { HttpReply, RecentCall } from '../observe/http-routes.ts';
import type { ControllerOptions } from './controller.ts';
import { asRefusal, Refusal } from './refusal.ts';
import { parseRequest, questionOf, type RequestOf } from './request.ts';

/** Those of which there may be several; `by` also separated by commas. */
const LISTS = ['where', 'by'];

export interface Questioned {
  readonly questions: ControllerOptions['questions'];
  readonly pipeline: string;
  readonly now: number;
}

/** Never rejects. `left` aborts when nobody waits for the reply any longer. */
export async function answerRecent(
  { kind, search }: RecentCall,
  { questions, pipeline, now }: Questioned,
  left?: AbortSignal,
): Promise<HttpReply> {
  try {
    const request = parseRequest(kind, Buffer.from(JSON.stringify(fieldsOf(search))), now);
    if (request.pipeline !== undefined && request.pipeline !== pipeline)
      throw new Refusal('unknown_instance', 'an instance of another pipeline runs at this address');
    const answer =
      kind === 'query'
        ? await questions.answer(questionOf(request as RequestOf<'query'>), left)
        : await questions.cardinality(left);
    return json(200, answer);
  } catch (error) {
    const { status, code, message, field } = asRefusal(error);
    return json(status, { error: { code, message, ...(field !== undefined && { field }) } });
  }
}

function fieldsOf(search: string): Record<string, unknown> {
  const fields: Record<string, unknown> = {};
  const params = new URLSearchParams(search);
  for (const key of new Set(params.keys())) {
    const values = params.getAll(key);
    const list = key === 'by' ? values.flatMap((each) => each.split(',')) : values;
    fields[key] = LISTS.includes(key) || values.length > 1 ? list : values[0];
  }
  return fields;
}

function json(code: number, body: object): HttpReply {
  return { code, type: 'application/json', body: `${JSON.stringify(body)}\n` };
}
