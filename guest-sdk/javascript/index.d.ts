// Types of what a plugin's author imports.

/** A property "region", one read as a whole number "amount:int", or what the message says of itself, "@tag". */
export type Read = string;

export interface Param {
  type?: "text" | "integer" | "number" | "boolean" | "choice";
  /** Required without one. */
  default?: string | number | boolean;
  choices?: string[];
  help?: string;
}

/** What a message has none of is undefined. */
export type Message = Record<string, any>;
export type Values = Record<string, any>;

export interface Body {
  readonly bytes: Uint8Array;
  /** What is no UTF-8 reads as U+FFFD. */
  readonly text: string;
  /** undefined = it is no JSON. */
  readonly json: any;
}

export interface Queue {
  broker: string;
  id: number;
  /** "" = unknown. */
  zone: string;
  /** Moving average of its broker's appends; 0 = unknown. */
  latencyUs: number;
  /** Requests that wait for its broker's log. */
  backlog: number;
}

export interface Member {
  id: string;
  zone: string;
  weight: number;
}

export interface OwnedQueue {
  broker: string;
  id: number;
  zone: string;
  /** Today's, the number of a member. */
  owner: number | null;
  /** Messages not yet consumed; null = unknown. */
  lag: number | null;
}

export interface Request {
  group: string;
  topic: string;
  /** Sorted by id. */
  members: Member[];
  /** Sorted by broker, then id. */
  queues: OwnedQueue[];
}

interface Described {
  /** By default those of package.json. */
  name?: string;
  version?: string;
  summary?: string;
  params?: Record<string, Param | string | number | boolean>;
}

interface Filtering<M> extends Described {
  reads?: Read[];
  /** The expression type consumers name to get this filter. */
  language?: string;
  /** Once for each consumer, before the first message; throws a Refusal. What it returns, `accept` is given. */
  compile?(expression: string, params: Values): any;
  accept(message: M, params: Values, compiled?: any): boolean;
}

export function filter(plugin: Filtering<Message>): any;
export function bodyFilter(plugin: Filtering<Message & { body: Body }>): any;
export function selector(
  plugin: Described & {
    reads?: Read[];
    /** Once for each sender; throws a Refusal. What it returns, `select` is given. */
    open?(params: Values): any;
    /** The number of a queue, counted from 0. */
    select(message: Message, queues: Queue[], params: Values, opened?: any): number;
  },
): any;
export function allocation(
  plugin: Described & {
    /** When the strategy is bound; throws a Refusal. */
    check?(params: Values): void;
    /** The number of each queue's member, counted from 0; null = nobody. */
    allocate(request: Request, params: Values): (number | null | undefined)[];
  },
): any;

export class Refusal extends Error {
  /** `at` and `length` are a place in the expression, or in the value of `param`. */
  constructor(
    reason: string,
    where?: {
      code?: "syntax" | "type-error" | "unknown-name" | "bad-param" | "unsupported" | "too-complex";
      param?: string;
      at?: number;
      length?: number;
      help?: string;
    },
  );
}

/** A line for the broker's log. */
export function log(level: "debug" | "info" | "warn" | "error", line: string): void;
/** Adds to a counter of the plugin's own; at most 16 names. */
export function count(name: string, by?: number): void;
/** `String.hashCode` of Java. */
export function hashCode(text: string): number;

/** For the build alone. */
export function exported(plugin: any, about: any, host: any): any;
