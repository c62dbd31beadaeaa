import { setting, type Values } from '../../src/sink/index.ts';

/** Leaves room for a name in the 4,096 bytes that nats-server takes for the first line of a message. */
const MAX_PREFIX_CHARACTERS = 200;
/** JetStream's API, its buckets and the system's own subjects begin with a `$`, and inboxes with an underscore. */
const PREFIX = /^[A-Za-z0-9-][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*$/;

export const settings = {
  subject: setting.custom(
    parsePrefix,
    'a subject without wildcards, of letters, digits, - and _, which does not begin with _',
    {
      meaning: 'how the subjects begin on which windows are published: <SUBJECT>.<name>',
      default: 'fanout.windows',
    },
  ),
  format: setting.choice(['json', 'influx'], {
    meaning:
      'json: an object with the columns of the SQL stores; influx: a line of line protocol, in nanoseconds',
    default: 'json',
  }),
  delivery: setting.choice(['stream', 'core'], {
    meaning:
      'stream: a point is written once the stream that captures <SUBJECT>.> has acknowledged it; core: plain NATS, at most once: a point counts as written once the server has read it, even if nobody listens, and nothing can be read back',
    default: 'stream',
  }),
};

export type Config = Values<typeof settings>;

function parsePrefix(text: string): string | undefined {
  return text.length <= MAX_PREFIX_CHARACTERS && PREFIX.test(text) ? text : undefined;
}

/** The subjects of all windows. */
export function windowSubjects({ subject }: Config): string {
  return `${subject}.>`;
}
