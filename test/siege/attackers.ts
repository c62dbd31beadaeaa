/** A process in which all hostile users are, each with its own connections. It is told to begin, and then to end. */

import { KINDS } from './kinds/index.ts';
import { type Field, type Outcome, subjectOf } from './kinds/kind.ts';

export type Order = 'end' | (Omit<Field, 'subject'> & { readonly kinds: readonly string[] });

const over = new AbortController();
let outcomes: Promise<(readonly [string, Outcome])[]> | undefined;

process.on('message', (order: Order) => {
  if (order !== 'end') {
    outcomes = Promise.all(
      order.kinds.map(async (name) => {
        const field = { ...order, subject: subjectOf(name) };
        return [name, await KINDS[name]!.run(field, over.signal)] as const;
      }),
    );
    process.send!('begun');
    return;
  }
  over.abort();
  void outcomes?.then((all) => process.send!(Object.fromEntries(all)));
});
process.on('disconnect', () => process.exit());
process.send!('ready');
