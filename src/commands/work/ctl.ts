import type { Command } from 'commander';
import { type Config, loadConfig, WITHOUT_SINKS } from '../../config/config.ts';
import type { Reply } from '../../control/client.ts';
import type { OperationName } from '../../control/request.ts';
import type { TaskReport } from '../../control/tasks.ts';
import { type Outcome, outcomesJson, outcomesText } from '../ctl-report.ts';
import { print } from '../terminal/output.ts';
import { exitCodeOf, stopSignal } from '../terminal/stop-signal.ts';
import { type Addressed, askInstances, type InstanceAsking } from './instances.ts';

export interface CtlOptions extends Addressed {
  readonly wait?: boolean;
  readonly json?: true;
}

export async function control(asking: InstanceAsking, options: CtlOptions, command: Command): Promise<void> {
  if (options.instance !== undefined && options.all)
    command.error('error: give --instance or --all, not both');
  const isAddressed = options.instance !== undefined || options.all || options.url !== undefined;
  if (!isAddressed && asking.unaddressed === 'refused')
    command.error(
      'error: say which instance: --instance <id> (ctl status shows the ids), --all or --url <url>',
    );
  const config = await loadConfig(process.env, WITHOUT_SINKS);
  const outcomes = await askAndWait(asking, options, config, stopSignal());
  const text = options.json ? outcomesJson(outcomes) : outcomesText(asking.operation, outcomes);
  const areWell = outcomes.length > 0 && outcomes.every((one) => isWell(one, asking.operation));
  await print(text, exitCodeOf(areWell ? 0 : 1));
  process.exit();
}

async function askAndWait(
  asking: InstanceAsking,
  options: CtlOptions,
  config: Config,
  stop: AbortSignal,
): Promise<Outcome[]> {
  const { way, replies } = await askInstances(asking, options, config);
  return await Promise.all(
    replies.map(async (reply): Promise<Outcome> => {
      const id = taskIdOf(reply);
      if (id === undefined || asking.operation === 'task.status' || options.wait !== true) return { reply };
      const task = await way(reply).untilEnded(reply.instance, id, stop);
      return { reply, task: task ?? 'unknown' };
    }),
  );
}

function taskIdOf({ body }: Reply): string | undefined {
  if (!body?.ok) return undefined;
  const { id, state } = body.result as Partial<TaskReport>;
  return state === undefined ? undefined : id;
}

/** Whether the instance did what was asked, and found nothing wrong. */
function isWell({ reply: { body }, task: awaited }: Outcome, operation: OperationName): boolean {
  if (!body?.ok) return false;
  const reported = operation === 'task.status' ? (body.result as TaskReport) : undefined;
  const task = reported?.state === 'running' ? undefined : (awaited ?? reported);
  if (task === undefined) return true;
  if (task === 'unknown' || task.state !== 'done' || task.error !== null) return false;
  const { equal = true, done = true } = (task.result ?? {}) as { equal?: boolean; done?: boolean };
  return equal && done;
}
