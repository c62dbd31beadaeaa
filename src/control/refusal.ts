/** Why a request is refused: a code for programs, a message for people. */
import { Unanswerable } from '../recent/question.ts';

/** By code: the status, as in HTTP and in NATS micro services. */
const STATUSES = {
  not_json: 400,
  unknown_field: 400,
  missing_field: 400,
  bad_value: 400,
  range_too_long: 400,
  callback_refused: 400,
  not_replayable: 400,
  unauthorized: 401,
  forbidden: 403,
  unknown_sink: 404,
  unknown_operation: 404,
  unknown_instance: 404,
  unknown_task: 404,
  detached: 409,
  paused: 409,
  shared: 409,
  impossible: 409,
  over: 409,
  too_large: 413,
  bad_content_type: 415,
  busy: 429,
  failed: 500,
  cancelled: 500,
  not_configured: 501,
} as const;

export type RefusalCode = keyof typeof STATUSES;

export class Refusal extends Error {
  override readonly name = 'Refusal';
  readonly code: RefusalCode;
  /** The field of the request that is at fault, if one is. */
  readonly field: string | undefined;

  constructor(code: RefusalCode, message: string, field?: string) {
    super(message);
    this.code = code;
    this.field = field;
  }

  get status(): number {
    return STATUSES[this.code];
  }
}

/** Returns any error as a refusal. */
export function asRefusal(error: unknown): Refusal {
  if (error instanceof Refusal) return error;
  if (error instanceof Unanswerable) return new Refusal(error.code, error.message);
  return new Refusal('failed', String(error));
}
