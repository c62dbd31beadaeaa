/**
 * A point as a message, and back. The headers alone say which key it has and whether it is the same as another one, so
 * that whoever looks for the newest message of a key needs no bodies.
 */
import { hash } from 'node:crypto';
import type { BusHeaders, BusMessage, Point, StoredMessage, StoredPoint } from '../../src/sink/index.ts';
import type { Config } from './config.ts';
import { decodeJson, encodeJson } from './json.ts';
import { decodeLine, encodeLine } from './line.ts';
import { escapeText, subjectOf } from './subject.ts';

const WINDOW = 'window';
const SERIES = 'series';
/** Only in core mode: see `Point`. Escaped as in subjects. */
const INSTANCE = 'instance';
/** On a message without a body: what was published before under its key is to be forgotten. */
const REMOVED = 'removed';
const TYPE = 'Content-Type';
export const MESSAGE_ID = 'Nats-Msg-Id';
const JSON_TYPE = 'application/json';
const LINE_TYPE = 'text/vnd.influx.line-protocol';
/** 64 bits: enough to tell the few values apart that one key ever has. */
const DIGEST_CHARACTERS = 16;
const NOTHING = new Uint8Array();

/** A message with what tells it from others. */
export interface Encoded extends BusMessage {
  /** Key and content. A correction of a window has another id than what it corrects, or a stream would drop it. */
  readonly id: string;
  readonly key: string;
}

export function encodePoint(point: Point, config: Config): Encoded {
  const isJson = config.format === 'json';
  const body = Buffer.from(isJson ? encodeJson(point) : encodeLine(point));
  return messageOf(point, config, body, { [TYPE]: isJson ? JSON_TYPE : LINE_TYPE });
}

/** Says that the point is gone. */
export function encodeRemoval(point: Point, config: Config): Encoded {
  return messageOf(point, config, NOTHING, { [REMOVED]: 'true' });
}

function messageOf(point: Point, config: Config, body: Uint8Array, more: BusHeaders): Encoded {
  const { series, windowStart, instance } = point;
  const by = instance === '' ? '' : escapeText(instance);
  const digest = hash('sha256', Buffer.concat([Buffer.from(`${by}\n`), body]), 'hex');
  const id = `${windowStart}-${series.id}-${digest.slice(0, DIGEST_CHARACTERS)}`;
  const headers = {
    [WINDOW]: String(windowStart),
    [SERIES]: series.id,
    ...(by === '' ? {} : { [INSTANCE]: by }),
    ...more,
  };
  return {
    subject: subjectOf(config.subject, series.name),
    headers,
    body,
    id,
    key: keyText(windowStart, series.id, by),
  };
}

export interface MessageKey {
  readonly text: string;
  readonly windowStart: number;
  readonly series: string;
}

/** Undefined if the message is none of ours: anyone may publish on these subjects. */
export function keyOf(message: StoredMessage): MessageKey | undefined {
  const [window, series] = [message.header(WINDOW), message.header(SERIES)];
  if (!/^\d{1,16}$/.test(window) || !/^[0-9a-f]{32}$/.test(series)) return undefined;
  return { text: keyText(window, series, message.header(INSTANCE)), windowStart: Number(window), series };
}

function keyText(window: string | number, series: string, instance: string): string {
  return `${window} ${series} ${instance}`;
}

/** Undefined if it says that the point is gone, or is none of ours. */
export function decodePoint(message: StoredMessage): StoredPoint | undefined {
  if (message.header(REMOVED) !== '') return undefined;
  const text = Buffer.from(message.body).toString();
  try {
    const row = message.header(TYPE) === LINE_TYPE ? decodeLine(text) : decodeJson(text);
    const id = message.header(SERIES);
    return row && { ...row, series: row.series.id === id ? row.series : { ...row.series, id } };
  } catch {
    return undefined;
  }
}
