/**
 * Which versions' operands are resident, bounded by bytes. Owns who holds them: a version in use or pinned is never
 * evicted, one that is out of service goes with its last user, all others wait in an LRU.
 */
import { LRUCache } from 'lru-cache';

interface Slot {
  readonly key: string;
  readonly bytes: number;
  /** Keys of the adapters' versions in it: one, or more of a composition. */
  readonly madeOf: readonly string[];
  holds: number;
  pinned: boolean;
  /** Out of service: dropped when nobody holds it any more. */
  retired: boolean;
  resident: boolean;
}

/** Keeps one version resident until released. */
export interface Hold {
  /** False once released, or after the executor has lost everything. */
  readonly valid: boolean;
  /** Idempotent. */
  release(): void;
}

export interface HostCacheOptions {
  readonly maxBytes: number;
  /** Frees a version's operands. */
  readonly detach: (key: string) => void;
  readonly onEvicted: () => void;
  readonly onChanged: (resident: { readonly count: number; readonly bytes: number }) => void;
}

export class HostCache {
  readonly #options: HostCacheOptions;
  readonly #slots = new Map<string, Slot>();
  /** By what they are made of. */
  readonly #uses = new Map<string, Set<Slot>>();
  readonly #idle: LRUCache<string, Slot>;
  #bytes = 0;

  constructor(options: HostCacheOptions) {
    this.#options = options;
    this.#idle = new LRUCache({
      maxSize: options.maxBytes,
      sizeCalculation: ({ bytes }) => Math.max(1, bytes),
      dispose: (slot, _key, reason) => {
        if (reason !== 'evict') return;
        this.#drop(slot);
        options.onEvicted();
      },
    });
  }

  get bytes(): number {
    return this.#bytes;
  }

  get count(): number {
    return this.#slots.size;
  }

  has(key: string): boolean {
    return this.#slots.has(key);
  }

  /** Whether any resident version is made of this one. */
  isUsed(part: string): boolean {
    return this.#uses.has(part);
  }

  /**
   * Notes operands that the executor has just taken, and holds them; a retired version is back in service.
   *
   * @param madeOf what `retireUses` and `isUsed` know it by.
   */
  add(key: string, bytes: number, madeOf: readonly string[] = []): Hold {
    let slot = this.#slots.get(key);
    if (slot === undefined) {
      slot = { key, bytes, madeOf, holds: 0, pinned: false, retired: false, resident: true };
      this.#slots.set(key, slot);
      this.#bytes += bytes;
      for (const part of madeOf) {
        const uses = this.#uses.get(part);
        if (uses === undefined) this.#uses.set(part, new Set([slot]));
        else uses.add(slot);
      }
    }
    slot.retired = false;
    const hold = this.#hold(slot);
    this.#trim();
    this.#report();
    return hold;
  }

  /** Holds a resident version, or null where it is not resident. */
  hold(key: string): Hold | null {
    const slot = this.#slots.get(key);
    return slot === undefined ? null : this.#hold(slot);
  }

  /** A pinned version is not evicted. */
  pin(key: string, pinned: boolean): void {
    const slot = this.#slots.get(key);
    if (slot === undefined) return;
    slot.pinned = pinned;
    this.#settle(slot);
  }

  /** No new request will want this version. */
  retire(key: string): void {
    const slot = this.#slots.get(key);
    if (slot === undefined) return;
    slot.retired = true;
    this.#settle(slot);
  }

  /** Retires every version that is made of this one. */
  retireUses(part: string): void {
    for (const { key } of [...(this.#uses.get(part) ?? [])]) this.retire(key);
  }

  /** The executor has lost everything: nothing is resident, every hold is void. */
  clear(): void {
    for (const slot of this.#slots.values()) slot.resident = false;
    this.#slots.clear();
    this.#uses.clear();
    this.#idle.clear();
    this.#bytes = 0;
    this.#report();
  }

  #hold(slot: Slot): Hold {
    slot.holds++;
    this.#settle(slot);
    let released = false;
    return {
      get valid() {
        return !released && slot.resident;
      },
      release: () => {
        if (released) return;
        released = true;
        slot.holds--;
        this.#settle(slot);
      },
    };
  }

  /** Puts a slot where its state says: in use, dropped, or idle as the most recently used. */
  #settle(slot: Slot): void {
    if (!slot.resident) return;
    if (slot.holds > 0 || (slot.pinned && !slot.retired)) {
      this.#idle.delete(slot.key);
    } else if (slot.retired) {
      this.#idle.delete(slot.key);
      this.#drop(slot);
    } else {
      this.#idle.set(slot.key, slot);
      this.#trim();
    }
  }

  /** Evicts idle versions, least recently used first, while all resident ones together exceed the bound. */
  #trim(): void {
    while (this.#bytes > this.#options.maxBytes && this.#idle.size > 0) this.#idle.pop();
  }

  #drop(slot: Slot): void {
    slot.resident = false;
    this.#slots.delete(slot.key);
    for (const part of slot.madeOf) {
      const uses = this.#uses.get(part);
      uses?.delete(slot);
      if (uses?.size === 0) this.#uses.delete(part);
    }
    this.#bytes -= slot.bytes;
    this.#options.detach(slot.key);
    this.#report();
  }

  #report(): void {
    this.#options.onChanged({ count: this.count, bytes: this.bytes });
  }
}
