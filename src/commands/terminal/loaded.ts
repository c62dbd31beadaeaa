/**
 * An action whose code is loaded when it runs. What `--help` and `health` need is little, and the client of the bus,
 * the sinks and the logger take longer to load than all of that.
 */
export function loaded<Given extends unknown[]>(
  load: () => Promise<{ readonly default: (...given: Given) => Promise<void> }>,
): (...given: Given) => Promise<void> {
  return async (...given) => {
    const { default: work } = await load();
    await work(...given);
  };
}
