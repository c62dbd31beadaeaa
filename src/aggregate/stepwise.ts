/** Long work in steps of a few milliseconds. Between two of them, the thread may do something else. */
export type Stepwise<T> = Generator<undefined, T, undefined>;

/** Does all of the work now, and returns what it comes to. */
export function atOnce<T>(steps: Stepwise<T>): T {
  for (;;) {
    const step = steps.next();
    if (step.done) return step.value;
  }
}
