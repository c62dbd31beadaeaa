/** Programs on the PATH, where there may be several of one name. */
import { execFileSync } from 'node:child_process';
import { accessSync, constants, realpathSync } from 'node:fs';
import { delimiter, join } from 'node:path';

/** Returns the paths of all programs of this name, in the order of the PATH; one that comes by a link is there once. */
export function programsNamed(name: string): string[] {
  const found = new Map<string, string>();
  for (const folder of (process.env.PATH ?? '').split(delimiter)) {
    const path = join(folder, name);
    try {
      accessSync(path, constants.X_OK);
      const real = realpathSync(path);
      if (!found.has(real)) found.set(real, path);
    } catch {
      // There is none in this folder.
    }
  }
  return [...found.values()];
}

/** Returns the first `influxd` of this major version; undefined if there is none. */
export function influxdOf(major: number): string | undefined {
  return programsNamed('influxd').find((path) => {
    const said = execFileSync(path, ['version'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    return Number(/\bv?(\d+)\.\d+/.exec(said)?.[1]) === major;
  });
}
