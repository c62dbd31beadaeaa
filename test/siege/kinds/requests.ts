/** Users of the example who ask for more than is theirs, or more often than is decent. */
import { OPERATIONS } from '../../../src/control/request.ts';
import { ELSEWHERE } from '../../e2e/bus-users.ts';
import { type Request, requesting } from './kind.ts';

const PER_SECOND = 50;
const control = (operation: string) => `fanout.control.all.${operation}`;
const LOOKS = [control('status'), control('config'), '$SRV.PING.metrics-fanout'];
const ALL = [...Object.keys(OPERATIONS).map(control), '$SRV.PING.metrics-fanout'];
/** Each of the operations would do something with it. */
const VALID = JSON.stringify({ sink: 'sqlite' });
const BROKEN = ['', '{', '[]', '{"sink":"nobody"}', '{"surplus":1}', `{"sink":"${'x'.repeat(20_000)}"}`];
/** They come first: on a busy machine, a short siege does not get to the end of a list. */
const FORBIDDEN = [
  '$JS.API.STREAM.PURGE.METRICS',
  '$JS.API.STREAM.DELETE.METRICS',
  '$JS.API.CONSUMER.CREATE.METRICS',
  '$KV.fanout-checkpoints.default.sqlite.0-1',
  'scratch',
  'metrics',
];

const asking = (
  subjects: readonly string[],
  replies: readonly string[],
  bodies: readonly string[],
): Request[] =>
  subjects.flatMap((subject) => replies.flatMap((reply) => bodies.map((body) => ({ subject, reply, body }))));

export const viewer = requesting(
  'a viewer who asks for the status all the time, for more than that, and for answers elsewhere',
  'viewer',
  PER_SECOND,
  [
    ...asking([control('sink.pause'), control('detach'), ...FORBIDDEN], ['_INBOX.viewer.hostile'], [VALID]),
    ...asking(LOOKS, ELSEWHERE, ['']),
    ...asking(LOOKS, Array(10).fill('_INBOX.viewer.hostile'), ['']),
  ],
);

export const operator = requesting(
  'an operator whose requests are broken, or want to be answered elsewhere, and who also asks beyond control',
  'operator',
  PER_SECOND,
  [
    ...asking(FORBIDDEN, ['_INBOX.operator.hostile'], [VALID]),
    ...asking(ALL, ELSEWHERE, [VALID]),
    ...asking([control('sink.pause'), control('replay')], ['_INBOX.operator.hostile'], BROKEN),
    ...asking(LOOKS, ['_INBOX.operator.hostile'], ['']),
  ],
);

export const apps = requesting(
  'another service, free in its own account, which tries control, the stream and the checkpoints from there',
  'apps',
  PER_SECOND,
  asking([...ALL, ...FORBIDDEN.filter((subject) => subject !== 'metrics')], ELSEWHERE, [VALID]),
);
