import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';

const LIMIT_MS = 120_000; // of the start, and of the stop; each takes some seconds
const HELP =
  'Set AVION_DEV_COMMAND to the command that starts the service: docs/how-to/test-against-it.md of avion-media';

/** A running service. `address` is that of gRPC, `origin` the start of the URLs of media. */
export interface Development {
  address: string;
  origin: string;
  redisUrl: string;
}

/** @ts-ignore: without Vitest there is nothing to declare */
declare module 'vitest' {
  interface ProvidedContext {
    avionMedia: Development;
  }
}

/** Run the command in AVION_DEV_COMMAND, or `avion-media dev`, on free ports. Resolves when it is ready. */
export async function development(): Promise<{ service: Development; stop: () => Promise<void> }> {
  const [program = '', ...rest] = (process.env['AVION_DEV_COMMAND'] ?? 'avion-media dev').split(' ');
  const child = spawn(program, [...rest, '--free-ports'], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(child, 'spawn').catch((error: Error) => {
    throw new Error(`${program} did not start: ${error.message}. ${HELP}`);
  });
  const ended = once(child, 'exit');
  const kill = () => child.kill('SIGKILL');
  const limit = setTimeout(kill, LIMIT_MS);
  let printed = '';
  for await (const line of createInterface({ input: child.stdout })) {
    printed += `${line}\n`;
    if (line.includes('Ctrl-C')) break;
  }
  clearTimeout(limit);
  child.stdout.resume();
  const [, origin = '', address = ''] = /origin (\S+)\s+gRPC (\S+)/.exec(printed) ?? [];
  const [, redisUrl] = /Redis (\S+)/.exec(printed) ?? [];
  const stop = async () => {
    const limit = setTimeout(kill, LIMIT_MS);
    child.kill('SIGTERM');
    await ended;
    clearTimeout(limit);
  };
  if (!redisUrl) {
    await stop();
    throw new Error(`${program} ended before it was ready. ${HELP}\n${printed}`);
  }
  return { service: { address, origin, redisUrl }, stop };
}

/** For `globalSetup` of Vitest: one service for all tests, which `inject('avionMedia')` returns. */
export default async function setup(project: { provide(key: 'avionMedia', value: Development): void }) {
  const { service, stop } = await development();
  project.provide('avionMedia', service);
  return stop;
}
