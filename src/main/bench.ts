/** `papillon bench`: runs the benchmarks of a source checkout. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import { ConfigError } from '../config.js';

export function benchCommand(): Command {
  return new Command('bench')
    .description('Run a benchmark (from a source checkout; `papillon bench` alone lists them).')
    .argument('[name]', 'which one')
    .allowUnknownOption()
    .allowExcessArguments()
    .helpOption(false)
    .action((_name: string | undefined, _options: unknown, command: Command) => {
      const entry = fileURLToPath(new URL('../../build/bench/main.js', import.meta.url));
      if (!existsSync(entry)) {
        throw new ConfigError('the benchmarks are not built: run `npm run build:test` in a source checkout');
      }
      const { status } = spawnSync(process.execPath, [entry, ...command.args], { stdio: 'inherit' });
      process.exitCode = status ?? 1;
    });
}
