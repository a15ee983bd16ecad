/** Owns the reading of `parameters` objects: names to strings, numbers or booleans. Pure. */
import { PapillonError } from '../../errors.js';
import { field, isJsonObject } from './json.js';
import type { JsonObject, JsonValue } from './json.js';

type ParameterValue = string | number | bigint | boolean;

/** Parameters that are not asked for are ignored, whatever their value. */
export class Parameters {
  readonly #values: ReadonlyMap<string, ParameterValue>;
  /** What messages call it, `Input "x": parameters`. */
  readonly #where: string;

  private constructor(values: ReadonlyMap<string, ParameterValue>, where: string) {
    this.#values = values;
    this.#where = where;
  }

  /** Reads `owner.parameters`, absent or null being empty. Throws INVALID_REQUEST for values of other types. */
  static of(owner: JsonObject, where: string): Parameters {
    const object = field(owner, 'parameters') ?? null;
    if (object === null) return new Parameters(new Map(), where);
    if (!isJsonObject(object)) throw new PapillonError('INVALID_REQUEST', `${where} must be an object`);
    const values = new Map<string, ParameterValue>();
    for (const [key, value] of Object.entries<JsonValue>(object)) {
      if (value === null) continue;
      if (typeof value === 'object') {
        throw new PapillonError(
          'INVALID_REQUEST',
          `${where}.${key.slice(0, 80)} must be a string, a number or a boolean`,
        );
      }
      values.set(key, value);
    }
    return new Parameters(values, where);
  }

  has(key: string): boolean {
    return this.#values.has(key);
  }

  boolean(key: string): boolean | null {
    const value = this.#values.get(key) ?? null;
    if (value !== null && typeof value !== 'boolean') throw this.#wrong(key, 'true or false');
    return value;
  }

  text(key: string): string | null {
    const value = this.#values.get(key) ?? null;
    if (value === null) return null;
    if (typeof value !== 'string' || value === '') throw this.#wrong(key, 'a non-empty string');
    return value;
  }

  number(key: string): number | null {
    const value = this.#values.get(key) ?? null;
    if (value !== null && (typeof value !== 'number' || !Number.isFinite(value))) {
      throw this.#wrong(key, 'a number');
    }
    return value;
  }

  /** A number of bytes. */
  size(key: string): number | null {
    const value = this.#values.get(key) ?? null;
    if (value === null) return null;
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) {
      throw this.#wrong(key, 'a whole number of bytes');
    }
    return value;
  }

  /**
   * The shorter of `timeout_ms` (milliseconds) and `timeout` (microseconds, as Triton's clients send it);
   * 0 means none.
   */
  timeoutMs(): number | null {
    const limits = [this.#duration('timeout_ms', 1), this.#duration('timeout', 1000)].filter(
      (limit) => limit !== null && limit > 0,
    ) as number[];
    return limits.length === 0 ? null : Math.min(...limits);
  }

  #duration(key: string, unitsPerMs: number): number | null {
    const value = this.#values.get(key) ?? null;
    if (value === null) return null;
    if (typeof value !== 'number' || !Number.isFinite(value) || value < 0) {
      throw this.#wrong(key, 'a number from 0 up');
    }
    return value / unitsPerMs;
  }

  refuseSharedMemory(): void {
    if (!this.has('shared_memory_region')) return;
    throw new PapillonError(
      'UNSUPPORTED',
      `${this.#where}.shared_memory_region: shared memory is not offered; send the data in the body`,
    );
  }

  #wrong(key: string, expected: string): PapillonError {
    return new PapillonError('INVALID_REQUEST', `${this.#where}.${key} must be ${expected}`);
  }
}
