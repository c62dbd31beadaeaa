// Before `npm start` and every other script that needs what `npm ci` installs, also a current Node.js, which runs the
// sources as they are: in a fresh clone, says what to do. So any Node.js must be able to read this file.
import { existsSync } from 'node:fs';

const NEEDED = [22, 18];
const EXIT_UNAVAILABLE = 69; // EX_UNAVAILABLE of sysexits.h
/** One that the package needs, and one for development. */
const PACKAGES = ['nats', 'commander'];

const [major, minor] = process.versions.node.split('.').map(Number);
const isCurrent = major > NEEDED[0] || (major === NEEDED[0] && minor >= NEEDED[1]);
const isThere = (name) => existsSync(new URL(`../../node_modules/${name}/package.json`, import.meta.url));
const areThere = PACKAGES.every(isThere);
const problem = areThere
  ? `this is Node.js ${process.versions.node}, and ${NEEDED.join('.')} or newer is needed`
  : 'the npm packages are not installed';
if (!isCurrent || !areThere) {
  process.stderr.write(
    `metrics-fanout: ${problem}\n` +
      '  Run npm ci first, in this folder: it installs the packages, and a current Node.js beside them.\n',
  );
  process.exitCode = EXIT_UNAVAILABLE;
}
