/** The logger: JSON lines for machines, or lines for people on a terminal. */
import { pino } from 'pino';
import type { Logger as Pino } from 'pino';
import pretty from 'pino-pretty';
import type { Config } from '../config.js';

export function createLogger(config: Pick<Config, 'logLevel' | 'logFormat'>): Pino {
  const isPretty = config.logFormat === 'pretty' || (config.logFormat === 'auto' && process.stdout.isTTY);
  const options = {
    level: config.logLevel,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
  };
  if (!isPretty) return pino(options);
  return pino(
    options,
    pretty({ colorize: process.stdout.isTTY, translateTime: 'SYS:HH:MM:ss.l', singleLine: true, sync: true }),
  );
}
