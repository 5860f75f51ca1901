//! Why something is refused or warned of: named constants, fit for a condition's `reason`.

/// A value is outside its grammar or bounds.
pub const INVALID_VALUE: &str = "InvalidValue";
/// A name does not follow the rules for names.
pub const INVALID_NAME: &str = "InvalidName";
/// Two items of a list have one name.
pub const DUPLICATE_NAME: &str = "DuplicateName";
/// A list is longer than its bound.
pub const TOO_MANY: &str = "TooMany";
/// Something required is absent.
pub const MISSING: &str = "Missing";
/// A lane is named that the queue does not have.
pub const UNKNOWN_LANE: &str = "UnknownLane";
/// A pool speaks of another queue than the one it is checked against.
pub const UNKNOWN_QUEUE: &str = "UnknownQueue";
/// A job type has no handler, neither of its own nor by its lane or the defaults.
pub const MISSING_HANDLER: &str = "MissingHandler";
/// Of alternatives that exclude each other none or several are set.
pub const NOT_EXACTLY_ONE: &str = "NotExactlyOne";
/// A concurrency key without any bound, which would hold nothing back.
pub const NO_BOUND: &str = "NoBound";
/// A handler holds concurrency keys back, and a job type that uses it has none.
pub const MISSING_CONCURRENCY_KEY: &str = "MissingConcurrencyKey";
/// A job type is named that the queue does not have.
pub const UNKNOWN_JOB_TYPE: &str = "UnknownJobType";
/// A job type that tells of deaths tells of its own.
pub const ON_DEAD_CHAIN: &str = "OnDeadChain";
/// A key template, of idempotency or concurrency, cannot be read.
pub const KEY_TEMPLATE: &str = "KeyTemplate";
/// A lower bound is above its upper bound.
pub const MIN_ABOVE_MAX: &str = "MinAboveMax";
/// `replicas` is set where the scaler decides.
pub const REPLICAS_NOT_MANUAL: &str = "ReplicasNotManual";
/// A lane of a pool has a weight that its order does not look at.
pub const WEIGHT_NOT_WEIGHTED: &str = "WeightNotWeighted";
/// A name that Lanekeeper sets itself.
pub const RESERVED_NAME: &str = "ReservedName";
/// Secrets of a Redis are named without the Redis.
pub const REDIS_REFERENCE: &str = "RedisReference";

/// Warning: `giveUpAfter` ends the job before its tries are used up.
pub const GIVES_UP_EARLY: &str = "GivesUpEarly";
/// Warning: one attempt may last longer than the job may live.
pub const TIMEOUT_AFTER_GIVE_UP: &str = "TimeoutAfterGiveUp";
/// Warning: finished jobs are forgotten at once.
pub const KEEPS_NOTHING: &str = "KeepsNothing";
/// Warning: every job of the type has the same idempotency key.
pub const CONSTANT_KEY: &str = "ConstantKey";
/// Warning: a key whose newest request counts answers `duplicate` for a day after the success.
pub const KEY_KEPT: &str = "KeyKept";
/// Warning: the job of an onDead has no field that a key of its type names.
pub const NEWS_UNKEYED: &str = "NewsUnkeyed";
/// Warning: no job type uses a lane.
pub const UNUSED_LANE: &str = "UnusedLane";
/// Warning: the first delay is longer than the longest allowed, which then always holds.
pub const BACKOFF_CAPPED: &str = "BackoffCapped";
/// Warning: a worker has no second slot to keep free for a critical lane.
pub const NO_SLOT_TO_KEEP: &str = "NoSlotToKeep";
/// Warning: draining is shorter than an attempt may last.
pub const DRAINS_EARLY: &str = "DrainsEarly";
