import { partly, rejected } from '../counts.ts';
import { type Message, published, repeated } from './kind.ts';

const PER_SECOND = 300;
const LONG = 50_000;
const sample = (fields: string) => `{"name":"hostile.garbage","type":"counter","value":1,${fields}}`;
const manyTags = Array.from({ length: 65 }, (_, i) => `"k${i}":1`).join(',');

const MESSAGES: readonly Message[] = [
  { payload: '', counts: rejected('empty') },
  { payload: ' '.repeat(LONG), counts: rejected('empty') },
  { payload: Buffer.alloc(LONG, 0xff), counts: rejected('not_json') },
  { payload: '{"name":', counts: rejected('not_json') },
  { payload: '['.repeat(LONG), counts: rejected('too_deep') },
  { payload: `"${'x'.repeat(LONG)}"`, counts: rejected('not_an_object') },
  { payload: '{"type":"counter","value":1}', counts: rejected('missing_name') },
  { payload: '{"name":"hostile.garbage","type":"set","value":1}', counts: rejected('bad_type') },
  { payload: '{"name":"hostile.garbage","type":"gauge","value":1e999}', counts: rejected('bad_value') },
  { payload: '{"name":"a\\u0000b","type":"gauge","value":1}', counts: rejected('bad_name') },
  { payload: sample('"type":"gauge"'), counts: rejected('duplicate_key') },
  { payload: sample('"timestamp":"yesterday"'), counts: rejected('bad_timestamp') },
  { payload: sample('"tags":{"a":"\\ud800"}'), counts: rejected('bad_unicode') },
  { payload: sample(`"tags":{"a":"${'x'.repeat(LONG)}"}`), counts: rejected('too_long') },
  { payload: sample(`"tags":{${manyTags}}`), counts: rejected('too_many_dimensions') },
  { payload: 'hostile.garbage value=1 yesterday', counts: partly({ bad_timestamp: 1 }) },
  { payload: '{}', headers: { 'Content-Encoding': 'br' }, counts: rejected('unknown_encoding') },
  { payload: '{}', headers: { 'Content-Encoding': 'gzip' }, counts: rejected('bad_encoding') },
];

export default published({
  tries: 'messages that are empty, broken, too long, too deep or in no encoding that is read',
  perSecond: PER_SECOND,
  messages: repeated(MESSAGES),
});
