/** The commands as a person at a shell meets them: help, typing errors, completions. */

import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { afterAll, beforeAll, describe, expect, it, test } from 'vitest';
import { MAIN } from '../../src/base/own-program.ts';
import { createProgram } from '../../src/commands/program.ts';
import { temporaryFolder } from '../../src/servers/server-process.ts';
import { LIMIT_MS } from '../limits.ts';

function called(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, ...args], { encoding: 'utf8' });
  return { status, stdout, stderr };
}

function all(command: Command): Command[] {
  return [command, ...command.commands.flatMap(all)];
}

describe('the help', () => {
  const commands = all(createProgram());
  const helps = commands.map((command) => [command.name(), command.helpInformation()] as const);

  it.each(helps)('of %s has all its parts', (_, help) => {
    for (const part of ['Usage: ', 'Options:', 'Examples:', 'Exit status:', '\n  0 '])
      expect(help).toContain(part);
    // Defaults that say nothing.
    expect(help).not.toMatch(/default: (\[\]|undefined|Infinity)/);
    expect(help.split('\n').filter((line) => line.length > 80 && !/^ {2,3}/.test(line))).toEqual([]);
  });

  it('has examples that the commands would accept', () => {
    for (const command of commands) {
      for (const [, line] of command.helpInformation().matchAll(/^ {2}(?:\S+=\S+ )*metrics-fanout (.*)$/gm)) {
        const words = [...line!.matchAll(/'([^']*)'|(\S+)/g)].map((match) => match[1] ?? match[2]!);
        const [name, ...subs] = words;
        let asked = createProgram().commands.find((one) => one.name() === name);
        expect(asked, line).toBeDefined();
        for (const sub of subs) asked = asked!.commands.find((one) => one.name() === sub) ?? asked;
        const flags = asked!.options.map(({ long }) => long);
        const given = words.filter((word) => word.startsWith('--'));
        expect(
          given.filter((flag) => !flags.includes(flag)),
          line,
        ).toEqual([]);
      }
    }
  });

  it('is the same when the program prints it', () => {
    expect(called('count', '--help')).toEqual({
      status: 0,
      stdout: commands.find((command) => command.name() === 'count')!.helpInformation(),
      stderr: '',
    });
  });
});

test.each([
  [['chekc', '--json'], "error: unknown command 'chekc'\n(Did you mean check?)\n"],
  [['ctl', 'puase', 'x'], "error: unknown command 'puase'\n(Did you mean pause?)\n"],
  [['check', '--jsn'], "error: unknown option '--jsn'\n(Did you mean --json?)\n"],
  [['completion', 'tcsh'], expect.stringContaining('Allowed choices are bash, zsh, fish.')],
])('%j: the error says what was probably meant', (args, stderr) => {
  expect(called(...args)).toEqual({ status: 1, stdout: '', stderr });
});

test('a variable that is not a setting is reported next to the output', () => {
  const env = { ...process.env, METRICS_STRAEM: 'x' };
  const { status, stderr } = spawnSync(process.execPath, [MAIN, 'config'], { encoding: 'utf8', env });
  expect(stderr).toBe('metrics-fanout: METRICS_STRAEM is not a setting: did you mean METRICS_STREAM?\n');
  expect(status).toBe(0);
});

describe('the completion', () => {
  const folder = temporaryFolder('completion');
  const file = (shell: string) =>
    join(folder.path, shell === 'zsh' ? '_metrics-fanout' : `metrics-fanout.${shell}`);
  beforeAll(() => {
    for (const shell of ['bash', 'zsh', 'fish'])
      writeFileSync(file(shell), called('completion', shell).stdout);
    mkdirSync(join(folder.path, 'house'));
  });
  afterAll(() => folder.remove());
  const run = (program: string, args: string[], input = '') =>
    execFileSync(program, args, {
      encoding: 'utf8',
      input,
      // A shell may wait for an answer that does not come.
      timeout: LIMIT_MS,
      cwd: folder.path,
      env: { ...process.env, HOME: folder.path },
    });

  const cases = [
    ['metrics-fanout co', ['compare', 'completion', 'config', 'count']],
    ['metrics-fanout ctl p', ['pause', 'profile']],
    ['metrics-fanout ctl pause r', ['redshift']],
    ['metrics-fanout top --by ', ['name', 'subject', 'type']],
    ['metrics-fanout top --by count --inter', ['--interval']],
    ['metrics-fanout load --truth ho', ['house']],
    ['metrics-fanout completion ', ['bash', 'fish', 'zsh']],
  ] as const;

  it.each(cases)('bash: %s', (line, offered) => {
    const words = line.split(' ').map((word) => `'${word}'`);
    const script = `source ${file('bash')}; compopt() { :; }
      COMP_WORDS=(${words.join(' ')}); COMP_CWORD=${words.length - 1}; _metrics_fanout
      printf '%s\\n' "\${COMPREPLY[@]}"`;
    const found = run('bash', ['-c', script]).trim().split('\n');
    expect(found.filter((word) => !/^-[hV]|^--(help|version)$/.test(word)).sort()).toEqual(offered);
  });

  it.each(cases)('fish: %s', (line, offered) => {
    const found = run('fish', ['--no-config', '-c', `source ${file('fish')}; complete -C '${line}'`]);
    const names = found.split('\n').map((row) => row.split('\t')[0]!.replace(/\/$/, ''));
    expect(names.filter((name) => name !== '').sort()).toEqual(offered);
  });

  // Types at a terminal. The answer is the rest of the one word that fits, or a list of those that do.
  it('zsh', () => {
    const answers = cases.map(
      ([line, offered]) => `ask $'${line}\\t' ${offered.map((word) => `'*${word}*'`).join(' ')}`,
    );
    const script = `
      zmodload zsh/zpty
      zpty z zsh -f -i
      await() { zpty -r z got "$1" || exit 1 }
      ask() {
        zpty -n -w z "$1"; shift
        await "\${(j::)@}"
        zpty -n -w z $'\\x15'
      }
      zpty -w z "PS1= LISTMAX=1000; cd ${folder.path}; fpath=(${folder.path} \\$fpath)"
      zpty -w z "autoload -Uz compinit; compinit -u -D; bindkey '^I' complete-word; stty cols 200; print REA''DY"
      await '*READY*'
      ${answers.join('\n      ')}
      print all answered`;
    writeFileSync(join(folder.path, 'ask.zsh'), script);
    expect(run('zsh', ['-f', 'ask.zsh'])).toBe('all answered\n');
  });
});
